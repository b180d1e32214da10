"""The same work without HTTP."""

import subprocess
import sys

import pytest

from benchmarks.http.reference import Reference
from benchmarks.http.reference_process import ReferenceProcess, reference_process
from service.capacity.child import ServerFailedError
from service.capacity.sample_images import sample_jpegs
from service.settings import Settings

JPEGS = sample_jpegs("small", 2)


@pytest.fixture
def reference(model):
    made = Reference(Settings(model=str(model), device="cpu", max_inflight=4, max_batch_size=4, decode_threads=1))
    yield made
    made.close()


def test_reference_saturated_every_image_is_answered(reference):
    assert reference.images_per_s(JPEGS, 0.05) > 0


def test_reference_latencies_are_one_an_image_and_pauses_are_not_part_of_them(reference):
    tight, paced = reference.latencies_s(JPEGS, 0.05, 0.0), reference.latencies_s(JPEGS, 0.05, 0.04)

    assert len(tight) >= 1
    assert 1 <= len(paced) <= 2
    assert len(reference._runner._pool) == 0


def test_reference_process_answers_commands_and_ends(model):
    settings = {"DVT_MODEL": str(model), "DVT_DEVICE": "cpu", "DVT_MAX_INFLIGHT": "4", "OMP_NUM_THREADS": "1"}
    with reference_process(JPEGS, settings) as process:
        assert process.images_per_s(0.05) > 0
        assert process.latencies_s(0.05, 0.0)


def test_reference_process_that_has_ended_is_an_error():
    with (
        subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, text=True) as process,
        pytest.raises(ServerFailedError, match="has ended"),
    ):
        ReferenceProcess(process, JPEGS)
