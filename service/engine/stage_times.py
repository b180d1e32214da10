"""Estimates the duration of a batch by stage and size, from past batches. Plain Python without a clock."""

from dataclasses import dataclass

_MEMORY = 0.95
"""Decay of earlier batches: about the last 20 batches count."""
_MAX_RISE = 3.0
"""Limit of one batch's duration as a multiple of its estimate, so that one slow batch does not refuse the next ones."""
_PRIOR = 0.01
"""Weight of the assumption that the cost has no fixed part; outweighed by batches of different sizes."""
_DOUBT = 0.95
"""Factor of an estimate after each refusal it causes."""


@dataclass(slots=True)
class _Line:
    """Seconds as a line over batch size, by least squares with decaying weights; coefficients are at least 0."""

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
        """Multiply all observed seconds by `factor`."""
        self.seconds *= factor
        self.size_seconds *= factor
        self.fixed *= factor
        self.per_row *= factor

    def at(self, size: int) -> float:
        return self.fixed + self.per_row * size


class StageTimes:
    """A fixed and a per-image cost for each stage, from past batches.

    An estimate that is too high could block a stage forever, because a stage that never runs is never measured. So
    every refusal lowers the estimate by a twentieth (`doubt`) until a batch runs again. If that batch is faster than
    the old estimate, the estimate is scaled down to it; otherwise the old estimate is restored.
    """

    def __init__(self, num_stages: int) -> None:
        self._lines = [_Line() for _ in range(num_stages)]
        self._trust = [1.0] * num_stages

    def estimate(self, stage: int, size: int) -> float:
        """Expected seconds of a batch; 0 before the first observation."""
        return self._trust[stage] * self._lines[stage].at(size)

    def observe(self, stage: int, size: int, seconds: float) -> None:
        """Learn from a batch."""
        line = self._lines[stage]
        expected = line.at(size)
        if self._trust[stage] < 1.0 and seconds < expected:
            line.scale(seconds / expected)
        elif expected > 0:
            seconds = min(seconds, _MAX_RISE * expected)
        self._trust[stage] = 1.0
        line.add(size, seconds)

    def doubt(self, stage: int) -> None:
        """Lower the estimate after it caused a refusal."""
        self._trust[stage] *= _DOUBT
