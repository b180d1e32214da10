"""How long a stage takes for a batch size, learnt from the batches that ran. Plain Python, no clock of its own."""

from dataclasses import dataclass

_MEMORY = 0.95
"""Weight of what is known against one more batch: about the last 20 batches count."""
_MAX_RISE = 3.0
"""One batch counts as at most this multiple of its estimate, so that a hiccup does not refuse the next ones."""
_PRIOR = 0.01
"""How strongly a cost without a fixed part is assumed, until batches of different sizes have shown otherwise."""
_DOUBT = 0.95
"""What is left of an estimate after a refusal on its account."""


@dataclass(slots=True)
class _Line:
    """Seconds over images, fitted by least squares with fading weights; both coefficients at least 0."""

    weight: float = 0.0
    size: float = 0.0
    size_size: float = 0.0
    seconds: float = 0.0
    size_seconds: float = 0.0
    fixed: float = 0.0
    per_row: float = 0.0

    def add(self, size: int, seconds: float) -> None:
        self.weight = self.weight * _MEMORY + 1.0
        self.size = self.size * _MEMORY + size
        self.size_size = self.size_size * _MEMORY + size * size
        self.seconds = self.seconds * _MEMORY + seconds
        self.size_seconds = self.size_seconds * _MEMORY + size * seconds
        mean_size, mean_seconds = self.size / self.weight, self.seconds / self.weight
        variance = self.size_size / self.weight - mean_size**2
        covariance = self.size_seconds / self.weight - mean_size * mean_seconds
        proportional = mean_seconds / mean_size
        prior = _PRIOR * mean_size**2
        slope = (covariance + prior * proportional) / (variance + prior)
        self.per_row = min(max(slope, 0.0), proportional)
        self.fixed = mean_seconds - self.per_row * mean_size

    def scale(self, factor: float) -> None:
        """Have learnt `factor` times the seconds."""
        self.seconds *= factor
        self.size_seconds *= factor
        self.fixed *= factor
        self.per_row *= factor

    def at(self, size: int) -> float:
        return self.fixed + self.per_row * size


class StageTimes:
    """A fixed and a per-image cost for each stage, from batches that ran.

    An estimate that is too high could refuse a stage for ever, since what never runs is never measured. So every
    refusal on its account casts doubt on it (`doubt`) and lowers it by a twentieth, until a batch is tried again.
    If that batch beats what had been learnt, everything known of the stage is scaled down to it; if not, the old
    estimate is back in force.
    """

    def __init__(self, num_stages: int) -> None:
        self._lines = [_Line() for _ in range(num_stages)]
        self._trust = [1.0] * num_stages

    def estimate(self, stage: int, size: int) -> float:
        """Seconds a batch of `size` images takes; 0 while nothing is known."""
        return self._trust[stage] * self._lines[stage].at(size)

    def observe(self, stage: int, size: int, seconds: float) -> None:
        """Learn from a batch that ran."""
        line = self._lines[stage]
        expected = line.at(size)
        if self._trust[stage] < 1.0 and seconds < expected:
            line.scale(seconds / expected)
        elif expected > 0:
            seconds = min(seconds, _MAX_RISE * expected)
        self._trust[stage] = 1.0
        line.add(size, seconds)

    def doubt(self, stage: int) -> None:
        """Someone was refused because this stage is expected to take too long."""
        self._trust[stage] *= _DOUBT
