"""Who may change the configuration, and who may classify."""

import pytest

PNG = {"content-type": "image/png"}
KEY = "correct horse"
BEARER = {"authorization": f"Bearer {KEY}"}


def unchanged(serving):
    return serving.context.operating_points.current.version == 1


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_patch_config_without_a_key_is_taken_from_loopback(serve, peer):
    async with serve(peer=peer) as serving:
        assert (await serving.client.patch("/config", json={"thresholds": 0})).status_code == 200


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "localhost", ""])
async def test_patch_config_without_a_key_is_403_from_elsewhere(serve, peer):
    async with serve(peer=peer) as serving:
        assert (await serving.client.patch("/config", json={"thresholds": 0})).status_code == 403
        assert unchanged(serving)
        assert (await serving.client.get("/config")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "a-name", ""])
async def test_patch_config_without_a_key_where_others_can_connect_is_403_from_loopback_too(serve, host):
    # A proxy beside the service that adds no header makes everybody look like loopback.
    async with serve(http_host=host) as serving:
        response = await serving.client.patch("/config", json={"thresholds": 0})
        assert response.status_code == 403
        assert "set DVT_ADMIN_KEY, or DVT_TRUST_LOOPBACK=true" in response.json()["detail"]
        assert unchanged(serving)


@pytest.mark.parametrize(
    "settings",
    [{"http_host": "localhost"}, {"http_host": "::1"}, {"http_host": "0.0.0.0", "trust_loopback": True}],
)
async def test_patch_config_without_a_key_is_taken_where_only_loopback_connects_or_is_trusted(serve, settings):
    async with serve(**settings) as serving:
        assert (await serving.client.patch("/config", json={"thresholds": 0})).status_code == 200


async def test_patch_config_trusted_loopback_is_no_trust_in_others(serve):
    async with serve(http_host="0.0.0.0", trust_loopback=True, peer="192.0.2.1") as serving:
        assert (await serving.client.patch("/config", json={"thresholds": 0})).status_code == 403


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
async def test_patch_config_that_a_local_proxy_forwards_does_not_count_as_loopback(serving, header):
    response = await serving.client.patch("/config", json={"thresholds": 0}, headers={header: "127.0.0.1"})

    assert response.status_code == 403
    assert unchanged(serving)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:8000", 200),
        ("http://[::1]:8000", 200),
        ("http://elsewhere.example:8000", 403),
        ("http://localhost.elsewhere.example", 403),
        ("http://192.0.2.1", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
async def test_patch_config_without_a_key_is_taken_from_pages_of_loopback_only(serving, origin, status):
    response = await serving.client.patch("/config", json={"thresholds": 0}, headers={"Origin": origin})

    assert response.status_code == status
    assert unchanged(serving) == (status == 403)


async def test_patch_config_with_the_key_is_taken_from_any_page(serve):
    async with serve(admin_key=KEY) as serving:
        headers = {**BEARER, "Origin": "http://elsewhere.example"}
        assert (await serving.client.patch("/config", json={"thresholds": 0}, headers=headers)).status_code == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.1"])
async def test_patch_config_with_the_key_is_taken_from_anywhere(serve, peer):
    async with serve(admin_key=KEY, peer=peer) as serving:
        response = await serving.client.patch("/config", json={"thresholds": 0}, headers=BEARER)
        assert response.status_code == 200


@pytest.mark.parametrize("authorization", [f"bearer {KEY}", f"BEARER  {KEY}"])
async def test_patch_config_scheme_is_read_in_any_case(serve, authorization):
    async with serve(admin_key=KEY) as serving:
        headers = {"authorization": authorization}
        assert (await serving.client.patch("/config", json={"thresholds": 0}, headers=headers)).status_code == 200


async def test_patch_config_key_beyond_ascii_is_compared_as_the_bytes_sent(serve):
    async with serve(admin_key="schlüssel") as serving:
        headers = {"authorization": "Bearer schlüssel".encode()}
        assert (await serving.client.patch("/config", json={"thresholds": 0}, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer wrong", 403),
        (f"Bearer {KEY}r", 403),
        (f"Bearer {KEY[:-1]}", 403),
        (b"Bearer \xff\xfe", 403),
    ],
)
async def test_patch_config_without_the_right_key_is_refused_even_from_loopback(serve, authorization, status):
    async with serve(admin_key=KEY) as serving:
        headers = {} if authorization is None else {"authorization": authorization}
        response = await serving.client.patch("/config", json={"thresholds": 0}, headers=headers)

        assert response.status_code == status
        assert KEY not in response.text
        assert ("www-authenticate" in response.headers) == (status == 401)
        assert unchanged(serving)


async def test_patch_config_is_authorised_before_its_body_is_judged(serve):
    async with serve(admin_key=KEY) as serving:
        assert (await serving.client.patch("/config", content=b"nonsense")).status_code == 401


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_config_is_not_changed_with_the_key_for_classifying(serve, method):
    async with serve(admin_key="alice:hush", api_key=KEY) as serving:
        response = await serving.client.request(method, "/config", json={"thresholds": 0}, headers=BEARER)

        assert response.status_code == 403
        assert unchanged(serving)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(None, 401), ("Basic abc", 401), ("Bearer wrong", 403), ("Bearer hush", 403), (f"Bearer {KEY}", 200)],
)
async def test_classify_where_there_are_api_keys_needs_one_of_them(serve, image, authorization, status):
    async with serve(admin_key="hush", api_key=f"shop:{KEY},lab:other") as serving:
        headers = PNG | ({} if authorization is None else {"authorization": authorization})
        response = await serving.client.post("/classify", content=image(), headers=headers)

        assert response.status_code == status
        assert ("www-authenticate" in response.headers) == (status == 401)
        assert KEY not in response.text
        assert await serving.images_are_accounted_for()


async def test_classify_without_api_keys_takes_whatever_a_client_sends_anyway(serving, image):
    response = await serving.client.post("/classify", content=image(), headers=PNG | BEARER)

    assert response.status_code == 200


async def test_probes_and_metrics_need_no_key(serve):
    async with serve(admin_key="hush", api_key=KEY) as serving:
        paths = ("/livez", "/readyz", "/metrics", "/config", "/config/history", "/info", "/models")
        assert {(await serving.client.get(path)).status_code for path in paths} == {200}
