"""The file of stage times: what it gives back, and what it refuses."""

import pytest

from service.capacity.recorded import RecordedTimes
from service.errors import InvalidParameterError


def test_alone_s_between_sizes_is_on_a_straight_line_or_padded(times_of):
    assert times_of().alone_s(0, 8) == 0.008
    assert times_of().alone_s(1, 4) == pytest.approx(0.004 + 3 / 7 * 0.012)
    assert times_of(padded=True).alone_s(1, 2) == 0.016


def test_drawn_takes_each_recorded_ratio_now_and_then_and_the_same_for_the_same_seed(times_of):
    times = times_of(ratios=(1.0, 3.0))
    first, again = times.drawn(7), times.drawn(7)
    drawn = [first(0, 8) for _ in range(100)]

    assert sorted(set(drawn)) == pytest.approx([0.008, 0.024])
    assert drawn == [again(0, 8) for _ in range(100)]


def test_write_then_read_gives_the_same(times_of, tmp_path):
    times_of().write(tmp_path / "times.json")

    assert RecordedTimes.read(tmp_path / "times.json") == times_of()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": (2, 8)}, r"ascend from 1, got \[2, 8\]"),
        ({"sizes": (1, 8, 4)}, "ascend"),
        ({"seconds": ((0.1, 0.2), (0.1,))}, "stage 1 has 1 times for 2 sizes"),
        ({"seconds": ((0.1, 0.0), (0.1, 0.2))}, "greater than 0"),
        ({"ratios": ()}, "at least 1"),
        ({"threads": 0}, "greater than 0"),
    ],
)
def test_recorded_times_that_make_no_sense_are_refused(times_of, changes, words):
    with pytest.raises(ValueError, match=words):
        times_of(**changes)


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("[]", "file"), ('{"model": 1}', "model")])
def test_read_anything_else_is_refused_with_its_name(tmp_path, text, words):
    path = tmp_path / "times.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidParameterError, match=rf"times\.json.*{words}"):
        RecordedTimes.read(path)


@pytest.mark.parametrize(
    ("expected", "words"),
    [(("other", 2, 8), "of tiny"), (("tiny", 4, 8), "2 stages"), (("tiny", 2, 9), "batches of 8; 9")],
)
def test_check_times_of_something_else_are_refused(times_of, expected, words):
    times_of().check("tiny", 2, 8)
    with pytest.raises(InvalidParameterError, match=words):
        times_of().check(*expected)


def test_overhead_ms_that_was_not_measured_is_refused(times_of):
    assert times_of().overhead_ms("small") == 0.5
    with pytest.raises(InvalidParameterError, match="small images, not with large ones; give --overhead-ms"):
        times_of().overhead_ms("large")
