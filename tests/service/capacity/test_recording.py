"""Recording on a tiny cascade: everything is run, nothing is timed."""

from engine_fakes import STAGE_MACS, FakeRunner, pixels

from service.capacity import recording
from service.capacity.overhead import Overhead
from service.capacity.recording import record, steps
from service.capacity.stage_seconds import stage_seconds
from service.settings import Settings


def test_stage_seconds_runs_the_whole_batch_through_every_stage_and_leaves_nothing_behind():
    runner = FakeRunner()
    seconds = stage_seconds(runner, [pixels(0), pixels(0)], 3)

    assert [(stage, len(ids)) for stage, ids in runner.batches] == [(stage, 3) for stage in range(4)]
    assert len(seconds) == len(STAGE_MACS)
    assert runner.kept == {}


def test_record_measures_stages_alone_and_under_load_and_what_is_beside_them(stored, model, monkeypatch):
    overheads = {"small": Overhead(front_end_ms=0.5, engine_ms=0.2), "large": Overhead(front_end_ms=3.0, engine_ms=0.3)}
    monkeypatch.setattr(recording, "measure_overhead", lambda settings, name: overheads[name])
    monkeypatch.setattr(recording, "LOADED_SECONDS", 0.2)
    told = []
    settings = Settings(model=str(model), max_batch_size=4, max_inflight=16, device="cpu", dtype="float32")
    times = record(stored, settings, repeats=2, image_sizes=list(overheads), on_step=told.append)

    assert (times.model, times.device, times.dtype, times.padded) == ("tiny", "cpu", "float32", False)
    assert times.sizes == (1, 2, 4)
    assert [len(row) for row in times.seconds] == [3] * 4
    assert times.ratios
    assert (times.engine_ms, times.front_end_ms) == (0.2, {"small": 0.5, "large": 3.0})
    assert len(told) == steps(2, list(overheads))


def test_record_of_padded_batches_measures_the_sizes_they_are_padded_to(stored, model, monkeypatch):
    monkeypatch.setattr(recording, "LOADED_SECONDS", 0.2)
    settings = Settings(model=str(model), max_batch_size=4, max_inflight=16, device="cpu", dtype="bfloat16")
    times = record(stored, settings, repeats=1, image_sizes=[])

    assert times.padded
    assert times.sizes == (1, 2, 4)
    assert times.alone_s(0, 3) == times.alone_s(0, 4)
