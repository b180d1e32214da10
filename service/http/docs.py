"""`GET /docs`: the API's description as a page without scripts and without requests to other hosts."""

import json
from functools import lru_cache
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter()

# No loading, no scripts, no frames.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "summary{cursor:pointer;padding:.3rem 0}code,pre{font-size:.875em}pre{overflow-x:auto;padding:.5rem;"
    "border:1px solid #8886}details details{margin-left:1rem}b{display:inline-block;min-width:4rem}"
)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Every operation with its parameters, bodies and responses."""
    page = _page(json.dumps(request.app.openapi()))
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@lru_cache(maxsize=1)
def _page(description: str) -> str:
    document = json.loads(description)
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(info['summary'])}. For programs: <a href='openapi.json'>openapi.json</a>.</p>"
        f"<h2>Operations</h2>{''.join(operations)}<h2>Shapes</h2>{''.join(shapes)}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', ''))}</p>"]
    parts += [
        f"<p><code>{escape(each['name'])}</code> in the {each['in']}: {escape(each.get('description', ''))}</p>"
        f"{_json(each['schema'])}"
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {})
    parts += [_shape(f"body: {kind}", content.get("schema", {})) for kind, content in body.get("content", {}).items()]
    for status, answer in operation["responses"].items():
        contents = [*answer.get("content", {}).items()] or [("", {})]
        shown = {kind: content.get("schema", {}) for kind, content in contents}
        shown |= {f"header {name}": header["schema"] for name, header in answer.get("headers", {}).items()}
        parts.append(_shape(f"{status} {answer['description']}", shown))
    heading = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{heading}</summary>{''.join(parts)}</details>"


def _shape(name: str, schema: Any) -> str:
    return f"<details><summary>{escape(name)}</summary>{_json(schema)}</details>"


def _json(schema: Any) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=1))}</pre>"
