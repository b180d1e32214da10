"""The API's description, made true for the model that is loaded: its name, its exits, its classes, and the limits set.

What one request may hold depends on the model and on the settings; the routes only know at run time.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI

from service.http.context import Context
from service.http.parameters import NUMBER

Schema = dict[str, Any]


def describe(app: FastAPI, context: Context) -> Callable[[], Schema]:
    """The application's `openapi`, with limits in it."""
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


def _limits(context: Context) -> dict[str, dict[str, Schema]]:
    """For each name of a parameter or property, what holds for a value of each JSON type."""
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
