"""Which key opens which route; a route that is not in the table fails the test."""

import hmac
from types import SimpleNamespace

import pytest

from service import keys

API, ADMIN = "the-api-key", "the-admin-key"
CREDENTIALS = {"none": None, "wrong": "neither", "api": API, "admin": ADMIN}
ANYBODY = {"none", "wrong", "api", "admin"}
OPENED_BY = {
    ("POST", "/classify"): {"api"},
    ("POST", "/"): {"api"},
    ("POST", "/v2/models/{name}/infer"): {"api"},
    ("POST", "/v2/models/{name}/versions/{version}/infer"): {"api"},
    ("PATCH", "/config"): {"admin"},
    ("PUT", "/config"): {"admin"},
    ("GET", "/config"): ANYBODY,
    ("GET", "/config/history"): ANYBODY,
    ("GET", "/config/curve"): ANYBODY,
    ("POST", "/config/simulate"): ANYBODY,
    ("GET", "/"): ANYBODY,
    **{("GET", f"/{probe}"): ANYBODY for probe in ("livez", "healthz", "readyz", "health", "ping")},
    ("GET", "/metrics"): ANYBODY,
    ("GET", "/models"): ANYBODY,
    ("GET", "/info"): ANYBODY,
    ("GET", "/v2"): ANYBODY,
    ("GET", "/v2/health/live"): ANYBODY,
    ("GET", "/v2/health/ready"): ANYBODY,
    ("GET", "/v2/models/{name}"): ANYBODY,
    ("GET", "/v2/models/{name}/ready"): ANYBODY,
    ("GET", "/v2/models/{name}/versions/{version}"): ANYBODY,
    ("GET", "/v2/models/{name}/versions/{version}/ready"): ANYBODY,
}


async def test_routes_are_all_in_the_table(serving):
    described = {
        (method.upper(), path) for path, operations in serving.app.openapi()["paths"].items() for method in operations
    }
    undescribed = {"/docs", "/openapi.json", "/console", "/console/"}

    assert described == set(OPENED_BY)
    assert {route.path for route in serving.app.routes if hasattr(route, "path")} <= {
        *(path for _, path in OPENED_BY),
        *undescribed,
    }


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_route_is_opened_by_its_key_and_no_other(serve, image, credential):
    key = CREDENTIALS[credential]
    headers = {"content-type": "image/png"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    opened = {}
    async with serve(api_key=f"shop:{API}", admin_key=f"alice:{ADMIN}") as serving:
        for method, path in OPENED_BY:
            target = path.format(name="test-model", version="1")
            response = await serving.client.request(method, target, content=image(), headers=headers)
            opened[method, path] = response.status_code not in (401, 403)
            if not opened[method, path]:
                assert response.status_code == (401 if key is None else 403)

    assert opened == {route: credential in who for route, who in OPENED_BY.items()}


@pytest.mark.parametrize("credential", ["none", "wrong"])
async def test_routes_without_keys_set_are_open_on_loopback(serving, image, credential):
    key = CREDENTIALS[credential]
    headers = {"content-type": "image/png"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    for method, path in OPENED_BY:
        target = path.format(name="test-model", version="1")
        response = await serving.client.request(method, target, content=image(), headers=headers)
        assert response.status_code not in (401, 403), path


@pytest.mark.parametrize("key", ["one", "two", "three", "wrong", "", "one more"])
def test_holder_compares_every_key_in_constant_time(monkeypatch, key):
    ring = keys.KeyRing.parse("a:one,b:two,c:three", name="any")
    compared = []

    def compare(given, own):
        compared.append(own)
        return hmac.compare_digest(given, own)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(compare_digest=compare))

    assert ring.holder(key.encode()) == {"one": "a", "two": "b", "three": "c"}.get(key)
    assert compared == [b"one", b"two", b"three"]
