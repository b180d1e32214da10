"""Every image people send, and those nobody should: what the service says of each, and that nothing else suffers."""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, sampled_from
from image_corpus import FORMATS, corpus
from image_files import RED, exif, noise, save
from image_fuzz import damaged, decode
from PIL import Image

from service.capacity.child import Child, served
from service.errors import ServiceError, TooLargeError, UndecodableImageError
from service.images.decoder import ImageDecoder
from weights.preprocessing import Preprocessing

BOUNDARY = "image-corpus"
MAX_GROWTH_MB = 150
"""What one image at the limits of its size takes is not in the corpus; everything else fits into this."""

FIRST_BYTES = [f"{name} RGB" for name in FORMATS] + ["BigTIFF", "WEBP lossless", "WEBP RGBA"]

STATUSES = {UndecodableImageError: 400, TooLargeError: 413}


@pytest.fixture(scope="module")
def decoder() -> ImageDecoder:
    return ImageDecoder(Preprocessing(resize_px=64, crop_px=56), max_bytes=32 * 2**20, max_pixels=50_000_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Child]:
    with served(environment={"DVT_DTYPE": "float32", "DVT_LOG_LEVEL": "error", "DVT_TORCH_THREADS": "1"}) as child:
        yield child


def test_corpus_has_files_of_every_outcome_with_names_of_their_own():
    assert len({case.name for case in corpus()}) == len(corpus()) >= 200
    assert {case.status for case in corpus()} == {200, 400, 413}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much of it
@pytest.mark.parametrize("case", corpus(), ids=lambda case: case.name)
def test_decode_file_of_the_corpus_ends_as_documented_in_every_lane(decoder, case):
    outcomes = []
    for attempt in (decoder.decode, decoder.decode_ordinary, decoder.decode_small):
        try:
            pixels = attempt(case.data)
        except ServiceError as error:
            outcomes.append(STATUSES[type(error)])
        else:
            outcomes.append(200 if pixels is not None else None)

    assert outcomes[0] == case.status
    assert set(outcomes[1:]) <= {case.status, None}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_every_orientation_gives_the_same_upright_picture(decoder, image_format, orientation):
    upright = Image.new("RGB", (96, 64), (0, 0, 0))
    upright.paste(RED, (16, 0, 48, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    options = {"tiffinfo": {274: orientation}} if image_format == "TIFF" else {"exif": exif(orientation)}
    if image_format == "JPEG":
        options |= {"quality": 100, "subsampling": 0}
    data = save(turned, image_format, **({"lossless": True} if image_format == "WEBP" else {}), **options)

    expected = decoder.decode(save(upright, "PNG")).astype(int)
    assert np.abs(decoder.decode(data) - expected).max() <= (8 if image_format == "JPEG" else 1)


@pytest.mark.filterwarnings("ignore")
def test_decode_damaged_files_never_raise_anything_undocumented(decoder):
    outcomes = [decode(decoder, damaged(seed=0, number=number)).status for number in range(8000)]

    assert set(outcomes) == {200, 400, 413}


@pytest.mark.filterwarnings("ignore")
@settings(derandomize=True, deadline=None, max_examples=500)
@given(start=sampled_from([b"", *(case.data[:48] for case in corpus() if case.name in FIRST_BYTES)]), rest=binary())
def test_decode_any_bytes_behind_a_formats_first_ones_never_raise_anything_undocumented(start, rest):
    decoder = ImageDecoder(Preprocessing(resize_px=64, crop_px=56), max_bytes=32 * 2**20, max_pixels=1_000_000)

    assert decode(decoder, start + rest).status in (200, 400, 413)


def test_damaged_case_of_a_seed_is_always_the_same_file():
    assert damaged(1, 2) == damaged(1, 2) != damaged(2, 2)


def test_server_answers_the_corpus_as_documented_beside_unharmed_neighbours_in_bounded_memory(server, capsys):
    connection = HTTPConnection(server.host, server.port, timeout=60)
    good = [save(noise(48, 48, seed=seed), "PNG") for seed in (1, 2)]
    expected = [_post(connection, data)[1] for data in good]
    before_mb = _peak_mb(server.pid)
    wrong = []
    for case in corpus():
        status, alone = _post(connection, case.data)
        _, together = _post(connection, *(good[0], case.data, good[1]))
        first, second, third = together["results"]
        in_list = second["error"]["status"] if "error" in second else 200
        if (status, in_list) != (case.status, case.status):
            wrong.append(f"{case.name}: {status} and {in_list} instead of {case.status}")
        for answer, right in zip((first, third), expected, strict=True):
            if answer.get("label") != right["label"] or abs(answer["confidence"] - right["confidence"]) > 0.001:
                wrong.append(f"{case.name}: its neighbour got {answer}")
        if status == 200 and second.get("label") != alone["label"]:
            wrong.append(f"{case.name}: {second} beside others, {alone} alone")
    growth_mb = _peak_mb(server.pid) - before_mb
    with capsys.disabled():
        print(f"\n{len(corpus())} files; the server's peak memory grew by {growth_mb:.0f} MB from {before_mb:.0f} MB")

    assert not wrong
    assert growth_mb < MAX_GROWTH_MB
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    connection.close()
    _assert_accounted_for(metrics)


def _post(connection: HTTPConnection, *images: bytes) -> tuple[int, dict]:
    if len(images) == 1:
        body, kind = images[0], "application/octet-stream"
    else:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        body = b"".join(head + image + b"\r\n" for image in images) + f"--{BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
    connection.request("POST", "/classify?thresholds=0&top_k=1", body, {"Content-Type": kind})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def _peak_mb(pid: int) -> float:
    """The peak resident set of a process and its children, summed."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = re.findall(
        r"VmHWM:\s+(\d+) kB", "".join(Path(f"/proc/{each}/status").read_text() for each in (pid, *children))
    )
    return sum(map(int, found)) / 1024


def _assert_accounted_for(metrics: str) -> None:
    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))

    ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
    assert total("dvt_images_total") == sum(map(total, ends)) > 4 * len(corpus())
    assert total("dvt_failed_images_total") == total("dvt_cancelled_total") == 0
