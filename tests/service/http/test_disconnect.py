"""Clients that leave before their answer: nothing goes on for them, and all they held comes back."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from held_decoding import ordinary

from service.errors import DeviceLostError

MULTIPART = b"multipart/form-data; boundary=sep"


@dataclass
class Client:
    """One request at the ASGI level, since only there a client can leave without the server's being cancelled."""

    messages: asyncio.Queue = field(default_factory=asyncio.Queue)
    statuses: list[int] = field(default_factory=list)

    def send(self, body, *, more=False):
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive_from_server(self, message):
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    async def request(self, app, content_type=b"image/png", receive=None):
        scope = {
            **{"type": "http", "method": "POST", "path": "/classify", "raw_path": b"/classify", "query_string": b""},
            **{"headers": [(b"content-type", content_type)], "client": ("127.0.0.1", 1)},
        }
        await app(scope, receive or self.messages.get, self.receive_from_server)


@asynccontextmanager
async def client_of(serving, *body, content_type=b"image/png"):
    """A client whose request is under way inside, and has come to its end afterwards."""
    client = Client()
    for chunk in body:
        client.send(chunk)
    request = asyncio.create_task(client.request(serving.app, content_type))
    try:
        yield client
    finally:
        client.leave()
        _, hanging = await asyncio.wait({request}, timeout=5)
        request.cancel()
    assert not hanging, "the request goes on although its client has left"
    await request


def multipart(*contents):
    head = b'--sep\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    return b"".join(head + content + b"\r\n" for content in contents) + b"--sep--\r\n"


async def assert_all_came_back(serving, *, images, left=0):
    await serving.until(serving.at_rest)
    await serving.until(serving.images_are_accounted_for)
    assert await serving.total("dvt_images_total") == images
    assert await serving.metric("dvt_requests_total", code="499") == left


@pytest.fixture
async def one_at_a_time(serve):
    """A service whose stages take one image a batch, so that what is behind it waits."""
    async with serve(max_batch_size=1) as serving:
        serving.runner.may_run.clear()
        yield serving


async def test_client_that_leaves_while_sending_was_never_admitted(serving, image):
    async with client_of(serving) as client:
        client.send(image()[:10], more=True)
        client.leave()

    await assert_all_came_back(serving, images=0, left=1)
    assert not serving.runner.runs


async def test_client_that_leaves_while_its_stage_runs_gets_no_further_stage_and_makes_room(serve, image):
    async with serve(max_inflight=1) as serving:
        serving.runner.may_run.clear()
        async with client_of(serving, image(180)):
            await serving.until(lambda: serving.runner.runs == [(0, 1)])
        # The step in progress cannot be taken back: until it ends, its image takes up room.
        assert serving.context.engine.inflight == 1
        await serving.heard()
        serving.runner.may_run.set()

        await assert_all_came_back(serving, images=1, left=1)
        assert serving.runner.runs == [(0, 1)]
        assert await serving.metric("dvt_cancelled_total", where="compute") == 1
        assert (await serving.classify(image(60))).json()["label"] == "dog"


async def test_client_that_leaves_between_two_stages_frees_its_reuse_state(one_at_a_time, image):
    serving = one_at_a_time
    async with client_of(serving, image(180)) as leaving:
        await serving.until(lambda: len(serving.runner.runs) == 1)
        async with client_of(serving, image(180)) as staying:
            await serving.until(lambda: serving.context.engine.inflight == 2)
            leaving.leave()
            await serving.until_metric(1, "dvt_requests_total", code="499")
            serving.runner.may_run.set()
            await serving.until(lambda: staying.statuses == [200])

    assert sorted(serving.runner.runs) == [(0, 1), (0, 1), (1, 1), (2, 1), (3, 1)]
    await assert_all_came_back(serving, images=2, left=1)


@pytest.mark.parametrize("count", [1, 3])
async def test_client_that_leaves_while_decoding_gives_all_permits_back(serve, image, monkeypatch, count):
    async with serve(decode_threads=1) as serving:
        with ordinary(monkeypatch, serving, image()) as decoding:
            async with client_of(serving, multipart(*[image()] * count), content_type=MULTIPART):
                await serving.until(lambda: decoding.begun)
                assert serving.context.engine.inflight == count
            await assert_all_came_back(serving, images=count, left=1)
            assert await serving.metric("dvt_cancelled_total", where="decode") == count
        assert not serving.runner.runs


async def test_client_that_leaves_with_images_in_every_phase_is_accounted_for_once(one_at_a_time, image, monkeypatch):
    serving = one_at_a_time
    images = multipart(image(0), image(60), b"not an image", image(120))
    with ordinary(monkeypatch, serving, image(120)) as decoding:
        async with client_of(serving, images, content_type=MULTIPART) as client:
            await serving.until(lambda: len(serving.runner.runs) == 1)
            await serving.until(lambda: serving.backend.engine.queue_depths()[0] == 1)
            await serving.until_metric(1, "dvt_rejected_total", reason="undecodable")
            await serving.until(lambda: decoding.begun)
        await serving.heard()
        serving.runner.may_run.set()
        await assert_all_came_back(serving, images=4, left=1)
    for where in ("decode", "queue", "compute"):
        assert await serving.metric("dvt_cancelled_total", where=where) == 1
    assert client.statuses == [499]
    assert serving.runner.runs == [(0, 1)], "what was queued is dropped before it runs"


async def test_connection_that_cannot_be_read_any_more_counts_as_left(one_at_a_time, image):
    serving, client = one_at_a_time, Client()

    async def receive():
        if not client.messages.empty():
            return await client.messages.get()
        await serving.until(lambda: len(serving.runner.runs) == 1)
        raise ConnectionResetError

    client.send(image(180))
    await client.request(serving.app, receive=receive)
    await serving.heard()
    serving.runner.may_run.set()

    await assert_all_came_back(serving, images=1, left=1)
    assert serving.runner.runs == [(0, 1)]


@pytest.mark.parametrize("leaves", [False, True])
async def test_request_that_ended_leaves_no_task_behind(serving, image, leaves):
    await serving.heard()
    before = asyncio.all_tasks()
    if leaves:
        serving.runner.may_run.clear()
    async with client_of(serving, image(60)) as client:
        await serving.until(lambda: bool(serving.runner.runs))
        if not leaves:
            await serving.until(lambda: bool(client.statuses))
    await serving.heard()
    serving.runner.may_run.set()

    await serving.until(lambda: asyncio.all_tasks() == before)
    await assert_all_came_back(serving, images=1, left=int(leaves))
    assert client.statuses == [499 if leaves else 200]
    assert await serving.total("dvt_cancelled_total") == leaves


async def test_many_clients_of_which_half_leave_are_all_accounted_for(serve, make_runner, image):
    async with serve(runner=make_runner(step_s=0.002), max_batch_size=4) as serving:

        async def visit(number):
            async with client_of(serving, image((0, 60, 120, 180)[number % 4])) as client:
                if number % 2:
                    await serving.until(lambda: bool(client.statuses))
                else:
                    await serving.until(lambda: len(serving.runner.runs) > number // 4)
            return client.statuses

        statuses = await asyncio.gather(*(visit(number) for number in range(40)))

        assert statuses[1::2] == [[200]] * 20
        await assert_all_came_back(serving, images=40, left=sum(each == [499] for each in statuses))
        assert await serving.total("dvt_exits_total") >= 20


@pytest.mark.parametrize("count", [1, 2])
async def test_engine_that_dies_while_an_image_is_decoded_leaves_nothing_unaccounted(serve, image, monkeypatch, count):
    async with serve(decode_threads=3) as serving:
        slow = image(120)
        with ordinary(monkeypatch, serving, slow) as decoding:
            files = [("file", ("a.png", slow))] * count
            waiting = asyncio.create_task(serving.client.post("/classify", files=files))
            await serving.until(lambda: decoding.begun)
            serving.runner.error = DeviceLostError("gone")
            await serving.classify(image())
            await serving.until(lambda: not serving.context.alive)
        response = await waiting

        problems = [response.json()] if count == 1 else [entry["error"] for entry in response.json()["results"]]
        assert {problem["status"] for problem in problems} == {503}
        await assert_all_came_back(serving, images=count + 1)
