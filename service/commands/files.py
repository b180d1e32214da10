"""Classifies image files with the server's decoder, engine and messages in one process, without HTTP."""

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from service.engine.engine import EngineState
from service.errors import NotReadyError, ServiceError, UndecodableImageError
from service.http.answers import image_result
from service.http.context import Context
from service.http.parameters import ClassifyParameters, policy_maker
from service.http.walk import Encoded, classify_images
from service.images.lanes import MAX_LARGE
from service.replica.backend import build
from service.replica.in_process import linked
from service.settings import Settings
from weights.image_files.reduce import SUFFIXES

_POLL_S = 0.01
_STDIN = "-"


def classify_files(sources: Sequence[str], settings: Settings, thresholds: str | None) -> list[dict[str, Any]]:
    """Classify files, the images in and below folders, and standard input for `-`.

    Returns:
        For each image in order its `file` with the fields of the HTTP answer, or with an `error`, as JSON data.

    Raises:
        InvalidParameterError: the thresholds do not fit the model.
        ModelFormatError: the model cannot be used.
        NotReadyError: the engine did not get ready.
        SettingsError: the device does not exist here.
    """
    files = expanded(sources)
    # Thresholds do not give way to load here, and the configuration of a server is another one.
    changes = {
        "max_batch_size": min(settings.max_batch_size, len(files)),
        "shed_accuracy_drop": None,
        "config_store": SecretStr("memory"),
    }
    return asyncio.run(_classified(files, settings.model_copy(update=changes), thresholds))


async def _classified(files: Sequence[str], settings: Settings, thresholds: str | None) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    async with linked(build(settings), settings) as context:
        make_policy = policy_maker(ClassifyParameters(thresholds=thresholds), context, deadline=None)
        # Encoded images of a group are in memory at once, and all of them may be large ones.
        group_size = min(settings.max_inflight, MAX_LARGE)
        # One byte over the limit is enough for the decoder to refuse a file.
        max_bytes = context.decoder.max_bytes + 1
        await context.engine.start()
        try:
            await _ready(context)
            for start in range(0, len(files), group_size):
                group = files[start : start + group_size]
                outcomes = await classify_images(context, [read(file, max_bytes) for file in group], make_policy)
                for file, outcome in zip(group, outcomes.images, strict=True):
                    if isinstance(outcome, ServiceError):
                        results.append({"file": shown(file), "error": str(outcome)})
                    else:
                        results.append({"file": shown(file), **image_result(outcome, context)})
        finally:
            await context.engine.close()
            context.lanes.shutdown()
    return results


async def _ready(context: Context) -> None:
    while context.engine.state is EngineState.STARTING:  # noqa: ASYNC110 - it knows no event to wait for
        await asyncio.sleep(_POLL_S)
    if not context.ready:
        raise NotReadyError(f"the engine is {context.state}; the log says why")


def expanded(sources: Iterable[str]) -> list[str]:
    """The sources, each folder replaced by the images in and below it in order of their names.

    A folder that has no image or cannot be listed stays, so that `read` reports the reason.
    """
    return [file for source in sources for file in (_images_below(source) if os.path.isdir(source) else [source])]


def _images_below(folder: str) -> list[str]:
    found: list[str] = []
    refused: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = (name for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."))
        found += sorted(os.path.join(place, name) for name in images)
    return [*found, *(error.filename for error in refused)] or [folder]


def read(file: str, max_bytes: int) -> Encoded:
    """At most the first `max_bytes` of a file, or of standard input for `-`; an error if it cannot be read."""
    try:
        if file == _STDIN:
            return sys.stdin.buffer.read(max_bytes)
        if os.path.isdir(file):
            os.scandir(file).close()
            return UndecodableImageError(f"the folder holds no image ({', '.join(sorted(SUFFIXES))})")
        with open(file, "rb") as opened:
            return opened.read(max_bytes)
    except OSError as error:
        return UndecodableImageError(f"the file cannot be read: {error.strerror}")


def shown(file: str) -> str:
    """The file's name with bytes escaped that are not UTF-8."""
    return os.fsencode(file).decode(errors="backslashreplace")
