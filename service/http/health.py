"""The routes for operators: health, metrics, the loaded model, and versions."""

from dataclasses import asdict
from importlib.metadata import version
from itertools import accumulate
from platform import python_version

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from service.errors import DeviceLostError, NotReadyError
from service.http import problems
from service.http.answers import json_response
from service.http.context import Context, ContextDep
from service.http.schemas import Info, Live, ModelInfo, ModelList, NamedPoint, Ready, StageInfo
from service.version import SERVICE_NAME, service_version

router = APIRouter()

LIVE_PATHS = ("/livez", "/healthz")
READY_PATHS = ("/readyz", "/health", "/ping")
"""Each probe has the names by which load balancers and platforms know it."""

_METRICS_TYPES = ("text/plain", "application/openmetrics-text")
_TEXT = {"schema": {"type": "string"}}
_LIBRARIES = ("torch", "fastapi", "pydantic", "pillow")


async def livez(request: Request) -> Response:
    """Fails if only a new process can help: the device or the worker is dead."""
    context: Context = request.app.state.context
    if not context.alive:
        raise DeviceLostError("the engine is dead, or stuck")
    return json_response(Live(live=True, state=context.state))


async def readyz(request: Request) -> Response:
    """Fails while the service starts, after it was asked to end, and if the engine is dead."""
    context: Context = request.app.state.context
    if not context.ready:
        raise NotReadyError(f"the service is {context.state}")
    return json_response(Ready(ready=True, state=context.state))


for _paths, _probe, _summary, _answer in (
    (LIVE_PATHS, livez, "Can the process make progress?", Live),
    (READY_PATHS, readyz, "Are requests taken?", Ready),
):
    for _path in _paths:
        router.add_api_route(
            _path, _probe, summary=_summary, response_model=_answer, responses=problems.responses(500, 503)
        )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": dict.fromkeys(_METRICS_TYPES, _TEXT)}, **problems.responses(500, 503)},
)
async def metrics(request: Request, context: ContextDep) -> Response:
    """All metrics of this replica: in Prometheus' text format, or in that of OpenMetrics where `Accept` asks for it."""
    accept = request.headers.get("accept", "")
    _, content_type = choose_encoder(accept)
    return Response(await context.engine.scrape(accept), headers={"Vary": "Accept"}, media_type=content_type)


@router.get("/models", summary="What is loaded", responses=problems.responses(500))
async def models(context: ContextDep) -> ModelList:
    """The model's classes, exits with their cost, preprocessing, calibration and provenance."""
    manifest = context.manifest
    model = ModelInfo(
        name=manifest.name,
        class_names=list(manifest.class_names),
        stages=_stages(context),
        baseline_macs=context.engine.baseline_macs,
        preprocessing=asdict(manifest.preprocessing),
        thresholds=list(manifest.thresholds),
        temperatures=list(manifest.temperatures),
        operating_points=[NamedPoint(**point.model_dump(mode="json")) for point in manifest.operating_points],
        provenance=manifest.provenance,
    )
    return ModelList(models=[model])


@router.get("/info", summary="What is running", responses=problems.responses(500))
async def info(context: ContextDep) -> Info:
    """The service, its version, and where and with what it computes."""
    return Info(
        name=SERVICE_NAME,
        version=service_version(),
        model=context.manifest.name,
        state=context.state,
        device=context.device,
        dtype=context.engine.dtype,
        versions={"python": python_version(), **{name: version(name) for name in _LIBRARIES}},
    )


def _stages(context: Context) -> list[StageInfo]:
    architecture = context.manifest.architecture
    stage_macs = context.engine.stage_macs
    return [
        StageInfo(
            stage=stage,
            grid=architecture.grids[stage],
            px=architecture.side_px(stage),
            num_tokens=architecture.num_tokens(stage),
            macs=stage_macs[stage],
            cumulative_macs=cumulative_macs,
            fraction=round(cumulative_macs / context.engine.baseline_macs, 6),
        )
        for stage, cumulative_macs in enumerate(accumulate(stage_macs))
    ]
