import pytest

from service.errors import InvalidParameterError, OverloadedError, TooLargeError
from service.link.permits import PermitPool


def pool_of(capacity: int) -> PermitPool:
    return PermitPool(capacity, lambda: 0.0, [0], 0)


@pytest.mark.parametrize(("count", "error"), [(0, InvalidParameterError), (4, TooLargeError)])
def test_take_impossible_count_raises(count: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(count)):
        pool_of(3).take(count)


def test_release_more_than_held_raises_and_changes_nothing() -> None:
    pool = pool_of(3)
    permits = pool.take(2)
    permits.release(2)
    with pytest.raises(ValueError, match="cannot give back 1 permits of 0 held"):
        permits.release()
    assert pool.taken == 0


@pytest.mark.parametrize(("counts", "index", "expected_s"), [([0], 0, 4.0), ([0, 0], 1, 2.0)])
def test_retry_after_follows_the_rate_at_which_permits_come_back_from_all_processes(
    counts: list[int], index: int, expected_s: float
) -> None:
    now = [0.0]
    pool = PermitPool(10, lambda: now[0], counts, index)
    permits = pool.take(10)
    with pytest.raises(OverloadedError) as unknown:
        pool.take(1)
    assert unknown.value.retry_after_s == 1.0  # nothing has come back yet
    for _ in range(5):
        now[0] += 1.0
        permits.release()
        pool.take(1)
    with pytest.raises(OverloadedError) as known:
        pool.take(5)
    # 5 missing, 5 in the 4 s since the first; another process is taken to be as fast.
    assert known.value.retry_after_s == pytest.approx(expected_s)


def test_take_from_pools_that_share_counts_never_exceeds_the_capacity() -> None:
    counts = [0, 0]
    first, second = (PermitPool(3, lambda: 0.0, counts, index) for index in range(2))
    held = first.take(2)
    with pytest.raises(OverloadedError, match="no room for 2 more: 2 of 3"):
        second.take(2)
    assert counts == [2, 0]
    second.take(1)
    held.release(2)
    assert (first.taken, counts) == (1, [0, 1])


def test_require_any_refuses_only_while_no_permit_is_left() -> None:
    pool = pool_of(2)
    pool.take(1)
    pool.require_any()
    held = pool.take(1)
    with pytest.raises(OverloadedError, match="no room for 1 more: 2 of 2 images are in flight"):
        pool.require_any()
    assert pool.taken == 2
    held.release()
    pool.require_any()
