"""The answer for one image, as Python objects with the names of the HTTP API."""

from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Self

from service.engine.policy import ExitReason
from service.engine.task import Answer, StagePrediction
from weights.manifest import Manifest


@dataclass(frozen=True, slots=True)
class RankedClass:
    """One class with its softmax probability."""

    label: str
    index: int
    confidence: float

    def __repr__(self) -> str:
        return f"{self.label} {self.confidence:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitTaken:
    """Where and why the image left.

    Attributes:
        threshold: the stage's threshold in force; None at the last stage.
    """

    stage: int
    grid: int
    reason: ExitReason
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the answer cost.

    Attributes:
        macs: multiply-accumulates of all stages that ran.
        baseline_macs: those of one plain ViT at the last grid.
        fraction: the first over the second.
        tokens: tokens of all stages that ran.
    """

    macs: int
    baseline_macs: int
    fraction: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAnswer:
    """The best class of one stage, and the confidence at which an image may leave there."""

    stage: int
    grid: int
    label: str
    index: int
    confidence: float
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedImage:
    """The answer for one image.

    Attributes:
        label: the most probable class; `index` and `confidence` are its own.
        top: the most probable classes, best first.
        trace: one answer of each stage that ran; empty unless asked for.
    """

    label: str
    index: int
    confidence: float
    top: tuple[RankedClass, ...]
    exit: ExitTaken
    compute: Spent
    trace: tuple[StageAnswer, ...] = ()

    @classmethod
    def of(cls, answer: Answer, thresholds: tuple[float, ...], manifest: Manifest, baseline_macs: int) -> Self:
        """The engine's answer with the model's names.

        Args:
            thresholds: those of the image's policy, one per exit but the last.
        """
        architecture, stage = manifest.architecture, answer.prediction.stage
        top = _scores(answer.prediction, manifest)

        def said(prediction: StagePrediction) -> StageAnswer:
            best, at = _scores(prediction, manifest)[0], prediction.stage
            return StageAnswer(
                stage=at,
                grid=architecture.grids[at],
                label=best.label,
                index=best.index,
                confidence=best.confidence,
                threshold=thresholds[at] if at < len(thresholds) else None,
            )

        return cls(
            label=top[0].label,
            index=top[0].index,
            confidence=top[0].confidence,
            top=top,
            exit=ExitTaken(
                stage=stage, grid=architecture.grids[stage], reason=answer.reason, threshold=answer.threshold
            ),
            compute=Spent(
                macs=answer.macs,
                baseline_macs=baseline_macs,
                fraction=round(answer.macs / baseline_macs, 6),
                tokens=sum(architecture.num_tokens(each) for each in range(stage + 1)),
            ),
            trace=tuple(said(prediction) for prediction in answer.trace),
        )

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON data, as the HTTP API writes it, without times."""
        values = asdict(self)
        if not self.trace:
            del values["trace"]
        return values

    def __repr__(self) -> str:
        grid, cost = self.exit.grid, self.compute
        return (
            f"<{self.label} {self.confidence:.3f}, left at {grid}x{grid} tokens ({self.exit.reason}), "
            f"{cost.macs / 1e6:,.1f} M MACs, {cost.fraction:.1%} of the baseline>"
        )

    def _repr_html_(self) -> str:
        """A table for notebooks: the stages as a staircase, with the confidence of each against its threshold."""
        shown = self.trace or (
            StageAnswer(
                stage=self.exit.stage,
                grid=self.exit.grid,
                label=self.label,
                index=self.index,
                confidence=self.confidence,
                threshold=self.exit.threshold,
            ),
        )
        steps = "".join(map(_step, shown))
        cost = f"{self.compute.macs / 1e6:,.1f} M MACs, {self.compute.fraction:.1%} of a plain ViT"
        return (
            f"<table><caption><b>{escape(self.label)}</b> {self.confidence:.3f}; {escape(self.exit.reason)} at "
            f"{self.exit.grid}x{self.exit.grid} tokens; {cost}</caption>"
            f"<tr><th>tokens</th><th>answer</th><th>confidence and threshold</th></tr>{steps}</table>"
        )


def _scores(prediction: StagePrediction, manifest: Manifest) -> tuple[RankedClass, ...]:
    pairs = zip(prediction.indices, prediction.probs, strict=True)
    return tuple(RankedClass(manifest.class_names[index], index, prob) for index, prob in pairs)


_WIDTH_PX, _STEP_PX = 160, 24


def _step(answer: StageAnswer) -> str:
    """A row, further to the right by stage: a bar for the confidence, a mark for the threshold."""
    mark = ""
    if answer.threshold is not None:
        at = min(answer.threshold, 1.0) * _WIDTH_PX
        mark = f'<line x1="{at:.0f}" x2="{at:.0f}" y1="0" y2="14" stroke="currentColor" stroke-width="2"/>'
    bar = f'<rect y="3" width="{answer.confidence * _WIDTH_PX:.0f}" height="8" fill="#4477aa"/>'
    picture = (
        f'<svg width="{_WIDTH_PX + 2}" height="14" role="img" aria-label="{answer.confidence:.3f}">{bar}{mark}</svg>'
    )
    return (
        f'<tr><td style="padding-left:{answer.stage * _STEP_PX}px">{answer.grid}x{answer.grid}</td>'
        f"<td>{escape(answer.label)}</td><td>{picture} {answer.confidence:.3f}</td></tr>"
    )
