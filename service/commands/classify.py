"""`dvt classify`: the decoder, the engine and the messages of the server in one process, without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from service.commands.sources import expanded, read, shown
from service.engine.engine import EngineState
from service.errors import NotReadyError, ServiceError
from service.http.answers import image_result
from service.http.context import Context
from service.http.parameters import ClassifyParameters, policy_maker
from service.http.schemas import ImageResult
from service.http.walk import Encoded, classify_images
from service.images.lanes import MAX_LARGE
from service.replica.backend import build
from service.replica.in_process import linked
from service.settings import Settings

_POLL_S = 0.01


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
    # Thresholds do not give way to load here, and the configuration of a server is another one.
    settings = settings.model_copy(
        update={"max_batch_size": batch_size, "shed_accuracy_drop": None, "config_store": SecretStr("memory")}
    )

    async def run() -> list[FileResult]:
        return [result async for result in _classified(sources, settings, thresholds)]

    return asyncio.run(run())


async def _classified(sources: Sequence[str], settings: Settings, thresholds: str | None) -> AsyncIterator[FileResult]:
    async with linked(build(settings), settings) as context:
        make_policy = policy_maker(ClassifyParameters(thresholds=thresholds), context, deadline=None)
        # Encoded images of a group are in memory at once, and all of them may be large ones.
        group_size = min(settings.max_inflight, MAX_LARGE)
        await context.engine.start()
        try:
            await _ready(context)
            for start in range(0, len(sources), group_size):
                group = sources[start : start + group_size]
                outcomes = await classify_images(context, [_read(source, context) for source in group], make_policy)
                for source, outcome in zip(group, outcomes.images, strict=True):
                    if isinstance(outcome, ServiceError):
                        yield FileResult(name=shown(source), error=str(outcome))
                    else:
                        yield FileResult(name=shown(source), result=image_result(outcome, context))
        finally:
            await context.engine.close()
            context.lanes.shutdown()


async def _ready(context: Context) -> None:
    while context.engine.state is EngineState.STARTING:  # noqa: ASYNC110 - it knows no event to wait for
        await asyncio.sleep(_POLL_S)
    if not context.ready:
        raise NotReadyError(f"the engine is {context.state}; the log says why")


def _read(source: str, context: Context) -> Encoded:
    try:
        # One byte over the limit is enough for the decoder to refuse it.
        return read(source, context.decoder.max_bytes + 1)
    except ServiceError as error:
        return error
