"""Reads the images of a request: raw, as multipart, or in base64 inside JSON."""

import asyncio
from base64 import b64decode
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import Request

from service.errors import InvalidParameterError, MalformedRequestError, TooLargeError, UndecodableImageError
from service.http.bodies import is_json, read_body, read_images
from service.http.context import Context
from service.http.walk import Encoded

_T = TypeVar("_T")

# Parsing a larger body would block the event loop for milliseconds.
_SMALL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images of one request.

    Attributes:
        images: encoded, or the error of an image that cannot be taken out of the request.
        as_list: whether the request has a list of images, so that the answer is a list.
        parameters: those inside a JSON body; None for other bodies.
    """

    images: list[Encoded]
    as_list: bool
    parameters: dict[str, Any] | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    inputs: str | list[str]
    parameters: dict[str, Any] | None = None


async def read_inputs(request: Request, context: Context) -> Inputs:
    """The images of a request: raw, as multipart, or in base64 inside JSON.

    Raises:
        ClientLeftError: the client closed the connection before the end of the body.
        InvalidParameterError: no image, or an unknown field.
        MalformedRequestError: a body that cannot be parsed.
        TooLargeError: more bytes or images than allowed.
        UnsupportedMediaError: the content type is not accepted.
    """
    settings = context.settings
    max_bytes, max_images = settings.max_body_bytes, settings.max_images_per_request
    with too_large_counted(context):
        if not is_json(request):
            images = await read_images(request, max_bytes=max_bytes, max_images=max_images)
            return Inputs([*images], as_list=len(images) > 1)
        body = await read_body(request, max_bytes=max_bytes)
        return await parsed(lambda: _parse(body, max_images), len(body), context)


async def parsed(parse: Callable[[], _T], num_bytes: int, context: Context) -> _T:
    """The result of `parse` for a body of this size; a large one is parsed in another thread."""
    if num_bytes <= _SMALL_BYTES:
        return parse()
    return await asyncio.get_running_loop().run_in_executor(context.decode_pool, parse)


def read_json(body: bytes, kind: type[_T]) -> _T:
    """A JSON document of this type; a byte-order mark before it is ignored (RFC 8259, 8.1).

    Raises:
        InvalidParameterError: JSON of another shape.
        MalformedRequestError: not JSON.
    """
    try:
        return msgspec.json.decode(body.removeprefix(BOM_UTF8), type=kind)
    except msgspec.ValidationError as error:
        raise InvalidParameterError(f"JSON: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(f"the body is not JSON that can be read: {error}") from error


def read_base64(text: str) -> Encoded:
    """The bytes of an image, or the error if this is not base64."""
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        return UndecodableImageError(f"the image is not base64: {error}")


def check_count(count: int, max_images: int) -> None:
    """Check the number of images in a request.

    Raises:
        InvalidParameterError: there is none.
        TooLargeError: there are more than allowed.
    """
    if count == 0:
        raise InvalidParameterError("inputs: the list holds no image")
    if count > max_images:
        raise TooLargeError(f"the request has {count} images; the limit is {max_images}")


@contextmanager
def too_large_counted(context: Context) -> Iterator[None]:
    """Count a request that is too large as one refused image; the number of its images is unknown."""
    try:
        yield
    except TooLargeError:
        context.metrics.images_presented(1)
        context.metrics.image_rejected("too_large")
        raise


def _parse(body: bytes, max_images: int) -> Inputs:
    document = read_json(body, _Document)
    parameters = document.parameters or {}
    if isinstance(document.inputs, str):
        return Inputs([read_base64(document.inputs)], as_list=False, parameters=parameters)
    check_count(len(document.inputs), max_images)
    return Inputs([read_base64(text) for text in document.inputs], as_list=True, parameters=parameters)
