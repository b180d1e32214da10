"""An image that takes long to decode holds up nobody but its own kind, and nobody past a deadline."""

import asyncio

import pytest
from held_decoding import large, ordinary

from service.images.lanes import MAX_LARGE


@pytest.mark.parametrize("lane", [ordinary, large])
async def test_classify_deadline_that_passes_while_an_image_is_decoded_is_504_at_once(
    serving, image, monkeypatch, lane
):
    with lane(monkeypatch, serving, image(60)) as decoding:
        response = await serving.classify(image(60), "?deadline_ms=500")

        assert response.status_code == 504
        assert "before the image was decoded" in response.json()["detail"]
        assert len(decoding.begun) == 1
        assert serving.at_rest()
        assert await serving.metric("dvt_rejected_total", reason="deadline") == 1
    assert await serving.images_are_accounted_for()
    assert not serving.runner.runs


async def test_classify_deadline_of_one_image_in_a_list_spoils_no_other(serving, image, monkeypatch):
    with ordinary(monkeypatch, serving, image(60)):
        files = [("file", ("a", data)) for data in (image(), image(60))]
        response = await serving.client.post("/classify?deadline_ms=300", files=files)

        first, second = response.json()["results"]
        assert (first["label"], second["error"]["status"]) == ("cat", 504)


async def test_classify_while_all_decoding_threads_are_busy_all_else_goes_on(serve, image, monkeypatch):
    async with serve(decode_threads=1, max_inflight=2) as serving:
        slow = image(60)
        with ordinary(monkeypatch, serving, slow) as decoding:
            waiting = [asyncio.create_task(serving.classify(slow))]
            await serving.until(lambda: len(decoding.begun) == 1)

            assert (await serving.classify(image())).json()["label"] == "cat"
            assert (await serving.client.get("/livez")).status_code == 200
            # What cannot be decoded before its deadline takes no thread later.
            assert (await serving.classify(slow, "?deadline_ms=50")).status_code == 504
            waiting.append(asyncio.create_task(serving.classify(slow)))
            await serving.until(lambda: serving.context.engine.inflight == 2)
            assert (await serving.classify(image())).status_code == 429
            decoding.may_end.set()
            assert [(await each).status_code for each in waiting] == [200, 200]
        assert len(decoding.begun) == 2


async def test_classify_large_image_leaves_the_pool_to_ordinary_ones(serve, image, monkeypatch):
    async with serve(decode_threads=1) as serving:
        with large(monkeypatch, serving, image(60)) as decoding:
            waiting = asyncio.create_task(serving.classify(image(60)))
            await serving.until(lambda: len(decoding.begun) == 1)
            monkeypatch.setattr(serving.context.decoder, "decode_small", lambda _: None)

            assert (await serving.classify(image(120))).json()["label"] == "ship"
            decoding.may_end.set()
            assert (await waiting).json()["label"] == "dog"


async def test_classify_more_large_images_than_may_wait_are_429_and_take_no_permits(serving, image, monkeypatch):
    slow = image(60)
    with large(monkeypatch, serving, slow) as decoding:
        # Long enough for a busy machine to begin with the decoding.
        waiting = [asyncio.create_task(serving.classify(slow, "?deadline_ms=500"))]
        await serving.until(lambda: len(decoding.begun) == 1)
        # Given up, it still takes the thread's time.
        assert (await waiting.pop()).status_code == 504
        waiting += [asyncio.create_task(serving.classify(slow)) for _ in range(MAX_LARGE - 1)]
        await serving.until(lambda: serving.context.engine.inflight == MAX_LARGE - 1)
        await serving.until(lambda: not serving.context.lanes.has_room)

        refused = await serving.classify(slow)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert str(MAX_LARGE) in refused.json()["detail"]
        assert await serving.metric("dvt_rejected_total", reason="full") == 1
        decoding.may_end.set()
        assert [(await each).status_code for each in waiting] == [200] * (MAX_LARGE - 1)
    assert (await serving.classify(slow)).status_code == 200
    assert await serving.images_are_accounted_for()
