"""From what the engine says to the answers a client reads."""

from typing import Any

from service.api.context import Context
from service.api.schemas import ClassScore, Compute, Exit, Timing, TracedStage
from service.api.walk import Walked
from service.engine.task import Answer, StagePrediction


def result_fields(walked: Walked, context: Context) -> dict[str, Any]:
    """The fields of an `ImageResult`; `trace` only when the engine was asked for one."""
    answer = walked.answer
    top = _scores(answer.prediction, context)
    fields: dict[str, Any] = {
        "label": top[0].label,
        "index": top[0].index,
        "confidence": top[0].confidence,
        "top": top,
        "exit": _exit(answer, context),
        "compute": _compute(answer, context),
        "timing_ms": Timing(
            decode=_ms(walked.decode_s),
            queue=_ms(answer.queue_s),
            compute=_ms(answer.compute_s),
            total=_ms(walked.total_s),
        ),
    }
    if answer.trace:
        fields["trace"] = [_traced(prediction, context) for prediction in answer.trace]
    return fields


def server_timing(timing: Timing) -> str:
    """The times as a `Server-Timing` header."""
    return ", ".join(f"{name};dur={value}" for name, value in timing)


def _exit(answer: Answer, context: Context) -> Exit:
    stage = answer.prediction.stage
    grid = context.manifest.architecture.grids[stage]
    return Exit(stage=stage, grid=grid, reason=answer.reason, threshold=answer.threshold)


def _compute(answer: Answer, context: Context) -> Compute:
    architecture = context.manifest.architecture
    baseline_macs = context.engine.baseline_macs
    return Compute(
        macs=answer.macs,
        baseline_macs=baseline_macs,
        fraction=round(answer.macs / baseline_macs, 6),
        tokens=sum(architecture.num_tokens(stage) for stage in range(answer.prediction.stage + 1)),
    )


def _scores(prediction: StagePrediction, context: Context) -> list[ClassScore]:
    names = context.manifest.class_names
    return [
        ClassScore(label=names[index], index=index, confidence=prob)
        for index, prob in zip(prediction.indices, prediction.probs, strict=True)
    ]


def _traced(prediction: StagePrediction, context: Context) -> TracedStage:
    best = _scores(prediction, context)[0]
    return TracedStage(
        stage=prediction.stage,
        grid=context.manifest.architecture.grids[prediction.stage],
        label=best.label,
        index=best.index,
        confidence=best.confidence,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
