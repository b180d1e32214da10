"""The protocol's documents for the OpenAPI description."""

from http import HTTPStatus
from typing import Any, NotRequired

from pydantic import BaseModel
from typing_extensions import TypedDict

from service.http.description import BINARY, IMAGE, or_null, parameters_schema
from service.http.oip.messages import BYTES, INPUT, OUTPUTS
from service.http.problems import responses

JSON_LENGTH = "Inference-Header-Content-Length"

_OBJECT_OR_NULL = {"type": ["object", "null"]}
_BOOLEAN_OR_NULL = {"type": ["boolean", "null"]}


class ServerMetadata(TypedDict):
    """The server and its protocol extensions."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(TypedDict):
    """The process makes progress."""

    live: bool


class ServerReady(TypedDict):
    """The replica accepts requests."""

    ready: bool


class ModelReady(ServerReady):
    """The model accepts requests."""

    name: str


class TensorMetadata(TypedDict):
    """An input or output; -1 in its shape stands for any number."""

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
    """An output; its values are in `data`, or after the JSON."""

    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Any]]


class InferResponse(TypedDict):
    """The answer to a request; `id` is the request's, if it has one."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: NotRequired[str]


class Error(TypedDict):
    """The protocol's error document."""

    error: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors with these statuses."""
    return {
        status: {"model": Error, **{name: value for name, value in described.items() if name != "content"}}
        for status, described in responses(*statuses).items()
    }


def infer_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of an answer, in JSON or with binary tensors, and of the errors with these statuses."""
    header = {"description": "Bytes of JSON before the tensors.", "required": False, "schema": {"type": "integer"}}
    ok = {"content": {"application/octet-stream": BINARY}, "headers": {JSON_LENGTH: header}}
    return {HTTPStatus.OK: ok, **errors(*statuses)}


def path_parameters(*names: str) -> dict[str, Any]:
    """OpenAPI's description of a path's parameters."""
    schema = {"type": "string"}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]}


def infer_body(parameters: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a request with these parameters."""
    tensor = {
        "type": "object",
        "properties": {
            "name": {"const": INPUT},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"const": BYTES},
            "data": {"type": "array", "items": IMAGE, "minItems": 1},
            "parameters": _OBJECT_OR_NULL,
        },
        "required": ["name", "shape", "datatype", "data"],
    }
    of_output = {
        "properties": {"binary_data": _BOOLEAN_OR_NULL, "classification": {"enum": [0, None]}},
        "additionalProperties": False,
    }
    output = {
        "type": "object",
        "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": {**_OBJECT_OR_NULL, **of_output}},
        "required": ["name"],
    }
    asked = parameters_schema(parameters)
    asked["properties"]["binary_data_output"] = {**_BOOLEAN_OR_NULL, "description": "Whether outputs are binary."}
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
    content = {"application/json": {"schema": schema}, "application/octet-stream": BINARY}
    return {"requestBody": {"required": True, "content": content}}
