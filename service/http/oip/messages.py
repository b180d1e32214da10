"""Requests and answers of the protocol, in JSON and with the binary tensor extension.

With the extension, a body is JSON followed by the bytes of its tensors; a header has the length of the JSON. The bytes
of a BYTES tensor are, for each element, its length in four bytes (little-endian) and the element. A raw request has no
JSON, and its body is the only element.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from struct import Struct
from typing import Any

import msgspec
import numpy as np

from service.errors import InvalidParameterError, MalformedRequestError
from service.http.inputs import check_count, read_base64, read_json
from service.http.parameters import without_nulls
from service.http.walk import Encoded

INPUT = "image"
BYTES = "BYTES"

OUTPUTS = {"label": BYTES, "score": "FP32", "exit_stage": "INT32", "macs": "INT64"}
"""The outputs with their datatypes."""

_DTYPES = {"FP32": "<f4", "INT32": "<i4", "INT64": "<i8"}
_LENGTH = Struct("<I")
_SHOWN_CHARACTERS = 100


class Tensor(msgspec.Struct):
    """An input in the JSON of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class Wanted(msgspec.Struct):
    """A requested output."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Wanted] | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """A parsed request.

    Attributes:
        id: the request's; empty if it has none.
        outputs: the names of the requested outputs, in order, and whether each is binary.
        parameters: those of the request that are not null, without `binary_data_output`.
    """

    id: str
    images: list[Encoded]
    outputs: dict[str, bool]
    parameters: dict[str, Any]


def parse(body: bytes, header_length: str | None, max_images: int) -> Inference:
    """Parse a request.

    Args:
        header_length: `Inference-Header-Content-Length`, the bytes of JSON; None if the whole body is JSON, "0" for one
            raw image, whose answer is binary.

    Raises:
        InvalidParameterError: not one input tensor of images, an unknown output, or no image.
        MalformedRequestError: not JSON, or lengths that are inconsistent.
        TooLargeError: more images than allowed.
    """
    json_bytes = len(body) if header_length is None else _json_bytes(header_length, len(body))
    if not json_bytes and header_length is not None:
        return Inference(id="", images=[body], outputs=dict.fromkeys(OUTPUTS, True), parameters={})
    request = read_json(body[:json_bytes], InferRequest)
    if len(request.inputs) != 1:
        raise InvalidParameterError(f"expected one input, {INPUT!r}, got {len(request.inputs)}")
    (tensor,) = request.inputs
    parameters = without_nulls(request.parameters)
    binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    return Inference(
        id=request.id or "",
        images=_images(tensor, memoryview(body)[json_bytes:], max_images),
        outputs=_wanted(request.outputs, binary),
        parameters=parameters,
    )


def render(inference: Inference, model: str, version: str, values: dict[str, list[Any]]) -> tuple[bytes, int | None]:
    """The answer's body, and the bytes of JSON in it if binary tensors follow."""
    outputs: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    for name, binary in inference.outputs.items():
        datatype = OUTPUTS[name]
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(values[name])]}
        if binary:
            tensors.append(_binary(values[name], datatype))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = values[name]
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if inference.id:
        document["id"] = inference.id
    header = msgspec.json.encode(document)
    return b"".join((header, *tensors)), len(header) if tensors else None


def _binary(values: list[Any], datatype: str) -> bytes:
    if datatype != BYTES:
        return np.array(values, _DTYPES[datatype]).tobytes()
    return b"".join(_LENGTH.pack(len(text)) + text for text in map(str.encode, values))


def _json_bytes(header_length: str, body_bytes: int) -> int:
    if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 19):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length is no number of bytes: {header_length[:_SHOWN_CHARACTERS]!r}"
        )
    if int(header_length) > body_bytes:
        raise MalformedRequestError(
            f"Inference-Header-Content-Length is {header_length}, more than the body's {body_bytes} bytes"
        )
    return int(header_length)


def _images(tensor: Tensor, rest: memoryview, max_images: int) -> list[Encoded]:
    if (tensor.name, tensor.datatype) != (INPUT, BYTES):
        got = f"{tensor.name[:_SHOWN_CHARACTERS]!r} of {tensor.datatype[:_SHOWN_CHARACTERS]}"
        raise InvalidParameterError(f"expected the input {INPUT!r} of {BYTES}, got {got}")
    if not 1 <= len(tensor.shape) <= 2 or any(size < 0 for size in tensor.shape) or tensor.shape[1:] not in ([], [1]):
        raise InvalidParameterError(f"the shape of {INPUT!r} must be [n] or [n, 1], got {tensor.shape[:5]}")
    count = prod(tensor.shape)
    check_count(count, max_images)
    size = without_nulls(tensor.parameters).get("binary_data_size")
    if size is None:
        if rest:
            raise MalformedRequestError(f"{len(rest)} bytes after the JSON that no input has as its binary_data_size")
        return [*map(read_base64, _strings(tensor.data, count))]
    if size != len(rest) or isinstance(size, bool):
        raise MalformedRequestError(f"binary_data_size of {INPUT!r} is {size!r}, and {len(rest)} bytes follow the JSON")
    images: list[Encoded] = list(_elements(rest))
    _check_elements(len(images), count)
    return images


def _strings(data: list[Any] | None, count: int) -> list[str]:
    # The data of shape [n, 1] may be nested lists.
    flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in data or ()]
    _check_elements(len(flat), count)
    for index, item in enumerate(flat):
        if not isinstance(item, str):
            got = repr(item)[:_SHOWN_CHARACTERS]
            raise InvalidParameterError(f"{INPUT}[{index}]: the data must be images in base64, got {got}")
    return flat


def _elements(rest: memoryview) -> Iterator[bytes]:
    position = index = 0
    while position < len(rest):
        start = position + _LENGTH.size
        if start > len(rest):
            raise MalformedRequestError(f"{INPUT}[{index}]: the binary data ends inside the length of this element")
        (length,) = _LENGTH.unpack_from(rest, position)
        position = start + length
        if position > len(rest):
            raise MalformedRequestError(
                f"{INPUT}[{index}]: this element says it has {length} bytes, {len(rest) - start} are left"
            )
        yield bytes(rest[start:position])
        index += 1


def _check_elements(found: int, count: int) -> None:
    if found != count:
        raise InvalidParameterError(f"the shape of {INPUT!r} says {count} elements, its data has {found}")


def _wanted(outputs: list[Wanted] | None, binary: bool) -> dict[str, bool]:
    if not outputs:
        return dict.fromkeys(OUTPUTS, binary)
    wanted: dict[str, bool] = {}
    for output in outputs:
        if output.name not in OUTPUTS:
            raise InvalidParameterError(
                f"there is no output {output.name[:_SHOWN_CHARACTERS]!r}; there are {', '.join(OUTPUTS)}"
            )
        parameters = without_nulls(output.parameters)
        wanted[output.name] = _flag(parameters.pop("binary_data", binary), "binary_data")
        # Triton's client sends `classification: 0` if it does not use that extension.
        if unknown := [name for name, value in parameters.items() if (name, value) != ("classification", 0)]:
            raise InvalidParameterError(f"output {output.name}: unknown parameter {unknown[0][:_SHOWN_CHARACTERS]!r}")
    return wanted


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidParameterError(f"{name} must be true or false, got {repr(value)[:_SHOWN_CHARACTERS]}")
