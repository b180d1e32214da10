"""The application as a whole: its description, and the engine's life around it.

That each answer a test gets is declared is checked by the client of `conftest.py`; here, that nothing else is.
"""

import json
import re

import pytest

from service.engine.engine import EngineState

SHARED = {"200", "500"}


@pytest.fixture
async def description(serving):
    return (await serving.client.get("/openapi.json")).json()


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/classify", {"400", "401", "403", "413", "415", "422", "429", "503", "504"}),
        ("get", "/config", set()),
        ("patch", "/config", {"401", "403", "412", "413", "415", "422", "503"}),
        ("get", "/livez", {"503"}),
        ("get", "/readyz", {"503"}),
        ("get", "/metrics", {"503"}),
        ("get", "/models", set()),
        ("get", "/info", set()),
    ],
)
def test_openapi_declares_exactly_the_statuses_of_the_contract(description, method, path, statuses):
    assert set(description["paths"][path][method]["responses"]) == SHARED | statuses


def test_openapi_references_resolve_and_the_frameworks_own_error_is_gone(description):
    text = json.dumps(description)

    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(description["components"]["schemas"])
    assert "HTTPValidationError" not in text


def test_openapi_describes_every_way_to_send_an_image(description):
    body = description["paths"]["/classify"]["post"]["requestBody"]

    assert set(body["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }


def test_openapi_names_every_parameter_of_a_classification(description):
    parameters = description["paths"]["/classify"]["post"]["parameters"]

    assert {parameter["name"] for parameter in parameters if parameter["in"] == "query"} == {
        "top_k",
        "thresholds",
        "min_stage",
        "max_stage",
        "max_macs",
        "deadline_ms",
        "trace",
    }


async def test_docs_page_shows_every_route_and_loads_nothing(serving, description):
    response = await serving.client.get("/docs")

    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"].startswith("default-src 'none';")
    for path, operations in description["paths"].items():
        for method in operations:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in response.text
    assert set(re.findall(r"(?:src|href)=.([^'\"]+)", response.text)) == {"openapi.json"}
    assert "<script" not in response.text
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", response.text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/livez"), ("GET", "/models"), ("GET", "/docs"), ("GET", "/nothing"), ("GET", "/v2/no")],
)
async def test_answers_open_nothing_to_other_origins_and_are_not_sniffed(serving, method, path):
    response = await serving.client.request(method, path, headers={"origin": "https://elsewhere.example"})

    assert response.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/classify", "/config", "/v2/models/test-model/infer"])
async def test_preflight_is_refused(serving, path):
    headers = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    response = await serving.client.options(path, headers=headers)

    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_description_says_what_this_model_and_these_settings_allow(serve):
    async with serve(max_images_per_request=7) as serving:
        document = serving.app.openapi()
    parameters = {each["name"]: each["schema"] for each in document["paths"]["/classify"]["post"]["parameters"]}
    bodies = document["paths"]["/classify"]["post"]["requestBody"]["content"]
    change = document["paths"]["/config"]["put"]["requestBody"]["content"]["application/json"]["schema"]

    assert parameters["top_k"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert parameters["min_stage"]["maximum"] == 3
    assert parameters["max_macs"]["anyOf"][0]["minimum"] == 100
    pattern = re.compile(parameters["thresholds"]["anyOf"][0]["pattern"])
    assert [bool(pattern.search(text)) for text in ("0.5", "1,2e-3,.5", "1,2", "-1", "nan", "1,2,3,4")] == [
        *(True, True),
        *[False] * 4,
    ]
    assert bodies["multipart/form-data"]["schema"]["properties"]["file"]["maxItems"] == 7
    assert bodies["application/json"]["schema"]["properties"]["inputs"]["anyOf"][1]["maxItems"] == 7
    assert change["properties"]["thresholds"]["anyOf"][1]["minItems"] == 3
    assert (change["minProperties"], change["maxProperties"]) == (1, 1)
    assert "$defs" not in json.dumps(document)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/livez", None, {}),
        ("GET", "/readyz", None, {}),
        ("HEAD", "/livez", None, {}),
        ("GET", "/ping", None, {}),
        ("GET", "/healthz", None, {}),
        ("POST", "/readyz", None, {}),
        ("GET", "/classify", None, {}),
        ("POST", "/classify", "image", {}),
        ("POST", "/classify?trace=true&top_k=2", "image", {}),
        ("POST", "/classify?top_k=2&top_k=3", "image", {}),
        ("POST", "/classify?top_k=11", "image", {}),
        ("POST", "/classify?top_k=x&min_stage=-1&trace=on", "image", {}),
        ("POST", "/classify?top_k=", "image", {}),
        ("POST", "/classify?colour=red&colour=blue", "image", {}),
        ("POST", "/classify?%66oo=b%C3%A4r", "image", {}),
        ("POST", "/classify?thresholds=0.9,0.8", "image", {}),
        ("POST", "/classify?deadline_ms=60000", "image", {"x-envoy-expected-rq-timeout-ms": "soon"}),
        ("POST", "/classify", "nonsense", {}),
        ("POST", "/classify", "image", {"content-type": "text/plain"}),
        ("POST", "/classify", "image", {"content-type": "multipart/form-data"}),
        ("POST", "/classify/", "image", {}),
    ],
)
async def test_direct_routes_answer_as_the_framework_does(serve, image, monkeypatch, method, path, body, headers):
    content = {"image": image(60), "nonsense": b"nonsense", None: b""}[body]
    answers = []
    for _ in range(2):
        async with serve() as serving:
            response = await serving.client.request(
                method, path, content=content, headers={"content-type": "image/png", "x-request-id": "r-1", **headers}
            )
            counted = await serving.metric("dvt_requests_total", code=str(response.status_code))
            text = re.sub(r'"timing_ms":\{[^}]*\}', "", response.text)
            varying = {"content-length", "server-timing"} if response.is_success else set()
            kept = {name: value for name, value in response.headers.items() if name not in varying}
            answers.append((response.status_code, text, kept, set(response.headers), counted))
        monkeypatch.setattr("service.http.app.DIRECT", {})

    assert answers[0] == answers[1]


async def test_lifespan_starts_the_engine_and_stops_it_at_the_end(serve):
    async with serve() as serving:
        assert serving.context.engine.state is EngineState.READY
    assert serving.backend.engine.state is EngineState.STOPPED
    assert not serving.deaths
