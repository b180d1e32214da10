"""What a started process leaves to the garbage collector."""

import gc

import pytest

from service.replica.heap import settle_heap


class Knot:
    """Refers to itself, so that only the collector can end it."""

    def __init__(self, ends: list[str]) -> None:
        self.me = self
        self.ends = ends

    def __del__(self) -> None:
        self.ends.append("end")


@pytest.fixture(autouse=True)
def thaw():
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_settle_heap_leaves_what_exists_out_of_collections():
    before = len(gc.get_objects())

    settle_heap()

    assert gc.get_freeze_count() > before / 2
    assert len(gc.get_objects()) < before / 2


def test_settle_heap_collects_what_is_garbage_already():
    ends: list[str] = []
    Knot(ends)

    settle_heap()

    assert ends == ["end"]


def test_settle_heap_later_garbage_is_collected_as_ever():
    settle_heap()
    ends: list[str] = []
    Knot(ends)

    gc.collect()

    assert ends == ["end"]


def test_settle_heap_later_garbage_is_collected_unasked():
    settle_heap()
    ends: list[str] = []
    Knot(ends)

    kept = [[] for _ in range(100_000)]

    assert len(kept) == 100_000
    assert ends == ["end"]
