"""Classify files in this process: the same engine and decoder as the server's, without HTTP."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import SecretStr

from service.commands.sources import expanded, read, shown
from service.engine.policy import Policy
from service.engine.task import Pixels
from service.errors import ServiceError
from service.http.answers import image_result
from service.http.context import Context, Submitted
from service.http.parameters import ClassifyParameters, policy_maker
from service.http.schemas import ImageResult
from service.http.walk import Walked
from service.replica.backend import build
from service.replica.one_process import context_of
from service.settings import Settings

_WARM_UP_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """One file with its answer, or the error that took its place.

    Attributes:
        name: of the file, to be shown.
    """

    name: str
    result: ImageResult | None = None
    error: str | None = None

    def report(self) -> dict[str, Any]:
        """The result as JSON data."""
        if self.result is None:
            return {"file": self.name, "error": self.error}
        return {"file": self.name, **self.result}


def classify_files(sources: Sequence[str], settings: Settings, thresholds: str | None) -> list[FileResult]:
    """Classify these files, one result each, in order; of folders all images in and below them, of `-` standard input.

    Raises:
        InvalidParameterError: the thresholds do not fit the model.
        ModelFormatError: the model cannot be used.
        NotReadyError: the engine did not get ready.
        SettingsError: the device does not exist here.
    """
    sources = expanded(sources)
    batch_size = min(settings.max_batch_size, len(sources))
    # Nobody is kept waiting here, so thresholds give way to nothing; and a server's configuration is not this one's.
    settings = settings.model_copy(
        update={"max_batch_size": batch_size, "shed_accuracy_drop": None, "config_store": SecretStr("memory")}
    )
    backend = build(settings)
    engine, context = backend.engine, context_of(backend, settings)
    parameters = ClassifyParameters(thresholds=thresholds)
    policy = policy_maker(parameters, context, timeout_s=None)(context.operating_points.current)
    engine.start()
    try:
        engine.wait_ready(_WARM_UP_TIMEOUT_S)
        remaining = iter(sources)
        results: list[FileResult] = []
        while group := list(islice(remaining, settings.max_inflight)):
            results += _classify_group(group, context, policy)
        return results
    finally:
        engine.stop(drain=False, timeout_s=_STOP_TIMEOUT_S)
        context.decode_pool.shutdown(cancel_futures=True)


def _classify_group(sources: Sequence[str], context: Context, policy: Policy) -> list[FileResult]:
    with context.engine.admit(len(sources)):
        decodings = [context.decode_pool.submit(_decode, source, context) for source in sources]
        # All are submitted before the first is waited for, so that they share batches.
        walks = [_submit(decoding, context, policy) for decoding in decodings]
        return [_result(shown(source), walk, context, policy) for source, walk in zip(sources, walks, strict=True)]


def _decode(source: str, context: Context) -> tuple[Pixels, float]:
    started_at = time.perf_counter()
    # One byte over the limit is enough for the decoder to refuse it.
    data = read(source, context.decoder.max_bytes + 1)
    return context.decoder.decode(data), time.perf_counter() - started_at


def _submit(
    decoding: Future[tuple[Pixels, float]], context: Context, policy: Policy
) -> tuple[Submitted, float] | ServiceError:
    try:
        pixels, decode_s = decoding.result()
        return context.engine.submit(pixels, policy), decode_s
    except ServiceError as error:
        return error


def _result(name: str, walk: tuple[Submitted, float] | ServiceError, context: Context, policy: Policy) -> FileResult:
    if isinstance(walk, ServiceError):
        return FileResult(name=name, error=str(walk))
    task, decode_s = walk
    try:
        answer = task.future.result()
    except ServiceError as error:
        return FileResult(name=name, error=str(error))
    total_s = decode_s + answer.queue_s + answer.compute_s
    walked = Walked(answer=answer, thresholds=policy.thresholds, decode_s=decode_s, total_s=total_s)
    return FileResult(name=name, result=image_result(walked, context))
