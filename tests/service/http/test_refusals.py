"""Every status but 200 that `POST /classify` can answer with, and what is left behind: nothing."""

import asyncio
import zlib
from struct import pack

import pytest

from service.engine.engine import EngineState
from service.errors import DeviceLostError

MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def part(name, content=b"data"):
    return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), content)


def png_header_only(width, height):
    """A PNG that announces a size and holds almost nothing."""

    def chunk(kind, data):
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def assert_problem(response, status, *words):
    problem = response.json()
    assert response.status_code == problem["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert all(word in problem["detail"] for word in words), problem["detail"]


async def assert_nothing_is_left(serving, **rejected):
    for reason, count in rejected.items():
        assert await serving.metric("dvt_rejected_total", reason=reason) == count
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"", {}, ["empty"]),
        (b"<svg/>", {"content-type": "image/svg+xml"}, ["not an image"]),
        (part("file"), MULTIPART, ["last boundary"]),
        (None, {}, ["cannot be decoded"]),
    ],
)
async def test_classify_body_that_is_not_what_it_says_is_400(serving, image, body, headers, words):
    cut = image(size=(64, 64))[:-40]
    assert_problem(await serving.classify(cut if body is None else body, **headers), 400, *words)
    await assert_nothing_is_left(serving, undecodable=0 if headers is MULTIPART else 1)


@pytest.mark.parametrize(
    ("headers", "most"), [({"content-length": "1001"}, 0), ({}, 11), (MULTIPART, 11)], ids=["announced", "raw", "parts"]
)
async def test_classify_body_over_the_limit_is_413_before_the_rest_is_read(serve, headers, most):
    async with serve(max_body_bytes=1000) as serving:
        sent = []

        async def body():
            yield part("file")[:-2]
            for _ in range(100):
                sent.append(1)
                yield b"x" * 100

        assert_problem(await serving.classify(body(), **headers), 413, "1000")
        assert len(sent) <= most
        await assert_nothing_is_left(serving, too_large=1)


@pytest.mark.parametrize("side", [11, 20_000])  # the second is beyond Pillow's own limit too
async def test_classify_too_many_pixels_is_413_before_they_are_decoded(serve, side):
    async with serve(max_image_pixels=100) as serving:
        assert_problem(await serving.classify(png_header_only(side, side)), 413, "100")
        await assert_nothing_is_left(serving, too_large=1)


async def test_classify_too_many_files_is_413(serve, image):
    async with serve(max_images_per_request=2) as serving:
        body = [part("file", image())] * 3

        assert_problem(await serving.classify(b"".join(body) + b"--x--", **MULTIPART), 413, "2")
        assert (await serving.classify(b"".join(body[:2]) + b"--x--", **MULTIPART)).status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=red", ["colour"]),
        ("top_k=11", ["top_k", "11", "10"]),
        ("top_k=" + "9" * 5000, ["top_k"]),
        ("thresholds=nan", ["threshold", "nan"]),
        ("thresholds=0.9,0.8", ["3", "2"]),
        ("min_stage=2&max_stage=1", ["min_stage", "2", "1"]),
        ("trace=yes", ["trace", "yes"]),
    ],
)
async def test_classify_bad_parameter_is_422_naming_it(serving, image, query, words):
    assert_problem(await serving.classify(image(), f"?{query}"), 422, *words)
    assert await serving.total("dvt_images_total") == 0


@pytest.mark.parametrize(("max_inflight", "count"), [(2, 2), (1, 1)])
async def test_classify_without_enough_permits_is_429(serve, image, max_inflight, count):
    async with serve(max_inflight=max_inflight) as serving:
        serving.runner.may_run.clear()
        admitted = asyncio.create_task(serving.classify(image()))
        await serving.until(lambda: serving.context.engine.inflight == 1)

        async def never_read():
            pytest.fail("the body was asked for")
            yield b""

        if max_inflight == 1:  # with no permit left, nothing of a request is looked at
            refused = await serving.classify(never_read(), "?no_such=parameter")
        else:
            refused = await serving.classify(part("file", image()) * count + b"--x--", **MULTIPART)
        other = await serving.client.get("/config")
        serving.runner.may_run.set()

        assert_problem(refused, 429, f"1 of {max_inflight}")
        assert int(refused.headers["retry-after"]) >= 1
        assert other.status_code == (await admitted).status_code == 200
        assert await serving.metric("dvt_request_duration_seconds_count") == 2
        await assert_nothing_is_left(serving, full=count)


async def test_classify_while_starting_is_503(serve, make_runner, image):
    runner = make_runner()
    runner.warm.clear()
    async with serve(runner=runner, wait_ready=False) as serving:
        assert_problem(await serving.classify(image()), 503, "starting")
        await assert_nothing_is_left(serving)


async def test_classify_on_a_lost_device_is_503_and_the_process_is_told_to_end(serve, make_runner, image):
    async with serve(runner=make_runner(error=DeviceLostError("gone"))) as serving:
        first = await serving.classify(image())
        second = await serving.classify(image())
        await serving.until(lambda: bool(serving.deaths))

        assert_problem(first, 503)
        assert_problem(second, 503, "dead")
        assert serving.context.engine.state is EngineState.DEAD
        assert await serving.images_are_accounted_for()


async def test_classify_deadline_before_the_first_stage_is_504(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.05)) as serving:
        ahead = asyncio.create_task(serving.classify(image()))
        await serving.until(lambda: len(serving.runner.runs) == 1)
        response = await serving.classify(image(), "?deadline_ms=5")
        await ahead

        assert_problem(response, 504)
        await assert_nothing_is_left(serving, deadline=1)


async def test_classify_stage_that_raises_is_500_without_its_details_and_the_next_request_works(serving, image):
    broken = await serving.classify(image(250))
    healthy = await serving.classify(image(60))

    assert_problem(broken, 500, "stage 0")
    assert "secret" not in broken.text
    assert healthy.json()["label"] == "dog"
    assert not serving.deaths
    await assert_nothing_is_left(serving)


async def test_classify_mixed_requests_are_all_accounted_for(serve, image):
    async with serve(max_image_pixels=100) as serving:
        contents = [image(0), image(60), image(180), image(250), b"nonsense", png_header_only(11, 10)]
        files = [("file", ("x", content)) for content in contents]
        response = await serving.client.post("/classify", files=files)

        statuses = [result["error"]["status"] if "error" in result else 200 for result in response.json()["results"]]
        assert statuses == [200, 200, 200, 500, 400, 413]
        assert await serving.total("dvt_images_total") == 6
        assert await serving.metric("dvt_macs_total") == 100 + 400 + 4000
        assert await serving.metric("dvt_baseline_macs_total") == 3 * 4000
        await assert_nothing_is_left(serving)
