"""`/config`: reading, changing and simulating the configuration."""

import asyncio
from datetime import datetime, timedelta

import numpy as np
import pytest

from service.errors import StoreUnavailableError
from weights.calibration.table import CalibrationTable

JSON = {"content-type": "application/json"}


@pytest.fixture
def calibration():
    """Ten images: exit 0 is right for five and knows which, exit 1 for eight, the others for all."""
    confidence = [[0.9] * 5 + [0.3] * 5, [0.9] * 8 + [0.3] * 2, [0.9] * 10, [0.9] * 10]
    correct = [[True] * 5 + [False] * 5, [True] * 8 + [False] * 2, [True] * 10, [True] * 10]
    return CalibrationTable(np.array(confidence, dtype=np.float32), np.array(correct))


def assert_refused(serving, response, status, *words):
    """The response has this status and words, and the configuration is unchanged."""
    assert response.status_code == status, response.text
    assert [word for word in words if word not in response.json()["detail"]] == [], response.json()["detail"]
    assert serving.context.operating_points.current.version == 1


async def test_get_config_returns_the_document_with_its_etag(serving):
    response = await serving.client.get("/config")

    document = response.json()
    assert datetime.fromisoformat(document.pop("updated_at")).utcoffset() == timedelta(0)
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


@pytest.mark.parametrize(
    ("method", "content_type", "if_match"),
    [("PATCH", "application/merge-patch+json; charset=utf-8", "*"), ("PUT", "application/json", '"7", "1"')],
)
async def test_config_change_makes_the_next_version(serving, method, content_type, if_match):
    before = (await serving.client.get("/config")).json()
    headers = {"content-type": content_type, "if-match": if_match}
    body = b'{"thresholds": [0.1, 0.2, 1.5]}'
    response = await serving.client.request(method, "/config", content=body, headers=headers)

    after = response.json()
    assert (response.status_code, response.headers["etag"]) == (200, '"2"')
    assert (after["version"], after["thresholds"]) == (2, [0.1, 0.2, 1.5])
    assert datetime.fromisoformat(after["updated_at"]) >= datetime.fromisoformat(before["updated_at"])
    assert (await serving.client.get("/config")).json() == after
    assert (await serving.client.patch("/config", json={})).json() == after


async def test_patch_config_one_number_holds_for_all_exits(serving, image):
    for number, stage in ((0, 0), (1.01, 3)):
        document = (await serving.client.patch("/config", json={"thresholds": number})).json()
        answers = [(await serving.client.post("/classify", content=image(red))).json() for red in (0, 180)]

        assert document["thresholds"] == [number] * 3
        assert {(answer["exit"]["stage"], answer["config_version"]) for answer in answers} == {
            (stage, document["version"])
        }


async def test_patch_config_that_is_not_valid_is_refused_whole(serving):
    for body, *words in (
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 60_000, "JSON"),
        (b"null", "object"),
        (b'{"threshold": 0.5}', "threshold", "unknown"),
        (b'{"thresholds": null}', "thresholds", "None"),
        (b'{"thresholds": "0.5"}', "thresholds", "0.5"),
        (b'{"thresholds": [0.9, 0.8]}', "3", "2"),
        (b'{"thresholds": [0.9, 0.8, -0.1]}', "threshold", "-0.1"),
        (b'{"thresholds": 1e999}', "threshold", "inf"),
        (b'{"thresholds": 0.5, "target": {"accuracy": 0.5}}', "only one of them"),
        (b'{"operating_point": "thrifty"}', "operating_point 'thrifty'", "none"),
    ):
        response = await serving.client.patch("/config", content=body, headers=JSON)
        assert_refused(serving, response, 422, *words)


async def test_config_request_that_is_not_of_its_form_is_refused(serving):
    change = serving.client.patch
    assert_refused(serving, await change("/config", content=b" " * 65_537, headers=JSON), 413, "65536")
    for content_type in ("application/jsonp", ""):
        headers = {"content-type": content_type}
        assert_refused(serving, await change("/config", content=b'{"thresholds": 0}', headers=headers), 415, "json")
    assert_refused(serving, await serving.client.put("/config", json={}), 422, "give thresholds, a target")
    for method, path in (("PATCH", "/config"), ("PUT", "/config"), ("POST", "/config/simulate")):
        response = await serving.client.request(method, path, params={"dry_run": "true"}, json={"thresholds": 0})
        assert_refused(serving, response, 422, "'dry_run'", "/config/simulate")


async def test_config_if_match_of_another_version_is_412_and_changes_nothing(serving):
    for if_match in ('"2"', "1", 'W/"1"', "", "anything"):
        for method, body in (("PATCH", {"thresholds": 0}), ("PATCH", {}), ("PUT", {"thresholds": 0})):
            response = await serving.client.request(method, "/config", json=body, headers={"if-match": if_match})
            assert_refused(serving, response, 412, "version 1")


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


async def test_patch_config_store_gone_is_503_and_classification_goes_on(serving, image, monkeypatch):
    async def gone(*_, **__):
        raise StoreUnavailableError("Redis cannot be used: gone")

    monkeypatch.setattr(serving.backend.operating_points._store, "replace", gone)
    response = await serving.client.patch("/config", json={"thresholds": 0})

    assert_refused(serving, response, 503, "Redis")
    assert response.headers["retry-after"] == "5"
    assert (await serving.client.post("/classify", content=image())).status_code == 200
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


async def test_config_target_is_solved_and_remembered(serve, calibration):
    async with serve(calibration=calibration) as serving:
        for target, accuracy, mean_macs in (
            ({"mean_macs": 100}, 0.5, 100),
            ({"fraction": 0.13}, 1.0, 430),
            ({"accuracy": 0.8}, 0.8, 250),
            ({"accuracy_drop": 0}, 1.0, 430),
        ):
            document = (await serving.client.put("/config", json={"target": target})).json()
            expected = document["expected"]
            assert (document["target"], expected["accuracy"], expected["mean_macs"]) == (target, accuracy, mean_macs)
            assert (await serving.client.get("/config")).json() == document
            assert (await serving.client.get("/config/history")).json()["versions"][0]["target"] == target
        given = (await serving.client.patch("/config", json={"thresholds": document["thresholds"]})).json()
        assert (given["target"], given["expected"]) == (None, document["expected"])


async def test_config_target_that_is_none_is_refused(serve, calibration):
    async with serve(calibration=calibration) as serving:
        for target, *words in (
            ({}, "exactly one of mean_macs, fraction, accuracy, accuracy_drop"),
            ({"accuracy": 0.5, "mean_macs": 100}, "exactly one of"),
            ({"mean_macs": 99}, "mean_macs 99", "100"),
            ({"mean_macs": 0}, "target.mean_macs", "0"),
            ({"mean_macs": "100"}, "target.mean_macs", "'100'"),
            ({"accuracy": 1.5}, "target.accuracy", "1.5"),
            ({"accuracy_drop": -0.1}, "target.accuracy_drop", "-0.1"),
            ({"latency": 5}, "target.latency", "unknown"),
            (None, "target"),
        ):
            for method, path in (("PATCH", "/config"), ("POST", "/config/simulate")):
                response = await serving.client.request(method, path, json={"target": target})
                assert_refused(serving, response, 422, *words)


async def test_config_without_a_calibration_table_has_no_targets_and_no_curve(serving):
    client = serving.client
    curve = (await client.get("/config/curve")).json()
    assert (curve["points"], curve["exits"]) == ([], [])
    for response in (
        await client.patch("/config", json={"target": {"accuracy": 0.5}}),
        await client.post("/config/simulate", json={}),
        await client.post("/config/simulate", json={"thresholds": 0.5}),
    ):
        assert_refused(serving, response, 422, "no calibration table")


async def test_simulate_is_what_a_patch_then_expects_and_changes_nothing(serve, calibration):
    async with serve(calibration=calibration) as serving:
        for body in ({"target": {"accuracy": 0.8}}, {"thresholds": [0.5, 0.95, 2]}, {}):
            before = (await serving.client.get("/config")).json()
            simulated = (await serving.client.post("/config/simulate", json=body)).json()
            assert (await serving.client.get("/config")).json() == before
            document = (await serving.client.patch("/config", json=body)).json()
            assert simulated == {name: document[name] for name in simulated}

        assert set(simulated) == {"thresholds", "target", "operating_point", "expected"}
        assert simulated["expected"] == {"accuracy": 1.0, "mean_macs": 2050.0, "exit_shares": [0.5, 0.0, 0.0, 0.5]}


async def test_curve_names_what_each_cost_can_buy_and_what_each_exit_can_do(serve, calibration):
    async with serve(calibration=calibration) as serving:
        curve = (await serving.client.get("/config/curve")).json()
        points = [(point["mean_macs"], point["accuracy"]) for point in curve["points"]]
        assert (points[0], points[-1]) == ((100, 0.5), (430, 1.0))
        assert points == sorted(points)
        for point in curve["points"]:
            wanted = {"thresholds": point.pop("thresholds")}
            assert (await serving.client.post("/config/simulate", json=wanted)).json()["expected"] == point

        exits = [(exit_["accuracy"], exit_["mean_macs"]) for exit_ in curve["exits"]]
        assert exits == [(0.5, 100), (0.8, 400), (1.0, 1300), (1.0, 4000)]
        assert curve["baseline_macs"] == serving.context.engine.baseline_macs
