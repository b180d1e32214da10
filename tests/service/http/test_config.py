"""`/config`: reading and changing."""

import asyncio
from datetime import datetime, timedelta

import pytest

from service.errors import StoreUnavailableError

PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


def unchanged(serving):
    return serving.context.operating_points.current.version == 1


async def test_get_config_returns_the_document_with_its_etag(serving):
    response = await serving.client.get("/config")

    document = response.json()
    updated_at = datetime.fromisoformat(document.pop("updated_at"))
    assert updated_at.utcoffset() == timedelta(0)
    assert document == {
        "version": 1,
        "thresholds": [0.9, 0.8, 0.7],
        "target": None,
        "operating_point": None,
        "temperatures": [1.0, 1.1, 1.2, 1.3],
        "limits": {
            "max_inflight": 512,
            "max_batch_size": 64,
            "max_image_pixels": 50_000_000,
            "max_body_bytes": 32 * 2**20,
            "max_images_per_request": 64,
        },
        "expected": None,
    }
    assert response.headers["etag"] == '"1"'


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json; charset=utf-8"])
async def test_patch_config_thresholds_makes_the_next_version(serving, content_type):
    before = (await serving.client.get("/config")).json()
    body = b'{"thresholds": [0.1, 0.2, 1.5]}'
    response = await serving.client.patch("/config", content=body, headers={"content-type": content_type})

    assert response.status_code == 200
    after = response.json()
    assert (after["version"], after["thresholds"]) == (2, [0.1, 0.2, 1.5])
    assert response.headers["etag"] == '"2"'
    assert datetime.fromisoformat(after["updated_at"]) >= datetime.fromisoformat(before["updated_at"])
    assert (await serving.client.get("/config")).json() == after


@pytest.mark.parametrize("number", [0, 0.5, 1, 1.5])
async def test_patch_config_one_number_holds_for_all_exits(serving, number):
    response = await serving.client.patch("/config", json={"thresholds": number})

    assert response.json()["thresholds"] == [number] * 3


@pytest.mark.parametrize(("thresholds", "stage", "reason"), [(0, 0, "confident"), (1.01, 3, "final")])
async def test_patch_config_zero_always_exits_and_above_one_never(serving, image, thresholds, stage, reason):
    await serving.client.patch("/config", json={"thresholds": thresholds})
    answers = [(await serving.client.post("/classify", content=image(red), headers=PNG)).json() for red in (0, 180)]

    assert {(answer["exit"]["stage"], answer["exit"]["reason"]) for answer in answers} == {(stage, reason)}
    assert {answer["config_version"] for answer in answers} == {2}


async def test_patch_config_that_names_nothing_changes_nothing(serving):
    before = (await serving.client.get("/config")).json()
    response = await serving.client.patch("/config", json={})

    assert response.json() == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["JSON"]),
        (b"{", ["JSON"]),
        (b"\xff", ["JSON"]),
        (b"[" * 60_000, ["JSON"]),
        (b"[]", ["object"]),
        (b"null", ["object"]),
        (b'{"threshold": 0.5}', ["threshold", "unknown"]),
        (b'{"version": 5}', ["version", "unknown"]),
        (b'{"thresholds": null}', ["thresholds", "None"]),
        (b'{"thresholds": true}', ["thresholds", "True"]),
        (b'{"thresholds": "0.5"}', ["thresholds", "0.5"]),
        (b'{"thresholds": []}', ["3", "0"]),
        (b'{"thresholds": [0.9, 0.8]}', ["3", "2"]),
        (b'{"thresholds": [0.9, "x", 0.7]}', ["thresholds", "'x'"]),
        (b'{"thresholds": [0.9, 0.8, -0.1]}', ["threshold", "-0.1"]),
        (b'{"thresholds": NaN}', ["threshold", "nan"]),
        (b'{"thresholds": 1e999}', ["threshold", "inf"]),
        (b'{"thresholds": 0.5, "colour": "red"}', ["colour"]),
    ],
)
async def test_patch_config_that_is_not_valid_is_refused_whole(serving, body, words):
    response = await serving.client.patch("/config", content=body, headers=JSON)

    assert response.status_code == 422
    assert all(word in response.json()["detail"] for word in words)
    assert unchanged(serving)


async def test_patch_config_body_over_the_limit_is_413(serving):
    response = await serving.client.patch("/config", content=b" " * 65_537, headers=JSON)

    assert response.status_code == 413
    assert "65536" in response.json()["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonp", ""])
async def test_patch_config_other_content_type_is_415(serving, content_type):
    headers = {"content-type": content_type}
    response = await serving.client.patch("/config", content=b'{"thresholds": 0}', headers=headers)

    assert response.status_code == 415
    assert unchanged(serving)


@pytest.mark.parametrize("if_match", ['"1"', "*", '"7", "1"'])
async def test_patch_config_if_match_of_the_current_version_changes_it(serving, if_match):
    response = await serving.client.patch("/config", json={"thresholds": 0}, headers={"if-match": if_match})

    assert (response.status_code, response.headers["etag"]) == (200, '"2"')


@pytest.mark.parametrize("if_match", ['"2"', "1", 'W/"1"', "", "anything"])
@pytest.mark.parametrize("patch", [{"thresholds": 0}, {}])
async def test_patch_config_if_match_of_another_version_is_412_and_changes_nothing(serving, if_match, patch):
    response = await serving.client.patch("/config", json=patch, headers={"if-match": if_match})

    assert response.status_code == 412
    assert "version 1" in response.json()["detail"]
    assert unchanged(serving)


async def test_patch_config_of_several_conditional_writers_exactly_one_wins(serving):
    responses = await asyncio.gather(
        *(
            serving.client.patch("/config", json={"thresholds": number / 10}, headers={"if-match": '"1"'})
            for number in range(8)
        )
    )

    assert sorted(response.status_code for response in responses) == [200, *[412] * 7]
    winner = next(response for response in responses if response.status_code == 200)
    assert (await serving.client.get("/config")).json() == winner.json()


async def test_patch_config_one_way_to_say_it_at_a_time(serving):
    body = {"thresholds": 0.5, "target": {"accuracy": 0.5}}
    response = await serving.client.patch("/config", json=body)

    assert response.status_code == 422
    assert "only one of them" in response.json()["detail"]
    assert unchanged(serving)


async def test_put_config_replaces_it(serving):
    response = await serving.client.put("/config", json={"thresholds": [0.1, 0.2, 0.3]}, headers={"if-match": '"1"'})

    assert (response.status_code, response.headers["etag"]) == (200, '"2"')
    assert response.json()["thresholds"] == [0.1, 0.2, 0.3]
    assert (await serving.client.get("/config")).json() == response.json()


async def test_put_config_that_says_nothing_is_refused(serving):
    response = await serving.client.put("/config", json={})

    assert response.status_code == 422
    assert "give thresholds, a target or an operating_point" in response.json()["detail"]


async def test_put_config_over_another_version_is_412(serving):
    response = await serving.client.put("/config", json={"thresholds": 0}, headers={"if-match": '"9"'})

    assert response.status_code == 412
    assert unchanged(serving)


async def test_patch_config_store_gone_is_503_and_classification_goes_on(serving, image, monkeypatch):
    async def gone(*_, **__):
        raise StoreUnavailableError("Redis cannot be used: gone")

    monkeypatch.setattr(serving.backend.operating_points._store, "replace", gone)
    response = await serving.client.patch("/config", json={"thresholds": 0})

    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["title"] == "Configuration store unavailable"
    assert unchanged(serving)
    assert (await serving.client.post("/classify", content=image(), headers=PNG)).status_code == 200
    assert await serving.metric("dvt_config_store_up") == 0


async def test_config_history_newest_first_with_who_and_when(serve):
    async with serve(admin_key="alice:hush,bob:shush") as serving:
        for key, number in (("hush", 0.1), ("shush", 0.2)):
            headers = {"authorization": f"Bearer {key}"}
            assert (await serving.client.patch("/config", json={"thresholds": number}, headers=headers)).is_success
        response = await serving.client.get("/config/history")

    versions = response.json()["versions"]
    assert [(each["version"], each["changed_by"], each["thresholds"][0]) for each in versions] == [
        (3, "bob", 0.2),
        (2, "alice", 0.1),
        (1, "model", 0.9),
    ]
    times = [datetime.fromisoformat(each["updated_at"]) for each in versions]
    assert times == sorted(times, reverse=True)
    assert "hush" not in response.text


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/config"), ("PUT", "/config"), ("POST", "/config/simulate")])
async def test_config_unknown_query_parameter_is_422_and_changes_nothing(serving, method, path):
    body = {"thresholds": [0.1, 0.2, 0.3]}
    response = await serving.client.request(method, path, params={"dry_run": "true"}, json=body)

    assert response.status_code == 422
    assert "'dry_run'" in response.json()["detail"]
    assert "/config/simulate" in response.json()["detail"]
    assert unchanged(serving)
