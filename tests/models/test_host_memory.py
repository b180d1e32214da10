import ctypes

import pytest

from models.host_memory import keep_freed_memory


@pytest.mark.parametrize(("refused", "expected"), [((), True), ((-8, -4), False)])
def test_keep_freed_memory_tries_every_option_and_tells_a_refusal(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], expected: bool
) -> None:
    asked: dict[int, int] = {}

    class Library:
        @staticmethod
        def mallopt(option: int, value: int) -> int:
            asked[option] = value
            return int(option not in refused)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert keep_freed_memory(4096) is expected
    assert asked == {-8: 1, -4: 0, -1: 4096}
    keep_freed_memory()
    assert asked[-1] == -1


def test_keep_freed_memory_other_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
