"""`GET /`: leads people to the console, and tells programs what there is."""

from functools import lru_cache

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import RedirectResponse

from service.http import problems
from service.http.answers import json_response
from service.http.context import Context
from service.http.schemas import Index
from service.version import SERVICE_NAME, service_version

router = APIRouter()

_VARY = {"Vary": "Accept"}


@router.get(
    "/",
    summary="What there is",
    response_model=Index,
    responses={307: {"description": "Where HTML is accepted: to the console."}, **problems.responses(500)},
)
async def index(request: Request) -> Response:
    """Every operation, with the pages that explain them; a browser is led to the console."""
    # Relative, so that it holds behind a proxy with a prefix.
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("console", status_code=307, headers=_VARY)
    context: Context = request.app.state.context
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
