"""The routes for operators: probes, metrics, and what is loaded."""

import asyncio

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service.errors import DeviceLostError


async def probe(serving):
    livez, readyz = await asyncio.gather(serving.client.get("/livez"), serving.client.get("/readyz"))
    return livez, readyz


async def assert_alive_but_not_ready(serving, state):
    livez, readyz = await probe(serving)
    assert (livez.status_code, livez.json()) == (200, {"live": True, "state": state})
    assert readyz.status_code == 503
    assert state in readyz.json()["detail"]
    assert int(readyz.headers["retry-after"]) >= 1


async def test_probes_when_ready_all_answer_200_under_every_name(serving):
    for path in ("/livez", "/healthz"):
        live = await serving.client.get(path)
        assert (live.status_code, live.json()) == (200, {"live": True, "state": "ready"})
    for path in ("/readyz", "/health", "/ping"):
        ready = await serving.client.get(path)
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "state": "ready"})
    assert await serving.total("dvt_requests_total") == 0


async def test_probes_while_warming_up_are_alive_but_not_ready(serve, make_runner):
    runner = make_runner()
    runner.warm.clear()
    async with serve(runner=runner, wait_ready=False) as serving:
        await assert_alive_but_not_ready(serving, "starting")

        runner.warm.set()
        await serving.until(lambda: serving.context.ready)
        assert (await probe(serving))[1].status_code == 200


async def test_probes_while_draining_are_alive_but_not_ready(serving, image):
    serving.context.draining = True
    await assert_alive_but_not_ready(serving, "draining")

    assert [(await serving.client.get(path)).status_code for path in ("/health", "/ping")] == [503, 503]
    # A balancer takes a moment to notice; until then requests still come and are answered.
    assert (await serving.classify(image())).status_code == 200


@pytest.mark.parametrize("draining", [False, True])
async def test_probes_with_a_dead_device_all_fail_and_the_process_is_ended(serving, image, draining):
    serving.runner.error = DeviceLostError("gone")
    assert (await serving.classify(image())).status_code == 503
    await serving.until(lambda: not serving.context.alive)
    serving.context.draining = draining

    for path in ("/livez", "/healthz", "/readyz"):
        response = await serving.client.get(path)
        assert response.status_code == 503
        assert "dead" in response.json()["detail"]
    assert (await serving.client.get("/info")).json()["state"] == "dead"
    await serving.until_metric(1, "dvt_device_errors_total", kind="device_lost")
    await serving.until(lambda: serving.deaths == [True])


async def test_probes_after_a_warm_up_that_failed_both_fail(serve, make_runner):
    class BrokenRunner(make_runner):
        def warm_up(self):
            raise ValueError("a secret detail of the warm-up")

    async with serve(runner=BrokenRunner(), wait_ready=False) as serving:
        await serving.until(lambda: not serving.context.alive)

        livez, readyz = await probe(serving)
        assert livez.status_code == readyz.status_code == 503
        assert "secret" not in livez.text + readyz.text
        await serving.until_metric(1, "dvt_device_errors_total", kind="warm_up")


async def test_metrics_after_a_request_are_prometheus_text_with_its_counts(serving, image):
    await serving.classify(image(60))
    response = await serving.client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert samples["dvt_requests_total", "200"] == samples["dvt_images_total",] == 1
    assert samples["dvt_exits_total", "confident", "1"] == 1
    assert (samples["dvt_macs_total",], samples["dvt_baseline_macs_total",]) == (400, 4000)
    assert [samples["dvt_batch_size_count", stage] for stage in "0123"] == [1, 1, 0, 0]


async def test_metrics_for_a_scraper_that_prefers_openmetrics_are_openmetrics(serving):
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    response = await serving.client.get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.headers["vary"] == "Accept"
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(response.text)}
    assert families["dvt_build"].type == "info"
    assert families["dvt_requests"].type == "counter"


async def test_metrics_gauges_show_the_live_configuration_and_the_queues(serve, image):
    async with serve(max_batch_size=1) as serving:
        await serving.client.patch("/config", json={"thresholds": [0.1, 0.2, 0.3]})
        serving.runner.may_run.clear()
        requests = [asyncio.create_task(serving.classify(image())) for _ in range(3)]
        await serving.until(lambda: serving.runner.runs and serving.backend.engine.queue_depths() == (2, 0, 0, 0))

        assert [await serving.metric("dvt_queue_depth", stage=stage) for stage in "0123"] == [2, 0, 0, 0]
        assert [await serving.metric("dvt_threshold", stage=stage) for stage in "012"] == [0.1, 0.2, 0.3]
        assert await serving.metric("dvt_config_version") == 2
        serving.runner.may_run.set()
        await asyncio.gather(*requests)
        assert await serving.metric("dvt_queue_depth", stage="0") == 0


async def test_models_describes_every_exit_with_its_cost_and_the_models_own_thresholds(serving):
    await serving.client.patch("/config", json={"thresholds": 0})
    (model,) = (await serving.client.get("/models")).json()["models"]

    assert model["name"] == "test-model"
    assert model["class_names"][:2] == ["cat", "dog"]
    assert model["baseline_macs"] == 4000
    of_one = {"stage": 1, "grid": 4, "px": 28, "num_tokens": 17, "macs": 300, "cumulative_macs": 400, "fraction": 0.1}
    assert model["stages"][1] == of_one
    assert [stage["cumulative_macs"] for stage in model["stages"]] == [100, 400, 1300, 4000]
    assert model["thresholds"] == [0.9, 0.8, 0.7]
    assert model["temperatures"] == [1.0, 1.1, 1.2, 1.3]
    assert model["preprocessing"]["crop_px"] == 28
    assert model["provenance"] == {"data": "none"}


async def test_info_names_what_runs_where(serving):
    info = (await serving.client.get("/info")).json()

    assert (info["model"], info["state"], info["device"], info["dtype"]) == ("test-model", "ready", "cpu", "float32")
    assert set(info["versions"]) == {"python", "torch", "fastapi", "pydantic", "pillow"}
