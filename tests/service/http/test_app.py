"""The application as a whole: its description, and the engine's life around it.

The client of `conftest.py` checks that each answer is declared; here, that nothing else is.
"""

import json
import re

import pytest

from service.engine.engine import EngineState

PNG = {"content-type": "image/png"}


async def test_docs_page_shows_every_route_and_loads_nothing(serving):
    response = await serving.client.get("/docs")

    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"].startswith("default-src 'none';")
    for path, operations in serving.app.openapi()["paths"].items():
        for method in operations:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in response.text
    assert set(re.findall(r"(?:src|href)=.([^'\"]+)", response.text)) == {"openapi.json"}
    assert "<script" not in response.text
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", response.text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/livez", 200), ("GET", "/models", 200), ("GET", "/docs", 200)),
        *(("GET", "/nothing", 404), ("GET", "/v2/no", 404)),
        *(("OPTIONS", "/classify", 405), ("OPTIONS", "/config", 405), ("OPTIONS", "/v2/models/test-model/infer", 405)),
    ],
)
async def test_answers_open_nothing_to_other_origins_and_are_not_sniffed(serving, method, path, status):
    headers = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    response = await serving.client.request(method, path, headers=headers)

    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_description_says_what_this_model_and_these_settings_allow(serve):
    async with serve(max_images_per_request=7) as serving:
        document = serving.app.openapi()
    classify = document["paths"]["/classify"]["post"]
    parameters = {each["name"]: each["schema"] for each in classify["parameters"] if each["in"] == "query"}
    bodies = classify["requestBody"]["content"]
    change = document["paths"]["/config"]["put"]["requestBody"]["content"]["application/json"]["schema"]

    names = {"top_k", "thresholds", "min_stage", "max_stage", "max_macs", "deadline_ms", "trace"}
    assert parameters.keys() == names
    assert parameters["top_k"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert parameters["min_stage"]["maximum"] == 3
    assert parameters["max_macs"]["anyOf"][0]["minimum"] == 100
    pattern = re.compile(parameters["thresholds"]["anyOf"][0]["pattern"])
    assert all(map(pattern.search, ("0.5", "1,2e-3,.5")))
    assert not any(map(pattern.search, ("1,2", "-1", "nan", "1,2,3,4")))
    assert bodies.keys() == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    assert bodies["multipart/form-data"]["schema"]["properties"]["file"]["maxItems"] == 7
    assert bodies["application/json"]["schema"]["properties"]["inputs"]["anyOf"][1]["maxItems"] == 7
    assert change["properties"]["thresholds"]["anyOf"][1]["minItems"] == 3
    assert (change["minProperties"], change["maxProperties"]) == (1, 1)
    assert "$defs" not in json.dumps(document)


REQUESTS = [
    *(("GET", path, {}) for path in ("/livez", "/readyz", "/ping", "/healthz", "/classify")),
    *(("HEAD", "/livez", {}), ("POST", "/readyz", {}), ("POST", "/classify/", PNG)),
    *(
        ("POST", f"/classify?{query}", PNG)
        for query in (
            *("trace=true&top_k=2", "top_k=2&top_k=3", "top_k=11", "top_k=x&min_stage=-1&trace=on", "top_k="),
            *("colour=red&colour=blue", "%66oo=b%C3%A4r", "thresholds=0.9,0.8", ""),
        )
    ),
    ("POST", "/classify?deadline_ms=60000", {**PNG, "x-envoy-expected-rq-timeout-ms": "soon"}),
    *(("POST", "/classify", {"content-type": kind}) for kind in ("text/plain", "multipart/form-data", "image/svg+xml")),
]


async def test_direct_routes_answer_as_the_framework_does(serve, image, monkeypatch):
    runs = []
    for _ in range(2):
        answers = []
        async with serve() as serving:
            for method, path, headers in REQUESTS:
                content = b"nonsense" if "svg" in headers.get("content-type", "") else image(60)
                headers = {"x-request-id": "r-1", **headers}
                response = await serving.client.request(method, path, content=content, headers=headers)
                text = re.sub(r'"timing_ms":\{[^}]*\}', "", response.text)
                varying = {"content-length", "server-timing"} if response.is_success else set()
                kept = {name: None if name in varying else value for name, value in response.headers.items()}
                answers.append((path, response.status_code, text, kept))
            answers += [await serving.metric("dvt_requests_total", code=code) for code in ("200", "415", "422")]
        runs.append(answers)
        monkeypatch.setattr("service.http.app.DIRECT", {})

    assert runs[0] == runs[1]


async def test_lifespan_starts_the_engine_and_stops_it_at_the_end(serve):
    async with serve() as serving:
        assert serving.context.engine.state is EngineState.READY
    assert serving.backend.engine.state is EngineState.STOPPED
    assert not serving.deaths
