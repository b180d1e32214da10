"""The ASGI application: routes and error handling."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.http import classify, config, docs, health, huggingface, index, problems
from service.http.access_log import AccessLog
from service.http.console import routes as console
from service.http.context import Context
from service.http.description import describe
from service.http.middleware import DirectRoute, RequestMiddleware
from service.http.oip import routes as oip
from service.version import service_version

DIRECT: dict[tuple[str, str], DirectRoute] = {
    ("POST", "/classify"): classify.classify,
    ("POST", "/"): huggingface.image_classification,
    **{("GET", path): health.livez for path in health.LIVE_PATHS},
    **{("GET", path): health.readyz for path in health.READY_PATHS},
}
"""Routes that bypass the framework. They are registered there too, for the API description."""


def create_app(context: Context, *, on_cut_off: Callable[[], None] = lambda: None) -> FastAPI:
    """The application of a front end. Its lifespan opens and closes the connection to the engine.

    Args:
        on_cut_off: called for each request that the server cancels because it ends.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.engine.start()
        try:
            yield
        finally:
            await context.engine.close()
            context.lanes.shutdown()

    app = FastAPI(
        title="Dynamic ViT service",
        summary="Image classification by a cascade of Vision Transformers with early exit",
        version=service_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    access_log = AccessLog(context.settings.access_log)
    app.add_middleware(
        RequestMiddleware, metrics=context.metrics, access_log=access_log, direct=DIRECT, on_cut_off=on_cut_off
    )
    problems.install(app)
    for part in (classify, huggingface, index, oip, config, health, docs):
        app.include_router(part.router)
    console.install(app)
    app.openapi = describe(app, context)  # type: ignore[method-assign]
    return app
