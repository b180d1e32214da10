"""Converts the engine's answers to the documents that clients read."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from service.engine.task import StagePrediction
from service.http.context import Context
from service.http.schemas import ClassScore, Compute, Exit, ImageResult, Timing, TracedStage
from service.http.walk import Walked

_encode = msgspec.json.Encoder().encode


def json_response(document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON document."""
    return Response(_encode(document), headers=headers, media_type="application/json")


def image_result(walked: Walked, context: Context) -> ImageResult:
    """The answer to one image; it has a `trace` only if the engine's answer has one."""
    answer, architecture, baseline_macs = walked.answer, context.manifest.architecture, context.engine.baseline_macs
    stage = answer.prediction.stage
    top = scores(answer.prediction, context)
    result = ImageResult(
        label=top[0]["label"],
        index=top[0]["index"],
        confidence=top[0]["confidence"],
        top=top,
        exit=Exit(stage=stage, grid=architecture.grids[stage], reason=answer.reason, threshold=answer.threshold),
        compute=Compute(
            macs=answer.macs,
            baseline_macs=baseline_macs,
            fraction=round(answer.macs / baseline_macs, 6),
            tokens=sum(architecture.num_tokens(ran) for ran in range(stage + 1)),
        ),
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


def scores(prediction: StagePrediction, context: Context) -> list[ClassScore]:
    """The classes of a prediction, the most probable first."""
    names = context.manifest.class_names
    return [
        ClassScore(label=names[index], index=index, confidence=prob)
        for index, prob in zip(prediction.indices, prediction.probs, strict=True)
    ]


def _traced(prediction: StagePrediction, walked: Walked, context: Context) -> TracedStage:
    stage, answer = prediction.stage, walked.answer
    # At the exit, the threshold may have been lowered under load.
    threshold = answer.threshold if stage == answer.prediction.stage else walked.thresholds[stage]
    grid = context.manifest.architecture.grids[stage]
    return TracedStage(stage=stage, grid=grid, threshold=threshold, **scores(prediction, context)[0])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
