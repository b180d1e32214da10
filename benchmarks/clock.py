"""Time and MACs saved by early exit: accuracy over mean MACs and over milliseconds.

    python benchmarks/clock.py MODEL EVALUATION [--static FOLDER]… [--batch-size 32] [--rounds 9] [--threads 1]

EVALUATION is the folder that `dvt evaluate MODEL DATA --static FOLDER … --out EVALUATION` wrote; `clock.json` and
`accuracy_ms.png` are written into it. In every round the engine's runner runs each stage of the cascade, the static
models, and each stage as a plain ViT alone. A stage's time goes from pixels or kept reuse state to confidences on the
host, divided by the images of a full batch. An operating point's time is the sum over the stages of the share of images
that reach a stage, times the stage's time.

Each single-stage model is compared with the evaluated operating point that has the fewest MACs among those at least as
accurate. A stage alone is a plain ViT with its grid and look. It is assigned the accuracy of its exit in the
cascade, although that exit also reuses the results of earlier stages.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from clock_report import ALONE, ENOUGH, plot, print_figures
from rich.console import Console
from rich.progress import track

from models import Cascade
from service.capacity.machine import machine
from service.capacity.spread import Spread
from service.engine.policy import Policy
from service.engine.runner import TorchRunner
from service.engine.task import Task
from service.replica.backend import resolve_device
from weights import StoredModel, load
from weights.calibration.calibrate import cumulative_macs

# Milliseconds per image, by model, round and stage.
Times = dict[str, list[list[float]]]


@dataclass(frozen=True, slots=True)
class Result:
    """A static model, an exit or an operating point.

    Attributes:
        name: of an operating point, how its thresholds were chosen.
        macs: for one image, on average.
        round_ms: milliseconds for one image on average, by round.
    """

    name: str
    accuracy: float
    macs: float
    round_ms: Sequence[float]

    def times_cheaper_than(self, other: "Result") -> dict[str, Any]:
        """The ratios of the costs, that of time with its spread over the rounds."""
        clock = Spread.of([theirs / own for theirs, own in zip(other.round_ms, self.round_ms, strict=True)])
        macs_ratio = other.macs / self.macs
        kept = clock.median / macs_ratio
        ratios = {"macs_ratio": macs_ratio, "ms_ratio": asdict(clock), "kept": kept, "enough": kept >= ENOUGH}
        return {"beside": self.report(), **ratios}

    def report(self) -> dict[str, Any]:
        """As JSON data."""
        ms = asdict(Spread.of(self.round_ms))
        return {"name": self.name, "accuracy": self.accuracy, "macs": self.macs, "ms": ms}


def cheapest(results: Sequence[Result], accuracy: float) -> Result | None:
    """The point with the fewest MACs among those with at least this accuracy."""
    return min((each for each in results if each.accuracy >= accuracy), key=lambda each: each.macs, default=None)


def alone(stored: StoredModel, stage: int) -> Cascade:
    """A stage as a plain ViT, with the stage's weights where both have them."""
    config = stored.manifest.architecture
    cascade = Cascade(config.plain(config.grids[stage]))
    own = cascade.state_dict()
    for name, value in stored.cascade.stages[stage].state_dict().items():
        key = f"stages.0.{name}"
        if key in own and own[key].shape == value.shape:
            own[key] = value
    cascade.load_state_dict(own)
    return cascade


def runner_of(cascade: Cascade, stored: StoredModel, batch_size: int, device: str, dtype: torch.dtype) -> TorchRunner:
    """The engine's runner, warm."""
    runner = TorchRunner(
        cascade,
        mean=stored.manifest.preprocessing.mean,
        std=stored.manifest.preprocessing.std,
        temperatures=(1.0,) * cascade.config.num_stages,
        max_batch_size=batch_size,
        capacity=batch_size,
        device=device,
        dtype=dtype,
        buckets=(batch_size,),
    )
    runner.warm_up()
    return runner


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds until the device has finished the work."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def stage_ms(runner: TorchRunner, tasks: Sequence[Task], repeats: int) -> list[float]:
    """Milliseconds per image of each stage, including the time to keep the state that it reads."""
    by_stage = []
    for stage in range(len(runner.stage_macs)):
        keeping_s = seconds_of(lambda: runner.keep(range(len(tasks)))) if stage > 0 else 0.0
        runs_s = [seconds_of(lambda stage=stage: runner.run(stage, tasks)) for _ in range(repeats)]
        by_stage.append(1e3 * (keeping_s + statistics.median(runs_s)) / len(tasks))
    runner.release(tasks)
    return by_stage


def measured(runners: dict[str, TorchRunner], images: np.ndarray, rounds: int, repeats: int) -> Times:
    """Run all models in every round; every second round in reverse order."""
    policy = Policy(thresholds=(), config_version=1, max_stage=0, top_k=1)
    tasks = [Task(task_id=row, pixels=pixels, policy=policy, submitted_at=0.0) for row, pixels in enumerate(images)]
    times: Times = {name: [] for name in runners}
    for number in track(range(rounds), "rounds", transient=True):
        for name in list(runners)[:: 1 if number % 2 == 0 else -1]:
            times[name].append(stage_ms(runners[name], tasks, repeats))
    return times


def points_of(evaluation: dict[str, Any], stage_rounds: list[list[float]]) -> list[Result]:
    """The operating points that were evaluated, and the model's default, with their times."""
    outcomes = [("default", evaluation["judgement"]["default"])]
    outcomes += [(way, point["outcome"]) for way, curve in evaluation["curves"].items() for point in curve]

    def mean_ms(exit_shares: list[float]) -> list[float]:
        reached = list(accumulate(reversed(exit_shares)))[::-1]
        return [float(np.dot(reached, stages)) for stages in stage_rounds]

    return [Result(way, each["accuracy"], each["mean_macs"], mean_ms(each["exit_shares"])) for way, each in outcomes]


def figures_of(evaluation: dict[str, Any], times: Times, runners: dict[str, TorchRunner]) -> dict[str, Any]:
    """The figures that are written, without the description of the measurement."""
    cascade, *_ = times
    exit_accuracy = evaluation["judgement"]["exit_accuracy"]
    accuracies = dict(zip((name for name in times if name.endswith(ALONE)), exit_accuracy, strict=True))
    accuracies |= {static["name"]: static["accuracy"] for static in evaluation["statics"]}

    points = points_of(evaluation, times[cascade])
    singles = [
        Result(name, accuracies[name], runners[name].stage_macs[0], [stages[0] for stages in times[name]])
        for name in times
        if name != cascade
    ]
    exits = [each for each in singles if each.name.endswith(ALONE)]
    rivals = []
    for each in singles:
        point, exit_alone = cheapest(points, each.accuracy), cheapest(exits, each.accuracy)
        found = {} if point is None else point.times_cheaper_than(each)
        beside = {} if exit_alone is None else {"exit_alone": exit_alone.times_cheaper_than(each)}
        rivals.append({**each.report(), **found, **beside})
    walks = []
    for stage, macs in enumerate(runners[cascade].stage_macs):
        walk_ms = [sum(stages[: stage + 1]) for stages in times[cascade]]
        walk = Result(f"exit {stage}", exit_accuracy[stage], evaluation["walk_macs"][stage], walk_ms)
        own_ms = asdict(Spread.of([stages[stage] for stages in times[cascade]]))
        walks.append({**walk.report(), "stage": {"macs": macs, "ms": own_ms}})
    return {
        "model": cascade,
        "images": evaluation["num_images"],
        "exits": walks,
        "rivals": rivals,
        "best_exit": max(exits, key=lambda each: (each.accuracy, -each.macs)).name,
        "points": [point.report() for point in points],
    }


def read_evaluation(path: Path, stored: StoredModel, statics: Sequence[StoredModel]) -> dict[str, Any]:
    """Read the result of `dvt evaluate`.

    Raises:
        typer.BadParameter: when it is about other models.
    """
    evaluation: dict[str, Any] = json.loads((path / "evaluation.json").read_text())
    walk = list(cumulative_macs(stored.manifest.architecture))
    if evaluation["walk_macs"] != walk:
        raise typer.BadParameter(f"{path} tells of walks of {evaluation['walk_macs']} MACs, the model's have {walk}")
    unknown = {static.manifest.name for static in statics} - {static["name"] for static in evaluation["statics"]}
    if unknown:
        raise typer.BadParameter(f"{path} does not tell of {', '.join(sorted(unknown))}")
    return evaluation


@torch.inference_mode()
def main(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or a model folder.")],
    evaluation: Annotated[Path, typer.Argument(help="The folder that `dvt evaluate` wrote.")],
    static: Annotated[list[Path] | None, typer.Option(help="A static model of the evaluation; repeatable.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    rounds: Annotated[int, typer.Option(min=7)] = 9,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of a stage in a round; their median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "cpu",
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Instead of float32.")] = False,
) -> None:
    """Measure, print and draw."""
    torch.set_num_threads(threads)
    device, stored, statics = resolve_device(device), load(model), [load(each) for each in static or []]
    judged = read_evaluation(evaluation, stored, statics)
    config, dtype = stored.manifest.architecture, torch.bfloat16 if bfloat16 else torch.float32
    cascades = {each.manifest.name: each.cascade for each in (stored, *statics)}
    cascades |= {f"{grid}x{grid}{ALONE}": alone(stored, stage) for stage, grid in enumerate(config.grids)}
    runners = {name: runner_of(each, stored, batch_size, device, dtype) for name, each in cascades.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, 3, *2 * (config.image_size,)), dtype=np.uint8)
    figures = figures_of(judged, measured(runners, pixels, rounds, repeats), runners) | {
        "batch_size": batch_size,
        "rounds": rounds,
        "machine": machine(device),
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
        "date": datetime.now(UTC).date().isoformat(),
    }
    (evaluation / "clock.json").write_text(json.dumps(figures, indent=1) + "\n")
    plot(figures, evaluation / "accuracy_ms.png")
    print_figures(figures, Console(width=140))


if __name__ == "__main__":
    typer.run(main)
