"""The service with a runner that computes nothing, to measure HTTP, decoding and the engine's bookkeeping.

    python -m service.capacity.instant

Reads the same settings as `dvt serve`. For measurements only.
"""

import sys
from collections.abc import Sequence

from models.macs import baseline_macs, stage_macs
from service.engine.task import StagePrediction, Task
from service.http.listener import bind
from service.replica.backend import Backend, around, store_of
from service.replica.engine_process import Replica
from service.settings import Settings, load_settings
from weights.store import load


class InstantRunner:
    """Returns full confidence for the first classes; computes nothing and keeps nothing."""

    def __init__(self, stage_macs: tuple[int, ...], baseline_macs: int, num_classes: int) -> None:
        self.stage_macs = stage_macs
        self.baseline_macs = baseline_macs
        self.dtype = "float32"
        self._num_classes = num_classes

    def warm_up(self) -> None:
        """Nothing to prepare."""

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Full confidence for every stage and image."""
        return [self._prediction(stage, min(task.policy.top_k, self._num_classes)) for task in tasks]

    def keep(self, rows: Sequence[int]) -> None:
        """There is nothing to keep."""

    def release(self, tasks: Sequence[Task]) -> None:
        """There is nothing to forget."""

    def _prediction(self, stage: int, top_k: int) -> StagePrediction:
        return StagePrediction(stage=stage, indices=tuple(range(top_k)), probs=(1.0,) + (0.0,) * (top_k - 1))


def instant_backend(settings: Settings) -> Backend:
    """The backend of `dvt serve` with an `InstantRunner`.

    Raises:
        ModelFormatError: the model cannot be used.
    """
    model = load(settings.model)
    config = model.manifest.architecture
    totals = tuple(stage.total for stage in stage_macs(config))
    return around(
        InstantRunner(totals, baseline_macs(config), config.num_classes),
        model,
        settings,
        store_of(settings, model.manifest),
    )


def main() -> int:
    """Serve until a signal; returns the process's exit code."""
    settings = load_settings()
    return Replica(instant_backend(settings), settings, bind(settings)).run()


if __name__ == "__main__":
    sys.exit(main())
