"""The OpenAPI description: schemas of request bodies, and the limits of the loaded model and of the settings.

The limits are added when the description is first read, since the routes are declared before the model is known.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.http.context import Context
from service.http.parameters import NUMBER

Schema = dict[str, Any]

BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
IMAGE: Schema = {"type": "string", "format": "byte", "description": "An image in base64."}


def describe(app: FastAPI, context: Context) -> Callable[[], Schema]:
    """The application's `openapi` method, with limits."""
    original = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            document = original()
            limits = _limits(context)
            for name, schema in _named(document):
                for kind, limit in limits.get(name, {}).items():
                    _apply(schema, kind, limit)
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


def body_schema(model: type[BaseModel]) -> Schema:
    """The JSON schema of a body; nested models are inlined, since `openapi_extra` has no place for definitions."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    for each in schema["properties"].values():
        if (reference := each.pop("$ref", None)) is not None:
            each.update(definitions[reference.removeprefix("#/$defs/")] | each)
    return schema


def parameters_schema(model: type[BaseModel]) -> Schema:
    """The JSON schema of parameters in a body; each may be null."""
    schema = body_schema(model)
    schema["properties"] = {name: or_null(each) for name, each in schema["properties"].items()}
    return schema


def or_null(schema: Schema) -> Schema:
    """A schema that also accepts null."""
    null = {"type": "null"}
    return schema if null in schema.get("anyOf", ()) else {"anyOf": [*schema.get("anyOf", [schema]), null]}


def images_body(description: str, parameters: type[BaseModel], **more: Schema) -> Schema:
    """The request body of images: one image, or JSON with one or several and these parameters.

    Args:
        more: further content types.
    """
    document = {
        "type": "object",
        "properties": {
            "inputs": {"anyOf": [IMAGE, {"type": "array", "items": IMAGE, "minItems": 1}]},
            "parameters": or_null(parameters_schema(parameters)),
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }
    content = {"application/octet-stream": BINARY, "image/*": BINARY, **more, "application/json": {"schema": document}}
    return {"requestBody": {"description": description, "required": True, "content": content}}


def _limits(context: Context) -> dict[str, dict[str, Schema]]:
    """The limits of each parameter or property, by its name and by JSON type."""
    manifest, settings = context.manifest, context.settings
    last = manifest.architecture.num_stages - 1
    stage = {"integer": {"maximum": last}}
    images = {"array": {"maxItems": settings.max_images_per_request}}
    names = [point.name for point in manifest.operating_points]
    threshold = {"minimum": 0}
    return {
        "top_k": {"integer": {"maximum": manifest.architecture.num_classes}},
        "min_stage": stage,
        "max_stage": stage,
        "max_macs": {"integer": {"minimum": context.engine.stage_macs[0]}},
        "thresholds": {
            "array": {"minItems": last, "maxItems": last, "items": {"type": "number", **threshold}},
            "number": threshold,
            "string": {"pattern": f"^{NUMBER}(,{NUMBER}){{{last - 1}}}$|^{NUMBER}$"},
        },
        "operating_point": {"string": {"enum": names} if names else {"not": {}}},
        "inputs": images,
        "data": images,
        "file": images,
    }


def _named(node: Any) -> Iterator[tuple[str, Schema]]:
    """All parameters and properties with their schemas."""
    if isinstance(node, list):
        for item in node:
            yield from _named(item)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("properties"), dict):
        yield from node["properties"].items()
    if "in" in node and "schema" in node:
        yield node["name"], node["schema"]
    for value in node.values():
        yield from _named(value)


def _apply(schema: Schema, kind: str, limit: Schema) -> None:
    for variant in (schema, *schema.get("anyOf", ())):
        if variant.get("type") == kind:
            stricter = {name: value for name, value in limit.items() if name != "maxItems" or name not in variant}
            variant.update(stricter)
