"""From what the engine says to the answers a client reads."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from service.engine.task import Answer, StagePrediction
from service.http.context import Context
from service.http.schemas import ClassScore, Compute, Exit, ImageResult, Timing, TracedStage
from service.http.walk import Walked

_encode = msgspec.json.Encoder().encode


def json_response(document: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A document as an answer."""
    return Response(_encode(document), status, headers, media_type="application/json")


def image_result(walked: Walked, context: Context) -> ImageResult:
    """What is said of one image; `trace` only when the engine was asked for one."""
    answer = walked.answer
    top = scores(answer.prediction, context)
    result = ImageResult(
        label=top[0]["label"],
        index=top[0]["index"],
        confidence=top[0]["confidence"],
        top=top,
        exit=_exit(answer, context),
        compute=_compute(answer, context),
        timing_ms=Timing(
            decode=_ms(walked.decode_s),
            queue=_ms(answer.queue_s),
            compute=_ms(answer.compute_s),
            total=_ms(walked.total_s),
        ),
    )
    if answer.trace:
        result["trace"] = [_traced(prediction, walked, context) for prediction in answer.trace]
    return result


def server_timing(timing: Timing) -> str:
    """The times as a `Server-Timing` header."""
    return ", ".join(f"{name};dur={value}" for name, value in timing.items())


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


def scores(prediction: StagePrediction, context: Context) -> list[ClassScore]:
    """The classes a stage said, the best first."""
    names = context.manifest.class_names
    return [
        ClassScore(label=names[index], index=index, confidence=prob)
        for index, prob in zip(prediction.indices, prediction.probs, strict=True)
    ]


def _traced(prediction: StagePrediction, walked: Walked, context: Context) -> TracedStage:
    stage, answer = prediction.stage, walked.answer
    # Where it left, the policy's may have given way to the load.
    threshold = answer.threshold if stage == answer.prediction.stage else walked.thresholds[stage]
    grid = context.manifest.architecture.grids[stage]
    return TracedStage(stage=stage, grid=grid, threshold=threshold, **scores(prediction, context)[0])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
