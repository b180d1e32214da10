"""Errors as documents, and an API description that promises what is sent."""

import json
import re

import httpx
import pytest
from fastapi import FastAPI

from service import errors
from service.http import problems
from service.http.access_log import AccessLog
from service.http.middleware import RequestMiddleware
from service.images.decoder import ImageDecoder
from service.metrics import Metrics

STATUSES = {
    errors.UndecodableImageError: 400,
    errors.MalformedRequestError: 400,
    errors.UnauthorizedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.VersionConflictError: 412,
    errors.TooLargeError: 413,
    errors.UnsupportedMediaError: 415,
    errors.InvalidParameterError: 422,
    errors.OverloadedError: 429,
    errors.ClientLeftError: 499,
    errors.InferenceError: 500,
    errors.NotReadyError: 503,
    errors.StoreUnavailableError: 503,
    errors.DeviceLostError: 503,
    errors.DeadlineExceededError: 504,
}
CLASSIFY = {200, 400, 401, 403, 413, 415, 422, 429, 500, 503, 504}
CHANGE = {200, 401, 403, 412, 413, 415, 422, 500, 503}
PROBE = {200, 500, 503}
DECLARED = {
    "post /": CLASSIFY,
    "post /classify": CLASSIFY,
    "get /": {200, 307, 500},
    "patch /config": CHANGE,
    "put /config": CHANGE,
    "post /config/simulate": {200, 413, 415, 422, 500},
    **{
        f"get {path}": {200, 500} for path in ("/config", "/config/history", "/config/curve", "/models", "/info", "/v2")
    },
    **{f"get /{probe}": PROBE for probe in ("livez", "healthz", "readyz", "health", "ping", "metrics")},
    **{f"get /v2/health/{probe}": PROBE for probe in ("live", "ready")},
}
for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
    DECLARED |= {
        f"get {model}": {200, 404, 500},
        f"get {model}/ready": {404, *PROBE},
        f"post {model}/infer": {404, *CLASSIFY},
    }


async def answer_to(error: Exception) -> httpx.Response:
    """What a route that raises `error` answers."""
    app = FastAPI()
    app.add_middleware(
        RequestMiddleware, metrics=Metrics(1, 1), access_log=AccessLog(on=False), direct={}, on_cut_off=lambda: None
    )
    problems.install(app)

    @app.get("/route")
    async def route() -> None:
        raise error

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.get("/route", headers={"x-request-id": "r-1"})


def test_problem_kinds_name_every_error_there_is_and_each_title_once():
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type)}

    assert set(STATUSES) | {errors.ServiceError} == defined == set(problems.PROBLEM_KINDS)
    assert len({kind.type for kind in problems.PROBLEM_KINDS.values()}) == len(defined)


@pytest.mark.parametrize("kind", STATUSES)
async def test_service_error_becomes_a_problem_document_with_its_status(kind):
    response = await answer_to(kind("what went wrong"))

    title, status = problems.PROBLEM_KINDS[kind].title, STATUSES[kind]
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert list(response.json().items()) == [
        ("type", f"urn:dvt:problem:{title.lower().replace(' ', '-')}"),
        ("title", title),
        ("status", status),
        ("detail", "what went wrong"),
        ("instance", "/route"),
        ("request_id", "r-1"),
        ("error", "what went wrong"),
    ]
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("connection" in response.headers) == (status == 413)


async def test_service_error_without_an_entry_takes_its_nearest_base():
    class FullDiskError(errors.OverloadedError):
        pass

    assert (await answer_to(FullDiskError("full"))).status_code == 429


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (1.1, "2"), (60.0, "60")])
async def test_overloaded_retry_after_is_in_whole_seconds_and_never_zero(seconds, header):
    response = await answer_to(errors.OverloadedError("full", retry_after_s=seconds))

    assert response.headers["retry-after"] == header


async def test_unexpected_exception_is_500_and_keeps_its_details_to_the_log(caplog):
    response = await answer_to(RuntimeError("a secret"))

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    problem = response.json()
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == "r-1"
    assert "r-1" in caplog.text
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/config/", 404, None),
        ("GET", "/classify", 405, {"POST"}),
        ("DELETE", "/config", 405, {"GET", "HEAD", "PATCH", "PUT"}),
        ("POST", "/docs", 405, {"GET", "HEAD"}),
    ],
)
async def test_route_that_does_not_exist_is_a_problem_document(serving, method, path, status, allowed):
    response = await serving.client.request(method, path)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["instance"] == path
    assert problem["error"] == problem["detail"]
    assert path in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    if allowed is not None:
        assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("lane", ["decode_small", "decode_ordinary", "decode"])
async def test_decoder_that_fails_unexpectedly_is_500_for_its_image_alone(serving, image, monkeypatch, lane):
    context, broken = serving.context, image(60)

    def fail(data):
        if data == broken:
            raise RuntimeError("a secret")
        return ImageDecoder.decode(context.decoder, data)

    for earlier in ("decode_small", "decode_ordinary", "decode"):
        monkeypatch.setattr(context.decoder, earlier, fail if earlier == lane else lambda _: None)
        if earlier == lane:
            break
    alone = await serving.classify(broken)
    files = [("file", ("a", data)) for data in (image(), broken, image())]
    several = await serving.client.post("/classify", files=files)

    assert alone.status_code == alone.json()["status"] == 500
    assert several.status_code == 200
    first, second, third = several.json()["results"]
    assert (first["label"], second["error"]["status"], third["label"]) == ("cat", 500, "cat")
    assert "secret" not in alone.text + several.text
    await serving.until(serving.at_rest)
    assert await serving.images_are_accounted_for()


async def test_openapi_declares_every_status_in_the_words_of_its_protocol_and_when_to_retry(serving):
    openapi = serving.app.openapi()
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    declared = {}
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            declared[f"{method} {path}"] = {int(status) for status in operation["responses"]}
            for status in operation["responses"].keys() - {"200", "307"}:
                response = operation["responses"][status]
                assert response["content"] == (error if path.startswith("/v2") else problem)
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))
    assert declared == DECLARED

    schemas = openapi["components"]["schemas"]
    referenced = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(openapi)))
    assert "Problem" in referenced
    assert referenced <= set(schemas)
    assert "HTTPValidationError" not in schemas
