import msgspec
import pytest

from service.configuration.store import MemoryStore, decode, require_version
from service.errors import StoreUnavailableError, VersionConflictError


def test_decode_gives_back_what_was_encoded(make_history) -> None:
    history = make_history(3, 6)

    assert decode(msgspec.json.encode(history), 4, "here") == history
    assert decode(None, 4, "here") is None


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b'[{"version": 1}]',
        b'[{"version": 0, "thresholds": [0, 0, 0], "updated_at": "2026-01-01T00:00:00Z"}]',
        b'[{"version": 1, "thresholds": [0, 0], "updated_at": "2026-01-01T00:00:00Z"}]',
    ],
)
def test_decode_anything_else_raises_naming_the_place(data) -> None:
    with pytest.raises(StoreUnavailableError, match="the attic holds no configuration of this model"):
        decode(data, 4, "the attic")


def test_decode_versions_with_a_gap_raises(make_history) -> None:
    with pytest.raises(StoreUnavailableError, match=r"versions \[1, 3\]"):
        decode(msgspec.json.encode((*make_history(1, 1), *make_history(3, 3))), 4, "the attic")


def test_require_version_nothing_stored_counts_as_the_first(make_history) -> None:
    require_version(None, 1)
    require_version(make_history(2, 7), 7)
    with pytest.raises(VersionConflictError, match="at version 1, not 2"):
        require_version(None, 2)
    with pytest.raises(VersionConflictError, match="at version 7, not 8"):
        require_version(make_history(2, 7), 8)


async def test_memory_store_remembers_what_it_was_given(make_history) -> None:
    store = MemoryStore(make_history(1, 2))
    assert await store.read() == make_history(1, 2)
    await store.replace(make_history(1, 3), over=2)

    assert await store.read() == make_history(1, 3)
    await store.close()
