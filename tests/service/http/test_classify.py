"""`POST /classify`: what goes in and what comes out."""

import asyncio
import time

import pytest

PNG = {"content-type": "image/png"}


def files(*contents):
    return [("file", (f"{index}.png", content, "image/png")) for index, content in enumerate(contents)]


async def test_classify_one_raw_image_returns_the_documented_object(serving, image):
    response = await serving.client.post("/classify", content=image(60), headers=PNG)

    assert response.status_code == 200
    answer = response.json()
    timing = answer.pop("timing_ms")
    assert list(timing) == ["decode", "queue", "compute", "total"]
    assert 0 <= timing["decode"] + timing["queue"] + timing["compute"] <= timing["total"] + 1
    rest = pytest.approx(0.05 / 9)
    assert answer == {
        "id": response.headers["x-request-id"],
        "model": "test-model",
        "config_version": 1,
        "label": "dog",
        "index": 1,
        "confidence": 0.95,
        "top": [
            {"label": "dog", "index": 1, "confidence": 0.95},
            {"label": "cat", "index": 0, "confidence": rest},
            {"label": "ship", "index": 2, "confidence": rest},
            {"label": "frog", "index": 3, "confidence": rest},
            {"label": "deer", "index": 4, "confidence": rest},
        ],
        "exit": {"stage": 1, "grid": 4, "reason": "confident", "threshold": 0.8},
        "compute": {"macs": 400, "baseline_macs": 4000, "fraction": 0.1, "tokens": 22},
    }
    headers = {name: response.headers[f"x-dvt-{name}"] for name in ("exit-stage", "macs", "config-version")}
    assert headers == {"exit-stage": "1", "macs": "400", "config-version": "1"}
    assert response.headers["server-timing"].endswith(f", total;dur={timing['total']}")


async def test_classify_parameters_decide_the_exit(serving, image):
    for red, query, stage, reason, macs, threshold in (
        (120, "", 2, "confident", 1300, 0.7),
        (180, "", 3, "final", 4000, None),
        (180, "thresholds=0", 0, "confident", 100, 0.0),
        (180, "thresholds=0.9,0.4,0.9", 1, "confident", 400, 0.4),
        (0, "min_stage=2", 2, "confident", 1300, 0.7),
        (180, "max_stage=1", 1, "max_stage", 400, 0.8),
        (180, "max_macs=1299", 1, "max_macs", 400, 0.8),
        (180, "max_macs=1300", 2, "max_macs", 1300, 0.7),
    ):
        serving.runner.runs.clear()
        answer = (await serving.client.post(f"/classify?{query}", content=image(red), headers=PNG)).json()
        exit_ = {"stage": stage, "grid": (2, 4, 7, 14)[stage], "reason": reason, "threshold": threshold}
        assert (answer["exit"], answer["compute"]["macs"]) == (exit_, macs), query
        assert [ran for ran, _ in serving.runner.runs] == list(range(stage + 1))


async def test_classify_trace_lists_every_stage_that_ran(serving, image):
    request = serving.client.build_request("POST", "/classify?trace=true&top_k=1", content=image(60))
    assert "content-type" not in request.headers
    answer = (await serving.client.send(request)).json()

    assert [entry["label"] for entry in answer["top"]] == ["dog"]
    assert answer["trace"] == [
        {"stage": 0, "grid": 2, "threshold": 0.9, "label": "dog", "index": 1, "confidence": 0.5},
        {"stage": 1, "grid": 4, "threshold": 0.8, "label": "dog", "index": 1, "confidence": 0.95},
    ]


async def test_classify_one_file_part_returns_an_object(serving, image):
    response = await serving.client.post("/classify", files=files(image(60)))

    assert response.json()["label"] == "dog"


async def test_classify_several_files_answer_in_order_and_a_bad_one_alone_fails(serving, image):
    response = await serving.client.post("/classify", files=files(image(120), b"not an image", image(0)))

    assert response.status_code == 200
    answer = response.json()
    assert (answer["model"], answer["config_version"]) == ("test-model", 1)
    first, second, third = answer["results"]
    assert (first["label"], third["label"]) == ("ship", "cat")
    assert second["error"]["status"] == 400
    assert "not an image" in second["error"]["detail"]
    assert second["error"]["request_id"] == answer["id"] == response.headers["x-request-id"]
    assert "x-dvt-exit-stage" not in response.headers
    assert response.headers["x-dvt-config-version"] == "1"


async def test_classify_corrupt_and_tiny_and_failing_images_leave_their_neighbours_alone(serve, make_runner, image):
    runner = make_runner()
    async with serve(runner=runner) as serving:
        runner.may_run.clear()
        neighbour = asyncio.create_task(serving.client.post("/classify", content=image(120), headers=PNG))
        contents = [image(60), image(0, (64, 64))[:-40], image(60, (1, 1)), image(250), image(180)]
        batch = asyncio.create_task(serving.client.post("/classify", files=files(*contents)))
        await serving.until_metric(1, "dvt_rejected_total", reason="undecodable")
        await serving.until(lambda: serving.context.engine.inflight == 5 and bool(runner.runs))
        runner.may_run.set()

        results = (await batch).json()["results"]
        said = [result.get("label") or result["error"]["status"] for result in results]
        assert said == ["dog", 400, "dog", 500, "frog"]
        assert "secret" not in results[3]["error"]["detail"]
        assert await serving.metric("dvt_failed_images_total", stage="0") == 1
        assert (await neighbour).json()["label"] == "ship"
        assert serving.at_rest()
        assert await serving.images_are_accounted_for()


async def test_classify_keeps_the_configuration_it_was_admitted_with(serving, image):
    serving.runner.may_run.clear()
    early = asyncio.create_task(serving.client.post("/classify", content=image(180), headers=PNG))
    await serving.until(lambda: len(serving.runner.runs) == 1)
    await serving.client.patch("/config", json={"thresholds": 0})
    late = asyncio.create_task(serving.client.post("/classify", content=image(180), headers=PNG))
    await serving.until(lambda: serving.context.engine.inflight == 2)
    serving.runner.may_run.set()
    early_answer, late_answer = (await early).json(), (await late).json()

    assert (early_answer["config_version"], early_answer["exit"]["stage"]) == (1, 3)
    assert (late_answer["config_version"], late_answer["exit"]["stage"]) == (2, 0)


async def test_classify_upload_that_ends_after_a_change_is_admitted_under_the_new_configuration(serving, image):
    data = image(180)
    half_sent, changed = asyncio.Event(), asyncio.Event()

    async def body():
        yield data[:10]
        half_sent.set()
        await changed.wait()
        yield data[10:]

    upload = asyncio.create_task(serving.client.post("/classify", content=body(), headers=PNG))
    await half_sent.wait()
    await serving.client.patch("/config", json={"thresholds": 0})
    changed.set()

    assert (await upload).json()["config_version"] == 2


async def test_classify_64_concurrent_requests_share_batches(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.005)) as serving:
        images = {red: image(red) for red in (0, 60, 120, 180)}
        requests = [serving.client.post("/classify", content=images[red], headers=PNG) for red in [*images] * 16]
        responses = await asyncio.gather(*requests)

        labels = [response.json()["label"] for response in responses]
        assert labels == ["cat", "dog", "ship", "frog"] * 16
        assert await serving.metric("dvt_batch_size_sum", stage="0") == 64
        assert await serving.metric("dvt_batch_size_count", stage="0") <= 8
        assert await serving.metric("dvt_queue_duration_seconds_count", stage="3") == 16
        assert serving.at_rest()
        assert await serving.images_are_accounted_for()


@pytest.mark.parametrize(("value", "in_time"), [("1", False), ("60000", True), ("soon", True), ("0", True)])
async def test_classify_proxy_deadline_holds_when_it_makes_sense(serve, make_runner, image, value, in_time):
    async with serve(runner=make_runner(step_s=0.02)) as serving:
        headers = {**PNG, "x-envoy-expected-rq-timeout-ms": value}
        response = await serving.client.post("/classify", content=image(180), headers=headers)

        early = response.status_code == 504 or response.json()["exit"]["reason"] == "deadline"
        assert early is not in_time


async def test_classify_deadline_after_the_first_stage_gives_the_best_answer_so_far(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.1)) as serving:
        answer = (await serving.client.post("/classify?deadline_ms=60", content=image(180), headers=PNG)).json()

        assert (answer["exit"]["reason"], answer["exit"]["stage"]) == ("deadline", 0)


async def test_classify_deadline_counts_the_time_spent_decoding(serving, image, monkeypatch):
    decode = serving.context.decoder.decode_small

    def decode_past_the_deadline(data):
        time.sleep(0.1)
        return decode(data)

    monkeypatch.setattr(serving.context.decoder, "decode_small", decode_past_the_deadline)
    response = await serving.client.post("/classify?deadline_ms=90", content=image(), headers=PNG)

    assert response.status_code == 504
    assert not serving.runner.runs
    assert await serving.metric("dvt_rejected_total", reason="deadline") == 1
    assert serving.at_rest()
