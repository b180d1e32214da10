"""The service with a runner that answers at once: what HTTP, decoding and the engine's bookkeeping cost by themselves.

    python -m service.bench.instant

Reads the same settings as `dvt serve`. For measurements only.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from service.api.context import Context
from service.engine.engine import Engine
from service.engine.task import StagePrediction, Task
from service.metrics import Metrics
from service.serve import Server, assemble
from service.settings import Settings, load_settings


class InstantRunner:
    """Is sure of the first classes without looking; computes nothing and keeps nothing."""

    def __init__(self, stage_macs: tuple[int, ...], baseline_macs: int, num_classes: int) -> None:
        self.stage_macs = stage_macs
        self.baseline_macs = baseline_macs
        self._num_classes = num_classes

    def warm_up(self) -> None:
        """Nothing to prepare."""

    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Full confidence, whatever the stage and the image."""
        return [self._prediction(stage, min(task.policy.top_k, self._num_classes)) for task in tasks]

    def keep(self, rows: Sequence[int]) -> None:
        """There is nothing to keep."""

    def release(self, tasks: Sequence[Task]) -> None:
        """There is nothing to forget."""

    def _prediction(self, stage: int, top_k: int) -> StagePrediction:
        return StagePrediction(stage=stage, indices=tuple(range(top_k)), probs=(1.0,) + (0.0,) * (top_k - 1))


def instant_context(settings: Settings) -> Context:
    """The parts of `dvt serve`, with an instant runner in the place of the model.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here.
    """
    context = assemble(settings)
    real = context.engine
    runner = InstantRunner(real.stage_macs, real.baseline_macs, context.manifest.architecture.num_classes)
    metrics = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(
        runner, observer=metrics, max_inflight=settings.max_inflight, max_batch_size=settings.max_batch_size
    )
    return replace(context, engine=engine, metrics=metrics)


def main() -> int:
    """Serve until a signal; returns the process's exit code."""
    server = Server(instant_context(load_settings()))
    server.run()
    return 1 if server.failed else 0


if __name__ == "__main__":
    sys.exit(main())
