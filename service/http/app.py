"""The ASGI application: routes, error handling, and the engine's life around them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from service.http import classify, config, docs, health, huggingface, index, problems
from service.http.access_log import AccessLog
from service.http.console import routes as console
from service.http.context import Context
from service.http.description import describe
from service.http.middleware import DirectRoute, RequestMiddleware
from service.http.oip import routes as oip
from service.version import service_version

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.5
# All requests have ended by then, so that nobody waits for a batch that is still under way.
_ENGINE_STOP_S = 1.0

DIRECT: dict[tuple[str, str], DirectRoute] = {
    ("POST", "/classify"): classify.classify,
    ("POST", "/"): huggingface.image_classification,
    **{("GET", path): health.livez for path in health.LIVE_PATHS},
    **{("GET", path): health.readyz for path in health.READY_PATHS},
}
"""What is answered without the framework, which has these routes too, to describe them."""


def create_app(
    context: Context, *, on_death: Callable[[], None] | None = None, on_cut_off: Callable[[], None] = lambda: None
) -> FastAPI:
    """The application around a running service's parts; its lifespan starts and stops the engine.

    Args:
        on_death: called once the engine is dead or stuck, when only a new process can help; None looks after nothing.
        on_cut_off: called for each request that the server cancels, since it ends.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Returns at once: the worker warms up on its own thread, while /livez answers and /readyz says no.
        context.engine.start()
        await context.operating_points.start()
        watch = None if on_death is None else asyncio.create_task(_watch(context, on_death))
        try:
            yield
        finally:
            if watch is not None:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
            await context.operating_points.close()
            await context.engine.close(timeout_s=_ENGINE_STOP_S)
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


async def _watch(context: Context, on_death: Callable[[], None]) -> None:
    while context.alive:  # noqa: ASYNC110 - the engine knows no event loop to set an event in
        await asyncio.sleep(_WATCH_INTERVAL_S)
    logger.critical("the engine is dead, or stuck; ending the process")
    on_death()
