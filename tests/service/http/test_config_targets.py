"""Targets, and what a configuration is expected to do."""

import numpy as np
import pytest

from weights.calibration.table import CalibrationTable


@pytest.fixture
def calibration():
    """Ten images: exit 0 is right for five and knows which, exit 1 for eight, the others for all."""
    confidence = [[0.9] * 5 + [0.3] * 5, [0.9] * 8 + [0.3] * 2, [0.9] * 10, [0.9] * 10]
    correct = [[True] * 5 + [False] * 5, [True] * 8 + [False] * 2, [True] * 10, [True] * 10]
    return CalibrationTable(np.array(confidence, dtype=np.float32), np.array(correct))


async def test_get_config_with_a_calibration_table_says_what_to_expect(serve):
    confidence = np.array([[0.95, 0.5], [0.5, 0.9], [0.5, 0.5], [0.5, 0.5]], dtype=np.float32)
    correct = np.array([[True, False], [True, False], [True, True], [True, True]])
    async with serve(calibration=CalibrationTable(confidence, correct)) as serving:
        expected = (await serving.client.get("/config")).json()["expected"]
        assert expected == {"accuracy": 0.5, "mean_macs": 250.0, "exit_shares": [0.5, 0.5, 0.0, 0.0]}
        changed = (await serving.client.patch("/config", json={"thresholds": 2})).json()["expected"]
        assert changed == {"accuracy": 1.0, "mean_macs": 4000.0, "exit_shares": [0.0, 0.0, 0.0, 1.0]}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("target", "accuracy", "mean_macs"),
    [
        ({"mean_macs": 100}, 0.5, 100),
        ({"fraction": 0.13}, 1.0, 430),
        ({"accuracy": 0.8}, 0.8, 250),
        ({"accuracy_drop": 0}, 1.0, 430),
    ],
)
async def test_config_target_is_solved_and_remembered(serve, calibration, method, target, accuracy, mean_macs):
    async with serve(calibration=calibration) as serving:
        response = await serving.client.request(method, "/config", json={"target": target})
        document = response.json()

        assert (response.status_code, document["version"], document["target"]) == (200, 2, target)
        assert (document["expected"]["accuracy"], document["expected"]["mean_macs"]) == (accuracy, mean_macs)
        assert (await serving.client.get("/config")).json() == document
        assert (await serving.client.get("/config/history")).json()["versions"][0]["target"] == target
        given = (await serving.client.patch("/config", json={"thresholds": document["thresholds"]})).json()
        assert given["target"] is None


@pytest.mark.parametrize("path", ["/config", "/config/simulate"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({}, ["exactly one of mean_macs, fraction, accuracy, accuracy_drop"]),
        ({"accuracy": 0.5, "mean_macs": 100}, ["exactly one of"]),
        ({"mean_macs": 99}, ["mean_macs 99", "100"]),
        ({"mean_macs": 0}, ["target.mean_macs", "0"]),
        ({"mean_macs": -1}, ["target.mean_macs", "-1"]),
        ({"mean_macs": "100"}, ["target.mean_macs", "'100'"]),
        ({"mean_macs": True}, ["target.mean_macs", "True"]),
        ({"accuracy": 1.5}, ["target.accuracy", "1.5"]),
        ({"accuracy_drop": -0.1}, ["target.accuracy_drop", "-0.1"]),
        ({"latency": 5}, ["target.latency", "unknown"]),
        (None, ["target"]),
        (0.5, ["target", "0.5"]),
    ],
)
async def test_config_target_that_is_none_is_refused(serve, calibration, path, target, words):
    async with serve(calibration=calibration) as serving:
        method = "PATCH" if path == "/config" else "POST"
        response = await serving.client.request(method, path, json={"target": target})

        assert response.status_code == 422
        assert all(word in response.json()["detail"] for word in words), response.json()["detail"]
        assert serving.context.operating_points.current.version == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/config", {"target": {"accuracy": 0.5}}), ("/config/simulate", {}), ("/config/simulate", {"thresholds": 0.5})],
)
async def test_config_without_a_calibration_table_targets_are_refused(serving, path, body):
    method = "PATCH" if path == "/config" else "POST"
    response = await serving.client.request(method, path, json=body)

    assert response.status_code == 422
    assert "no calibration table" in response.json()["detail"]


async def test_simulate_says_what_would_be_and_changes_nothing(serve, calibration):
    async with serve(calibration=calibration, admin_key="hush") as serving:
        before = (await serving.client.get("/config")).json()
        simulated = await serving.client.post("/config/simulate", json={"target": {"accuracy": 0.8}})
        by_hand = await serving.client.post("/config/simulate", json={"thresholds": simulated.json()["thresholds"]})

        assert simulated.json()["target"] == {"accuracy": 0.8}
        assert simulated.json()["expected"] == {
            "accuracy": 0.8,
            "mean_macs": 250.0,
            "exit_shares": [0.5, 0.5, 0.0, 0.0],
        }
        assert by_hand.json() == {**simulated.json(), "target": None}
        assert (await serving.client.get("/config")).json() == before


async def test_simulate_of_nothing_is_what_holds_now(serve, calibration):
    async with serve(calibration=calibration) as serving:
        await serving.client.patch("/config", json={"target": {"accuracy": 0.8}})
        document = (await serving.client.get("/config")).json()
        simulated = (await serving.client.post("/config/simulate", json={})).json()

        assert simulated == {name: document[name] for name in simulated}
        assert simulated["target"] == {"accuracy": 0.8}


async def test_simulate_is_what_a_patch_then_expects(serve, calibration):
    async with serve(calibration=calibration) as serving:
        body = {"thresholds": [0.5, 0.95, 2]}
        simulated = (await serving.client.post("/config/simulate", json=body)).json()
        document = (await serving.client.patch("/config", json=body)).json()

        assert simulated["expected"] == document["expected"]


async def test_curve_names_what_each_cost_can_buy_and_what_each_exit_can_do(serve, calibration):
    async with serve(calibration=calibration) as serving:
        curve = (await serving.client.get("/config/curve")).json()
        points = [(point["mean_macs"], point["accuracy"]) for point in curve["points"]]
        assert (points[0], points[-1]) == ((100, 0.5), (430, 1.0))
        assert points == sorted(points)
        for point in curve["points"]:
            wanted = {"thresholds": point.pop("thresholds")}
            assert (await serving.client.post("/config/simulate", json=wanted)).json()["expected"] == point

        assert [(exit_["accuracy"], exit_["mean_macs"]) for exit_ in curve["exits"]] == [
            (0.5, 100),
            (0.8, 400),
            (1.0, 1300),
            (1.0, 4000),
        ]
        assert curve["baseline_macs"] == serving.context.engine.baseline_macs


async def test_curve_without_a_calibration_table_is_empty(serving):
    curve = (await serving.client.get("/config/curve")).json()

    assert (curve["points"], curve["exits"]) == ([], [])
