"""The protocol's documents, as the API's description has them."""

from http import HTTPStatus
from typing import Any, NotRequired

from pydantic import BaseModel
from typing_extensions import TypedDict

from service.http.inputs import described_parameters, or_null
from service.http.problems import responses

JSON_LENGTH = "Inference-Header-Content-Length"


class ServerMetadata(TypedDict):
    """What speaks the protocol here."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(TypedDict):
    """The process can make progress."""

    live: bool


class ServerReady(TypedDict):
    """Requests are taken."""

    ready: bool


class ModelReady(ServerReady):
    """Requests for this model are taken."""

    name: str


class TensorMetadata(TypedDict):
    """An input or output; -1 in its shape is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """A model's input and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(TensorMetadata):
    """Values, here or behind the JSON."""

    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Any]]


class InferResponse(TypedDict):
    """The answer to a request; `id` when the request had one."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: NotRequired[str]


class Error(TypedDict):
    """What went wrong."""

    error: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of what can go wrong."""
    return {
        status: {"model": Error, **{name: value for name, value in described.items() if name != "content"}}
        for status, described in responses(*statuses).items()
    }


def infer_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`errors`, beside an answer in JSON or with binary tensors."""
    header = {"description": "Bytes of JSON before the tensors.", "required": False, "schema": {"type": "integer"}}
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {HTTPStatus.OK: {"content": binary, "headers": {JSON_LENGTH: header}}, **errors(*statuses)}


def path_parameters(*names: str) -> dict[str, Any]:
    """OpenAPI's description of a path's parameters."""
    schema = {"type": "string"}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]}


def infer_body(parameters: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a request."""
    image = {"type": "string", "format": "byte", "description": "An image in base64."}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"const": "image"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"const": "BYTES"},
            "data": {"type": "array", "items": image, "minItems": 1},
            "parameters": {"type": ["object", "null"]},
        },
        "required": ["name", "shape", "datatype", "data"],
    }
    asked = described_parameters(parameters)
    in_binary = {"type": ["boolean", "null"], "description": "Whether outputs come in binary."}
    asked["properties"]["binary_data_output"] = in_binary
    output = {
        "type": "object",
        "properties": {
            "name": {"enum": ["label", "score", "exit_stage", "macs"]},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data": {"type": ["boolean", "null"]}, "classification": {"enum": [0, None]}},
                "additionalProperties": False,
            },
        },
        "required": ["name"],
    }
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
            "parameters": or_null(asked),
            "outputs": {"type": ["array", "null"], "items": output},
        },
        "required": ["inputs"],
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {"application/json": {"schema": schema}, "application/octet-stream": binary}
    return {"requestBody": {"required": True, "content": content}}
