"""What a request asks to have classified, in whichever of the accepted forms it says so."""

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import InvalidParameterError, MalformedRequestError, TooLargeError, UndecodableImageError
from service.http.bodies import is_json, read_body, read_images
from service.http.context import Context
from service.http.problems import describe
from service.http.walk import Encoded

_T = TypeVar("_T")
_ParametersT = TypeVar("_ParametersT", bound=BaseModel)

# Above it, taking a body apart would keep the event loop from everybody else for milliseconds.
_SMALL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images of one request.

    Attributes:
        images: as they came, or why one could not even be taken out of the request.
        as_list: whether a list was given, which is answered with one.
        parameters: those inside a JSON body; None where the body is nothing but images.
    """

    images: list[Encoded]
    as_list: bool
    parameters: dict[str, Any] | None = None


async def read_inputs(request: Request, context: Context) -> Inputs:
    """The images of a request: as they are, as multipart, or in base64 inside JSON.

    Raises:
        ClientLeftError: the client left before it had sent everything.
        InvalidParameterError: no image, or something that is not one of the fields.
        MalformedRequestError: a body that cannot be taken apart.
        TooLargeError: more bytes or images than allowed.
        UnsupportedMediaError: the content type is none of the accepted ones.
    """
    settings = context.settings
    max_bytes, max_images = settings.max_body_bytes, settings.max_images_per_request
    with too_large_counted(context):
        if not is_json(request):
            images = await read_images(request, max_bytes=max_bytes, max_images=max_images)
            return Inputs([*images], as_list=len(images) > 1)
        body = await read_body(request, max_bytes=max_bytes)
        return await parsed(lambda: _parse(body, max_images), len(body), context)


async def parsed(parse: Callable[[], _T], size: int, context: Context) -> _T:
    """What `parse` makes of a body of this size, on another thread if that may take long."""
    if size <= _SMALL_BYTES:
        return parse()
    return await asyncio.get_running_loop().run_in_executor(context.decode_pool, parse)


def read_json(body: bytes, kind: type[_T]) -> _T:
    """A JSON document of this shape; a byte-order mark before it is ignored (RFC 8259, 8.1).

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
    """The bytes of an image, or why they cannot be had."""
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        return UndecodableImageError(f"the image is not base64: {error}")


def check_parameters(kind: type[_ParametersT], given: dict[str, Any]) -> _ParametersT:
    """Parameters from JSON, whose types are taken at their word; null says as much as its absence.

    Raises:
        InvalidParameterError: naming every parameter that is unknown or has no such value.
    """
    try:
        return kind.model_validate(without_nulls(given), strict=True)
    except ValidationError as error:
        raise InvalidParameterError(describe(error.errors())) from error


def without_nulls(given: dict[str, Any] | None) -> dict[str, Any]:
    """What an optional object says: many clients write null for what they leave open."""
    return {name: value for name, value in (given or {}).items() if value is not None}


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a body, with everything it refers to in its place: a description has no room beside it."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = dict(node)
        if (reference := node.pop("$ref", None)) is not None:
            node = definitions[reference.removeprefix("#/$defs/")] | node
        return {name: resolved(value) for name, value in node.items()}

    document: dict[str, Any] = resolved(schema)
    return document


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be left open by null."""
    null = {"type": "null"}
    return schema if null in schema.get("anyOf", ()) else {"anyOf": [*schema.get("anyOf", [schema]), null]}


def described_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of optional parameters, each of them optional."""
    schema = described(model)
    schema["properties"] = {name: or_null(each) for name, each in schema["properties"].items()}
    return schema


def json_body(parameters: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a JSON body with these parameters."""
    image = {"type": "string", "format": "byte", "description": "An image in base64."}
    return {
        "type": "object",
        "properties": {
            "inputs": {"anyOf": [image, {"type": "array", "items": image, "minItems": 1}]},
            "parameters": or_null(described_parameters(parameters)),
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    inputs: str | list[str]
    parameters: dict[str, Any] | None = None


def _parse(body: bytes, max_images: int) -> Inputs:
    document = read_json(body, _Document)
    parameters = document.parameters or {}
    if isinstance(document.inputs, str):
        return Inputs([read_base64(document.inputs)], as_list=False, parameters=parameters)
    check_count(len(document.inputs), max_images)
    return Inputs([read_base64(text) for text in document.inputs], as_list=True, parameters=parameters)


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
    """Count a request whose images were too large to be read as one refused image, so that the refusal is seen."""
    try:
        yield
    except TooLargeError:
        context.metrics.images_presented(1)
        context.metrics.image_rejected("too_large")
        raise
