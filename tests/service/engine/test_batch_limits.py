import pytest

from service.engine.batch_limits import BatchLimits


@pytest.mark.parametrize(("size", "limit"), [(64, 32), (10, 5), (1, 1)])
def test_out_of_memory_halves_what_the_stage_alone_held(size, limit):
    limits = BatchLimits(2, 64)
    limits.out_of_memory(1, size)
    assert (limits[0], limits[1]) == (64, limit)


def test_fitted_limit_grows_back_after_many_full_batches_and_no_further():
    limits, seen = BatchLimits(1, 48), []
    limits.out_of_memory(0, 48)
    for _ in range(99):
        limits.fitted(0, 24)
    limits.out_of_memory(0, 48)  # starts the count anew
    for _ in range(300):
        limits.fitted(0, limits[0])
        limits.fitted(0, limits[0] - 1)  # one that is not full proves nothing
        seen.append(limits[0])
    assert seen == [24] * 99 + [48] * 201


@pytest.mark.parametrize(("cap", "limit"), [(8, 8), (128, 64)])
def test_cap_holds_for_that_stage_also_after_it_has_grown_back(cap, limit):
    limits = BatchLimits(2, 64)
    limits.cap(1, cap)
    assert (limits[0], limits[1]) == (64, limit)
    limits.out_of_memory(1, limit)
    for _ in range(500):
        limits.fitted(1, limits[1])
    assert (limits[0], limits[1]) == (64, limit)


def test_batch_limits_no_room_for_one_image_raises():
    with pytest.raises(ValueError, match="max_batch_size must be at least 1, got 0"):
        BatchLimits(4, 0)
