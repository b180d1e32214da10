"""`Classifier`: every kind of image, every option, from several threads, and what is wrong with each of them."""

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from calibrated import save_calibrated
from PIL import Image

from service import ClassifiedImage, Classifier
from service.engine.policy import ExitReason
from service.errors import (
    DeadlineExceededError,
    InvalidParameterError,
    NotReadyError,
    TooLargeError,
    UndecodableImageError,
)

ROOT = Path(__file__).parents[2]
SIDE = 28


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_calibrated(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def classifier(model):
    with Classifier(model, device="cpu", dtype="float32", max_batch_size=4, max_inflight=8) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def arrays():
    return list(np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), dtype=np.uint8))


def png(array):
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_classify_every_kind_of_image_gets_the_same_answer(classifier, arrays, tmp_path):
    array = arrays[0]
    path = tmp_path / "image.png"
    path.write_bytes(png(array))
    kinds = [str(path), path, png(array), Image.fromarray(array), array, torch.from_numpy(array).movedim(-1, 0)]

    answers = classifier.classify(kinds, thresholds=2)
    assert len({(answer.label, round(answer.confidence, 4)) for answer in answers}) == 1
    assert classifier.classify(path, thresholds=2).label == answers[0].label
    assert answers[0].exit.reason is ExitReason.FINAL


def test_classify_answers_are_in_order_and_do_not_depend_on_their_neighbours(classifier, arrays):
    median = float(np.median([answer.confidence for answer in classifier.classify(arrays, thresholds=0)]))
    together = classifier.classify(arrays, thresholds=median)
    alone = [classifier.classify(array, thresholds=median) for array in arrays]

    assert [(each.label, each.exit) for each in together] == [(each.label, each.exit) for each in alone]
    assert len({each.exit.stage for each in together}) > 1
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda first: classifier.classify(arrays[first::4], thresholds=median), range(4))
        for first, part in enumerate(parts):
            assert [each.exit for each in part] == [each.exit for each in together[first::4]]


def test_stream_takes_no_more_images_than_may_be_in_flight(classifier, arrays):
    taken = []

    def source():
        for array in arrays:
            taken.append(array)
            yield array

    stream = classifier.stream(source())
    first = next(stream)
    assert len(taken) <= 9
    rest = list(stream)
    assert [answer.label for answer in [first, *rest]] == [answer.label for answer in classifier.classify(arrays)]


def test_stream_given_up_leaves_room_for_the_next(classifier, arrays):
    for _ in range(10):
        stream = classifier.stream(arrays)
        next(stream)
        stream.close()
    assert len(classifier.classify(arrays)) == len(arrays)


def test_classify_options_have_the_meaning_of_the_api(classifier, arrays):
    array = arrays[0]
    assert classifier.classify(array, thresholds=0).exit.stage == 0
    assert classifier.classify(array, thresholds=[2, 0, 2]).exit.stage == 1
    assert classifier.classify(array, thresholds=0, min_stage=2).exit.stage == 2
    assert classifier.classify(array, thresholds=2, max_stage=1).exit.reason is ExitReason.MAX_STAGE
    first = classifier.classify(array, thresholds=0).compute.macs
    assert classifier.classify(array, thresholds=2, max_macs=first).exit.reason is ExitReason.MAX_MACS
    assert classifier.classify(array, target={"mean_macs": first}).exit.stage == 0
    full = classifier.classify(array, thresholds=2, top_k=2, trace=True)
    assert (full.top[0].label, len(full.top)) == (full.label, 2)
    assert [said.stage for said in full.trace] == [0, 1, 2, 3]
    assert [said.threshold for said in full.trace] == [2, 2, 2, None]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.5}, "unknown option 'threshold'"),
        ({"thresholds": [0.5]}, "expected 3 thresholds"),
        ({"thresholds": 0.5, "target": {"fraction": 0.5}}, "exclude each other"),
        ({"target": {"price": 1.0}}, "mean_macs, fraction"),
        ({"target": {"mean_macs": 1.0}}, "below"),
        ({"top_k": 6}, "at most 5"),
        ({"top_k": 0}, "at least 1"),
        ({"deadline_ms": 0}, "positive, got 0"),
        ({"max_stage": 4}, "from 0 to 3, got 4"),
    ],
)
def test_classify_option_that_does_not_fit_is_refused(classifier, arrays, options, words):
    with pytest.raises(InvalidParameterError, match=words):
        classifier.classify(arrays[0], **options)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (b"text", UndecodableImageError, "not an image"),
        ("nowhere.png", UndecodableImageError, "nowhere.png cannot be read: No such file"),
        (np.zeros((3, 8, 8), np.uint8), InvalidParameterError, r"uint8 \[3, 8, 8\]"),
        (np.zeros((8, 8, 3)), InvalidParameterError, "float64"),
        (torch.zeros(3, 8, 8), InvalidParameterError, "float32"),
        (Image.new("L", (8000, 8000)), TooLargeError, "8000 x 8000"),
    ],
)
def test_classify_what_is_no_image_is_refused_and_named(classifier, arrays, image, error, words):
    with pytest.raises(error, match=words):
        classifier.classify(image)
    with pytest.raises(error, match=rf"images\[1\]: .*{words}"):
        classifier.classify([arrays[0], image])
    assert len(classifier.classify(arrays)) == len(arrays)


def test_classify_deadline_counts_for_each_image(classifier, arrays):
    answers = classifier.classify(arrays, thresholds=2, deadline_ms=60_000)
    assert {answer.exit.reason for answer in answers} == {ExitReason.FINAL}
    with pytest.raises(DeadlineExceededError):
        classifier.classify(arrays[0], deadline_ms=1e-6)


def test_classify_after_close_is_refused(model, arrays):
    before = set(threading.enumerate())
    classifier = Classifier(model, device="cpu", dtype="float32")
    classifier.classify([arrays[0]])
    classifier.close()
    with pytest.raises(NotReadyError, match="stopped"):
        classifier.classify(arrays[0])
    assert set(threading.enumerate()) <= before


def test_classification_can_be_read_by_people_and_programs(classifier, arrays):
    answer = classifier.classify(arrays[0], thresholds=2, trace=True)

    assert repr(answer).startswith(f"<{answer.label} {answer.confidence:.3f}, left at 14x14 tokens (final)")
    document = answer.to_dict()
    assert list(document) == ["label", "index", "confidence", "top", "exit", "compute", "trace"]
    assert document["exit"] == {"stage": 3, "grid": 14, "reason": "final", "threshold": None}
    html = answer._repr_html_()
    assert html.count("<svg") == 4
    assert html.count("<line") == 3
    plain = classifier.classify(arrays[0], thresholds=2)
    assert "trace" not in plain.to_dict()
    assert plain._repr_html_().count("<svg") == 1


def test_classification_label_of_a_model_folder_is_no_markup(classifier, arrays):
    answer = classifier.classify(arrays[0])
    named = ClassifiedImage(
        label="<b>&", index=0, confidence=1.0, top=answer.top, exit=answer.exit, compute=answer.compute
    )
    assert "&lt;b&gt;&amp;" in named._repr_html_()


def test_classifier_readmes_cell_prints_what_the_readme_says():
    section = (ROOT / "README.md").read_text().split("### From Python")[1]
    cell, printed = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    done = subprocess.run([sys.executable, "-c", cell], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == printed, done.stderr


SNIPPET = """
from pathlib import Path
from service import Classifier

def labels(folder: Path) -> list[str]:
    with Classifier("dvt-cifar10", device="cpu") as classifier:
        classifier.classify(folder, top_k="3")  # type: ignore[call-overload]
        one: str = classifier.classify(folder / "a.jpg", target={"fraction": 0.2}).label
        return [one, *(answer.label for answer in classifier.classify(["a.jpg", b"..."], top_k=3))]
"""


def test_classifier_users_code_is_typed(tmp_path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    checked = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(snippet)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
