"""Limits of the batch size of each stage, adapted to the memory."""

_BATCHES_BEFORE_GROWTH = 100


class BatchLimits:
    """One limit per stage, at most `max_batch_size`: halved when memory runs out, doubled after 100 full batches."""

    def __init__(self, num_stages: int, max_batch_size: int) -> None:
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, got {max_batch_size}")
        self._most = [max_batch_size] * num_stages
        self._limits = [max_batch_size] * num_stages
        self._full_batches = [0] * num_stages

    def __getitem__(self, stage: int) -> int:
        return self._limits[stage]

    def cap(self, stage: int, size: int) -> None:
        """Never run a larger batch of this stage."""
        self._most[stage] = min(self._most[stage], size)
        self._limits[stage] = min(self._limits[stage], size)

    def out_of_memory(self, stage: int, size: int) -> None:
        """A batch of this size did not fit."""
        self._limits[stage] = max(1, min(self._limits[stage], size // 2))
        self._full_batches[stage] = 0

    def fitted(self, stage: int, size: int) -> None:
        """A batch of this size ran."""
        if size < self._limits[stage] or size >= self._most[stage]:
            return
        self._full_batches[stage] += 1
        if self._full_batches[stage] >= _BATCHES_BEFORE_GROWTH:
            self._limits[stage] = min(2 * self._limits[stage], self._most[stage])
            self._full_batches[stage] = 0
