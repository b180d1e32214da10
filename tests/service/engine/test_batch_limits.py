import pytest

from service.engine.batch_limits import BatchLimits


def test_out_of_memory_halves_the_limit_of_that_stage_alone() -> None:
    limits = BatchLimits(2, 64)
    limits.out_of_memory(1, 64)
    assert (limits[0], limits[1]) == (64, 32)


def test_out_of_memory_smaller_batch_halves_what_it_held() -> None:
    limits = BatchLimits(1, 64)
    limits.out_of_memory(0, 10)
    assert limits[0] == 5


def test_out_of_memory_of_one_image_leaves_one() -> None:
    limits = BatchLimits(1, 64)
    limits.out_of_memory(0, 1)
    assert limits[0] == 1


def test_fitted_limit_grows_back_after_many_full_batches_and_no_further() -> None:
    limits, seen = BatchLimits(1, 48), []
    limits.out_of_memory(0, 48)
    for _ in range(300):
        limits.fitted(0, limits[0])
        seen.append(limits[0])
    assert seen == [24] * 99 + [48] * 201


def test_fitted_batches_that_are_not_full_prove_nothing() -> None:
    limits = BatchLimits(1, 64)
    limits.out_of_memory(0, 64)
    for _ in range(1000):
        limits.fitted(0, 31)
    assert limits[0] == 32


def test_cap_holds_for_that_stage_also_after_it_has_grown_back() -> None:
    limits = BatchLimits(2, 64)
    limits.cap(1, 8)
    limits.out_of_memory(1, 8)
    for _ in range(500):
        limits.fitted(1, limits[1])
    assert (limits[0], limits[1]) == (64, 8)


def test_cap_above_the_limit_changes_nothing() -> None:
    limits = BatchLimits(1, 64)
    limits.cap(0, 128)
    assert limits[0] == 64


def test_out_of_memory_again_starts_the_count_anew() -> None:
    limits = BatchLimits(1, 64)
    limits.out_of_memory(0, 64)
    for _ in range(99):
        limits.fitted(0, 32)
    limits.out_of_memory(0, 32)
    for _ in range(99):
        limits.fitted(0, 16)
    assert limits[0] == 16
    limits.fitted(0, 16)
    assert limits[0] == 32


def test_batch_limits_no_room_for_one_image_raises() -> None:
    with pytest.raises(ValueError, match="max_batch_size must be at least 1, got 0"):
        BatchLimits(4, 0)
