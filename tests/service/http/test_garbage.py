"""What a request leaves to the garbage collector: nothing, since its images would stay with it."""

import gc
from collections.abc import Iterator
from inspect import isframe

import pytest

PART = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n%s\r\n'
PNG = {"content-type": "image/png"}
PARTS = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Instead of freeing what refers to itself, the collector puts it here; what there was before, it leaves out."""
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.unfreeze()


def of_this_service(found: list[object]) -> list[object]:
    return [
        each
        for each in found
        if type(each).__module__.startswith("service.")
        or (isframe(each) and each.f_globals["__name__"].startswith("service."))
    ]


@pytest.mark.parametrize(
    ("path", "headers", "end", "status"),
    [
        ("/classify", PNG, b"", 200),
        ("/classify", PARTS, b"--x--\r\n", 200),
        ("/classify", PARTS, b"", 400),
        ("/classify?deadline_ms=0.001", PNG, b"", 504),
        ("/classify?deadline_ms=0.001", PARTS, b"--x--\r\n", 200),
        ("/?no_such=parameter", PNG, b"", 422),
        ("/v2/models/test-model/infer", PNG, b"", 400),
    ],
)
async def test_request_that_is_over_is_no_garbage(serve, make_runner, image, garbage, path, headers, end, status):
    content = image() if headers is PNG else PART % image() * 2 + end
    async with serve(runner=make_runner(step_s=0.002)) as serving:
        await serving.client.post(path, content=content, headers=headers)
        gc.collect()
        garbage.clear()
        gc.freeze()
        answers = [await serving.client.post(path, content=content, headers=headers) for _ in range(3)]
        gc.collect()

    assert {answer.status_code for answer in answers} == {status}
    assert of_this_service(garbage) == []
