"""`GET /console`: static files that may load nothing from other hosts."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_STATIC = Path(__file__).parent / "static"

# No inline scripts or styles, no markup from text, no frames.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    # A browser revalidates the files each time, so that it has those of a new version at once.
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Add the console to an application."""
    files = _Files(directory=_STATIC)

    @app.get("/console", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    @app.get("/console/", include_in_schema=False)
    async def page_with_slash() -> Response:
        # Relative, so that it works behind a proxy with a path prefix.
        return RedirectResponse("../console", status_code=307)

    app.mount("/console", files)
