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
from tiny_model import save_tiny_model

from service.capacity.child import Child, served
from service.errors import ServiceError, TooLargeError, UndecodableImageError
from service.images.decoder import ImageDecoder
from weights.preprocessing import Preprocessing

BOUNDARY = "image-corpus"
MAX_GROWTH_MB = 150
"""What one image at the limits of its size takes is not in the corpus; everything else fits into this."""

FIRST_BYTES = [f"{name} RGB" for name in FORMATS] + ["BigTIFF", "WEBP lossless", "WEBP RGBA"]

STATUSES = {UndecodableImageError: 400, TooLargeError: 413}


def decoder_of(max_pixels: int) -> ImageDecoder:
    return ImageDecoder(Preprocessing(resize_px=64, crop_px=56), max_bytes=32 * 2**20, max_pixels=max_pixels)


@pytest.fixture(scope="module")
def decoder() -> ImageDecoder:
    return decoder_of(50_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    model = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    environment = {"DVT_MODEL": model, "DVT_DTYPE": "float32", "DVT_LOG_LEVEL": "error", "DVT_TORCH_THREADS": "1"}
    with served(environment={**environment, "DVT_HTTP_WORKERS": "1"}) as child:
        yield child


def test_corpus_has_files_of_every_outcome_with_names_of_their_own():
    assert len({case.name for case in corpus()}) == len(corpus()) >= 200
    assert {case.status for case in corpus()} == {200, 400, 413}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much of it
def test_decode_files_of_the_corpus_end_as_documented_in_every_lane(decoder):
    def outcome(attempt, data):
        try:
            return None if attempt(data) is None else 200
        except ServiceError as error:
            return STATUSES[type(error)]

    wrong = {}
    for case in corpus():
        alone, ordinary, small = (
            outcome(attempt, case.data) for attempt in (decoder.decode, decoder.decode_ordinary, decoder.decode_small)
        )
        if alone != case.status or not {ordinary, small} <= {case.status, None}:
            wrong[case.name] = (case.status, alone, ordinary, small)
    assert wrong == {}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_every_orientation_gives_the_same_upright_picture(decoder, image_format):
    upright = Image.new("RGB", (96, 64), (0, 0, 0))
    upright.paste(RED, (16, 0, 48, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    exact = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(image_format, {})
    expected = decoder.decode(save(upright, "PNG")).astype(int)
    for orientation in range(1, 9):
        turned = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
        tag = {"tiffinfo": {274: orientation}} if image_format == "TIFF" else {"exif": exif(orientation)}
        pixels = decoder.decode(save(turned, image_format, **exact, **tag))
        assert np.abs(pixels - expected).max() <= (8 if image_format == "JPEG" else 1), orientation


@pytest.mark.filterwarnings("ignore")
def test_decode_damaged_files_never_raise_anything_undocumented(decoder):
    outcomes = [decode(decoder, damaged(seed=0, number=number)).status for number in range(1500)]

    assert set(outcomes) == {200, 400, 413}
    assert damaged(1, 2) == damaged(1, 2) != damaged(2, 2), "cases can be repeated"


@pytest.mark.filterwarnings("ignore")
@settings(derandomize=True, deadline=None, max_examples=200)
@given(start=sampled_from([b"", *(case.data[:48] for case in corpus() if case.name in FIRST_BYTES)]), rest=binary())
def test_decode_any_bytes_behind_a_formats_first_ones_never_raise_anything_undocumented(start, rest):
    assert decode(decoder_of(1_000_000), start + rest).status in (200, 400, 413)


def test_server_answers_the_corpus_as_documented_beside_unharmed_neighbours_in_bounded_memory(server):
    connection = HTTPConnection(server.host, server.port, timeout=60)
    good = [save(noise(48, 48, seed=seed), "PNG") for seed in (1, 2)]
    expected = [_post(connection, data)[1] for data in good]
    assert abs(expected[0]["confidence"] - expected[1]["confidence"]) > 0.002, "answers can be told apart"
    before_mb = _peak_mb(server.pid)
    wrong = []
    for case in corpus():
        _, together = _post(connection, good[0], case.data, good[1])
        first, second, third = together["results"]
        status = second["error"]["status"] if "error" in second else 200
        if status != case.status:
            wrong.append(f"{case.name}: {status} instead of {case.status}")
        for answer, right in zip((first, third), expected, strict=True):
            if answer.get("label") != right["label"] or abs(answer["confidence"] - right["confidence"]) > 0.001:
                wrong.append(f"{case.name}: its neighbour got {answer}")
    assert not wrong
    assert _peak_mb(server.pid) - before_mb < MAX_GROWTH_MB
    for status, case in {case.status: case for case in corpus()}.items():
        assert _post(connection, case.data)[0] == status, case.name

    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    connection.close()

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))

    ends = ("dvt_exits_total", "dvt_rejected_total", "dvt_cancelled_total", "dvt_failed_images_total")
    assert total("dvt_images_total") == sum(map(total, ends)) == 3 * len(corpus()) + 5
    assert total("dvt_failed_images_total") == total("dvt_cancelled_total") == 0


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
    texts = [Path(f"/proc/{each}/status").read_text() for each in (pid, *children)]
    return sum(int(kilobytes) for text in texts for kilobytes in re.findall(r"VmHWM:\s+(\d+) kB", text)) / 1024
