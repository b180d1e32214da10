"""Who may classify, and who may change the configuration; a route that is not in the table fails the test."""

import hmac
from types import SimpleNamespace

import pytest

from service import keys

KEY, API, ADMIN = "correct horse", "the-api-key", "the-admin-key"
LOCAL, ELSEWHERE = "127.0.0.1", "192.0.2.1"
CREDENTIALS = {"none": None, "wrong": "neither", "api": API, "admin": ADMIN}
OPENED_BY = {
    "POST /classify": {"api"},
    "POST /": {"api"},
    "POST /v2/models/{name}/infer": {"api"},
    "POST /v2/models/{name}/versions/{version}/infer": {"api"},
    "PATCH /config": {"admin"},
    "PUT /config": {"admin"},
    "POST /config/simulate": {*CREDENTIALS},
    **{
        f"GET {path}": {*CREDENTIALS}
        for path in (
            *("/", "/config", "/config/history", "/config/curve", "/metrics", "/models", "/info"),
            *("/livez", "/healthz", "/readyz", "/health", "/ping", "/v2", "/v2/health/live", "/v2/health/ready"),
            *("/v2/models/{name}", "/v2/models/{name}/ready"),
            *("/v2/models/{name}/versions/{version}", "/v2/models/{name}/versions/{version}/ready"),
        )
    },
}


async def assert_patch_is(status, serve, peer=LOCAL, headers=None, **settings):
    async with serve(peer=peer, **settings) as serving:
        response = await serving.client.patch("/config", json={"thresholds": 0}, headers=headers)
        assert response.status_code == status
        assert (serving.context.operating_points.current.version == 1) == (status != 200)
        assert ("www-authenticate" in response.headers) == (status == 401)
        assert KEY not in response.text
        return response


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        *((peer, {}, 200) for peer in (LOCAL, "127.8.8.8", "::1", "::ffff:127.0.0.1")),
        *((peer, {}, 403) for peer in (ELSEWHERE, "::ffff:192.0.2.1", "2001:db8::1", "")),
        *((LOCAL, {header: LOCAL}, 403) for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")),
        *((LOCAL, {"Origin": f"http://{host}:8000"}, 200) for host in (LOCAL, "localhost", "[::1]")),
        *((LOCAL, {"Origin": f"http://{host}"}, 403) for host in ("localhost.example", ELSEWHERE, "[")),
        *((LOCAL, {"Origin": origin}, 403) for origin in ("null", "")),
        (ELSEWHERE, {"Origin": "http://localhost"}, 403),
    ],
)
async def test_patch_config_without_keys_is_taken_from_loopback_and_its_pages_only(serve, peer, headers, status):
    await assert_patch_is(status, serve, peer, headers)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ELSEWHERE, "a-name", ""])
async def test_patch_config_without_keys_where_others_can_connect_is_403_from_loopback_too(serve, host):
    response = await assert_patch_is(403, serve, http_host=host)
    assert "set DVT_ADMIN_KEY, or DVT_TRUST_LOOPBACK=true" in response.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "peer", "status"),
    [
        ({"http_host": "localhost"}, LOCAL, 200),
        ({"http_host": "::1"}, LOCAL, 200),
        ({"http_host": "0.0.0.0", "trust_loopback": True}, LOCAL, 200),
        ({"http_host": "0.0.0.0", "trust_loopback": True}, ELSEWHERE, 403),
    ],
)
async def test_patch_config_without_keys_is_taken_where_loopback_is_alone_or_trusted(serve, settings, peer, status):
    await assert_patch_is(status, serve, peer, **settings)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        *((None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), (f"Basic {KEY}", 401), (KEY, 401)),
        *(("Bearer wrong", 403), (f"Bearer {KEY}r", 403), (f"Bearer {KEY[:-1]}", 403), (b"Bearer \xff\xfe", 403)),
        *((f"Bearer {KEY}", 200), (f"bearer {KEY}", 200), (f"BEARER  {KEY}", 200)),
    ],
)
async def test_patch_config_where_there_is_a_key_needs_it_even_from_loopback(serve, authorization, status):
    await assert_patch_is(status, serve, headers=authorization and {"authorization": authorization}, admin_key=KEY)


async def test_patch_config_with_the_key_is_taken_from_anywhere_and_any_page(serve):
    headers = {"authorization": f"Bearer {KEY}", "Origin": "http://elsewhere.example"}
    await assert_patch_is(200, serve, ELSEWHERE, headers, admin_key=KEY)


async def test_patch_config_key_beyond_ascii_is_compared_as_the_bytes_sent(serve):
    await assert_patch_is(200, serve, headers={"authorization": "Bearer schlüssel".encode()}, admin_key="schlüssel")


async def test_patch_config_is_authorised_before_its_body_is_judged(serve):
    async with serve(admin_key=KEY) as serving:
        assert (await serving.client.patch("/config", content=b"nonsense")).status_code == 401


async def test_routes_are_all_in_the_table(serving):
    operations = serving.app.openapi()["paths"].items()

    assert {f"{method.upper()} {path}" for path, methods in operations for method in methods} == set(OPENED_BY)
    listed = {"/docs", "/openapi.json", "/console", "/console/"} | {route.split()[1] for route in OPENED_BY}
    assert {route.path for route in serving.app.routes if hasattr(route, "path")} <= listed


@pytest.mark.parametrize("keys_are_set", [False, True])
@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_route_is_opened_by_its_key_and_no_other_or_by_all_without_keys(serve, image, credential, keys_are_set):
    key = CREDENTIALS[credential]
    headers = {"content-type": "image/png"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    opened = {}
    async with serve(**{"api_key": f"shop:{API},lab:2", "admin_key": f"alice:{ADMIN}"} if keys_are_set else {}) as app:
        for route in OPENED_BY:
            method, target = route.format(name="test-model", version="1").split()
            response = await app.client.request(method, target, content=image(), headers=headers)
            opened[route] = response.status_code not in (401, 403)
            if not opened[route]:
                assert response.status_code == (401 if key is None else 403)
                assert ("www-authenticate" in response.headers) == (key is None)
        assert await app.images_are_accounted_for()

    assert opened == {route: not keys_are_set or credential in who for route, who in OPENED_BY.items()}


@pytest.mark.parametrize("key", ["one", "two", "three", "", "one more"])
def test_holder_compares_every_key_in_constant_time(monkeypatch, key):
    ring = keys.KeyRing.parse("a:one,b:two,c:three", name="any")
    compared = []

    def compare(given, own):
        compared.append(own)
        return hmac.compare_digest(given, own)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(compare_digest=compare))

    assert ring.holder(key.encode()) == {"one": "a", "two": "b", "three": "c"}.get(key)
    assert compared == [b"one", b"two", b"three"]
