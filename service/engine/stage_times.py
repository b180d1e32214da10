"""Estimates the duration of a batch by stage and size, from past batches. Plain Python without a clock."""

_MEMORY = 0.95
"""Decay of earlier batches: about the last 20 batches count."""
_MAX_RISE = 3.0
"""Limit of one batch's duration as a multiple of its estimate, so that one slow batch does not refuse the next ones."""
_PRIOR = 0.01
"""Weight of the assumption that the cost has no fixed part; outweighed by batches of different sizes."""
_DOUBT = 0.95
"""Factor of an estimate after each refusal it causes."""


class _Line:
    """Seconds as a line over batch size, by least squares with decaying weights; coefficients are at least 0."""

    def __init__(self) -> None:
        # Decaying sums of 1, size, size^2, seconds and size * seconds.
        self._sums: tuple[float, ...] = (0.0,) * 5
        self._fixed = self._per_row = 0.0

    def add(self, size: int, seconds: float) -> None:
        news = (1.0, size, size * size, seconds, size * seconds)
        self._sums = tuple(total * _MEMORY + new for total, new in zip(self._sums, news, strict=True))
        weight, *sums = self._sums
        mean_size, mean_square, mean_seconds, mean_product = (total / weight for total in sums)
        variance = mean_square - mean_size**2
        covariance = mean_product - mean_size * mean_seconds
        proportional = mean_seconds / mean_size
        prior = _PRIOR * mean_size**2
        slope = (covariance + prior * proportional) / (variance + prior)
        self._per_row = min(max(slope, 0.0), proportional)
        self._fixed = mean_seconds - self._per_row * mean_size

    def scale(self, factor: float) -> None:
        """Multiply all observed seconds by `factor`; takes effect with the next batch."""
        *sizes, seconds, products = self._sums
        self._sums = (*sizes, factor * seconds, factor * products)

    def at(self, size: int) -> float:
        return self._fixed + self._per_row * size


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
