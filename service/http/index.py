"""`GET /`: redirects browsers to the console, and lists the endpoints for programs."""

from functools import lru_cache

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import RedirectResponse

from service.http import problems
from service.http.answers import json_response
from service.http.context import ContextDep
from service.http.schemas import Index
from service.version import SERVICE_NAME, service_version

router = APIRouter()

_VARY = {"Vary": "Accept"}


@router.get(
    "/",
    summary="What there is",
    response_model=Index,
    responses={307: {"description": "To the console, if HTML is accepted."}, **problems.responses(500)},
)
async def index(request: Request, context: ContextDep) -> Response:
    """Every operation, and the pages that explain them; a browser is redirected to the console."""
    # Relative, so that it works behind a proxy with a path prefix.
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("console", status_code=307, headers=_VARY)
    document = Index(
        name=SERVICE_NAME,
        version=service_version(),
        model=context.manifest.name,
        console="console",
        docs="docs",
        description="openapi.json",
        operations=_operations(request.app),
    )
    return json_response(document, _VARY)


@lru_cache(maxsize=1)
def _operations(app: FastAPI) -> dict[str, str]:
    return {
        f"{method.upper()} {path}": operation["summary"]
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
