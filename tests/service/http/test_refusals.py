"""Every status but 200 that `POST /classify` can answer with, and what is left behind: nothing."""

import asyncio
import zlib
from io import BytesIO
from struct import pack

import pytest
from PIL import Image

from service.engine.engine import EngineState
from service.errors import DeviceLostError

PNG = {"content-type": "image/png"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def part(name, content=b"data", filename='; filename="a"'):
    return b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        name.encode(),
        filename.encode(),
        content,
    )


def png_header_only(width, height):
    """A PNG that announces a size and holds almost nothing."""

    def chunk(kind, data):
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def assert_problem(response, status, *words):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert list(problem) == ["type", "title", "status", "detail", "instance", "request_id", "error"]
    assert problem["status"] == status
    assert problem["type"].startswith("urn:dvt:problem:")
    assert problem["error"] == problem["detail"]
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    for word in words:
        assert word in problem["detail"]


async def test_classify_corrupt_image_is_400(serving, image):
    response = await serving.client.post("/classify", content=image(size=(64, 64))[:-40], headers=PNG)

    assert_problem(response, 400, "cannot be decoded")
    assert await serving.metric("dvt_rejected_total", reason="undecodable") == 1
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"", PNG, ["empty"]),
        (b"<svg/>", {"content-type": "image/svg+xml"}, ["not an image"]),
        (b"garbage", MULTIPART, ["multipart"]),
        (part("file"), MULTIPART, ["last boundary"]),
        (b"", {"content-type": "multipart/form-data"}, ["boundary"]),
        (b"", {"content-type": f"multipart/form-data; boundary={'x' * 1000}"}, ["oundary"]),
    ],
)
async def test_classify_body_that_is_not_what_it_says_is_400(serving, body, headers, words):
    assert_problem(await serving.client.post("/classify", content=body, headers=headers), 400, *words)


async def test_classify_announced_size_over_the_limit_is_413_before_anything_is_read(serve):
    async with serve(max_body_bytes=100) as serving:
        sent = []

        async def body():
            sent.append(1)
            yield b"x" * 101

        response = await serving.client.post("/classify", content=body(), headers={**PNG, "content-length": "101"})

        assert_problem(response, 413, "101", "100")
        assert not sent
        assert await serving.metric("dvt_rejected_total", reason="too_large") == 1
        assert await serving.images_are_accounted_for()


@pytest.mark.parametrize("headers", [PNG, MULTIPART])
async def test_classify_stream_over_the_limit_is_413_before_the_rest_is_read(serve, headers):
    async with serve(max_body_bytes=1000) as serving:
        sent = []

        async def body():
            yield part("file")[:-2]
            for _ in range(100):
                sent.append(1)
                yield b"x" * 100

        assert_problem(await serving.client.post("/classify", content=body(), headers=headers), 413, "1000")
        assert len(sent) <= 11


async def test_classify_body_of_exactly_the_limit_is_taken(serve, image):
    data = image(60)
    async with serve(max_body_bytes=len(data)) as serving:
        assert (await serving.client.post("/classify", content=data, headers=PNG)).status_code == 200


@pytest.mark.parametrize("side", [11, 20_000])  # the second is beyond Pillow's own limit too
async def test_classify_too_many_pixels_is_413_before_they_are_decoded(serve, side):
    async with serve(max_image_pixels=100) as serving:
        response = await serving.client.post("/classify", content=png_header_only(side, side), headers=PNG)

        assert_problem(response, 413, "100")
        assert await serving.metric("dvt_rejected_total", reason="too_large") == 1
        assert await serving.images_are_accounted_for()


async def test_classify_too_many_files_is_413(serve, image):
    async with serve(max_images_per_request=2) as serving:
        files = [("file", ("a.png", image(), "image/png"))] * 3

        assert_problem(await serving.client.post("/classify", files=files), 413, "2")
        assert (await serving.client.post("/classify", files=files[:2])).status_code == 200


@pytest.mark.parametrize("content_type", ["text/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_classify_other_content_type_is_415_naming_the_accepted_ones(serving, content_type):
    response = await serving.client.post("/classify", content=b"{}", headers={"content-type": content_type})

    assert_problem(response, 415, content_type, "image/*", "application/octet-stream", "multipart/form-data")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=red", ["colour"]),
        ("TOP_K=1", ["TOP_K"]),
        ("top_k=0", ["top_k", "'0'"]),
        ("top_k=11", ["top_k", "11", "10"]),
        ("top_k=many", ["top_k", "many"]),
        ("top_k=" + "9" * 5000, ["top_k"]),
        ("thresholds=nan", ["threshold", "nan"]),
        ("thresholds=-0.1", ["threshold", "-0.1"]),
        ("thresholds=high", ["thresholds", "high"]),
        ("thresholds=", ["thresholds"]),
        ("thresholds=0.9,0.8", ["3", "2"]),
        ("min_stage=4", ["min_stage", "4", "3"]),
        ("min_stage=2&max_stage=1", ["min_stage", "2", "1"]),
        ("max_stage=4", ["max_stage", "4", "3"]),
        ("max_macs=99", ["max_macs", "99", "100"]),
        ("deadline_ms=0", ["deadline_ms", "'0'"]),
        ("deadline_ms=inf", ["deadline_ms", "inf"]),
        ("trace=yes", ["trace", "yes"]),
    ],
)
async def test_classify_bad_parameter_is_422_naming_it(serving, image, query, words):
    response = await serving.client.post(f"/classify?{query}", content=image(), headers=PNG)

    assert_problem(response, 422, *words)
    assert await serving.total("dvt_images_total") == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (part("picture") + b"--x--\r\n", ["picture", "'file'"]),
        (part("comment", filename="") + b"--x--\r\n", ["comment"]),
        (b"--x\r\nContent-Type: image/png\r\n\r\ndata\r\n--x--\r\n", ["file"]),
        (b"--x--\r\n", ["file"]),
    ],
)
async def test_classify_parts_other_than_files_are_422(serving, body, words):
    assert_problem(await serving.client.post("/classify", content=body, headers=MULTIPART), 422, *words)


async def test_classify_file_part_without_a_filename_is_an_image_all_the_same(serving, image):
    body = part("file", image(60), filename="") + b"--x--\r\n"

    assert (await serving.client.post("/classify", content=body, headers=MULTIPART)).json()["label"] == "dog"


async def test_classify_without_a_free_permit_is_429_with_retry_after(serve, image):
    async with serve(max_inflight=2) as serving:
        serving.runner.may_run.clear()
        admitted = asyncio.create_task(serving.client.post("/classify", content=image(), headers=PNG))
        await serving.until(lambda: serving.context.engine.inflight == 1)
        files = [("file", ("a.png", image(), "image/png"))] * 2
        refused = await serving.client.post("/classify", files=files)
        serving.runner.may_run.set()

        assert_problem(refused, 429, "1 of 2")
        assert await serving.metric("dvt_request_duration_seconds_count") == 0
        assert int(refused.headers["retry-after"]) >= 1
        assert (await admitted).status_code == 200
        assert await serving.metric("dvt_rejected_total", reason="full") == 2
        assert await serving.images_are_accounted_for()
        assert serving.at_rest()


async def test_classify_while_no_permit_is_left_is_429_before_anything_is_read(serve, image):
    async with serve(max_inflight=1) as serving:
        serving.runner.may_run.clear()
        admitted = asyncio.create_task(serving.client.post("/classify", content=image(), headers=PNG))
        await serving.until(lambda: serving.context.engine.inflight == 1)

        async def never_read():
            pytest.fail("the body was asked for")
            yield b""

        refused = await serving.client.post("/classify?no_such=parameter", content=never_read(), headers=PNG)
        other = await serving.client.get("/config")
        serving.runner.may_run.set()

        assert_problem(refused, 429, "1 of 1")
        assert int(refused.headers["retry-after"]) >= 1
        assert other.status_code == 200
        assert (await admitted).status_code == 200
        assert await serving.metric("dvt_rejected_total", reason="full") == 1
        assert await serving.metric("dvt_requests_total", code="429") == 1
        assert await serving.images_are_accounted_for()
        assert serving.at_rest()


async def test_classify_while_starting_is_503_with_retry_after(serve, make_runner, image):
    runner = make_runner()
    runner.warm.clear()
    async with serve(runner=runner, wait_ready=False) as serving:
        response = await serving.client.post("/classify", content=image(), headers=PNG)

        assert_problem(response, 503, "starting")
        assert int(response.headers["retry-after"]) >= 1
        assert await serving.images_are_accounted_for()


async def test_classify_on_a_lost_device_is_503_and_the_process_is_told_to_end(serve, make_runner, image):
    async with serve(runner=make_runner(error=DeviceLostError("gone"))) as serving:
        first = await serving.client.post("/classify", content=image(), headers=PNG)
        second = await serving.client.post("/classify", content=image(), headers=PNG)
        await serving.until(lambda: bool(serving.deaths))

        assert_problem(first, 503)
        assert_problem(second, 503, "dead")
        assert serving.context.engine.state is EngineState.DEAD
        assert await serving.images_are_accounted_for()


async def test_classify_deadline_before_the_first_stage_is_504(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.05)) as serving:
        ahead = asyncio.create_task(serving.client.post("/classify", content=image(), headers=PNG))
        await serving.until(lambda: len(serving.runner.runs) == 1)
        response = await serving.client.post("/classify?deadline_ms=5", content=image(), headers=PNG)
        await ahead

        assert_problem(response, 504)
        assert await serving.metric("dvt_rejected_total", reason="deadline") == 1
        assert await serving.images_are_accounted_for()


async def test_classify_stage_that_raises_is_500_without_its_details_and_the_next_request_works(serving, image):
    broken = await serving.client.post("/classify", content=image(250), headers=PNG)
    healthy = await serving.client.post("/classify", content=image(60), headers=PNG)

    assert_problem(broken, 500, "stage 0")
    assert "secret" not in broken.text
    assert healthy.json()["label"] == "dog"
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


async def test_classify_mixed_requests_are_all_accounted_for(serve, image):
    async with serve(max_image_pixels=100) as serving:
        big, buffer = Image.new("L", (11, 10)), BytesIO()
        big.save(buffer, "PNG")
        contents = [image(0), image(60), image(180), image(250), b"nonsense", buffer.getvalue()]
        files = [("file", ("x", content)) for content in contents]
        response = await serving.client.post("/classify", files=files)

        statuses = [result["error"]["status"] if "error" in result else 200 for result in response.json()["results"]]
        assert statuses == [200, 200, 200, 500, 400, 413]
        assert await serving.total("dvt_images_total") == 6
        assert await serving.images_are_accounted_for()
        assert await serving.metric("dvt_macs_total") == 100 + 400 + 4000
        assert await serving.metric("dvt_baseline_macs_total") == 3 * 4000
        assert serving.at_rest()
