import json
import os

import pytest

from service.configuration.file_store import FileStore, default_path
from service.errors import StoreUnavailableError, VersionConflictError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "dvt" / "config.json"


def store_at(path, model="a", num_stages=4):
    return FileStore(path, model=model, num_stages=num_stages)


async def test_read_without_a_file_is_nothing(path) -> None:
    assert await store_at(path).read() is None


async def test_replace_is_what_another_process_reads(path, make_history) -> None:
    history = make_history(1, 2)
    await store_at(path).replace(history, over=1)

    assert await store_at(path).read() == history
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


async def test_replace_leaves_other_models_entries(path, make_history) -> None:
    await store_at(path, "a").replace(make_history(1, 2), over=1)
    await store_at(path, "b", num_stages=3).replace(make_history(1, 4, num_stages=3), over=1)

    assert await store_at(path, "a").read() == make_history(1, 2)
    assert (await store_at(path, "b", num_stages=3).read())[-1].version == 4


async def test_replace_over_another_version_is_refused_and_changes_nothing(path, make_history) -> None:
    await store_at(path).replace(make_history(1, 3), over=1)
    before = path.read_bytes()

    with pytest.raises(VersionConflictError, match="at version 3, not 1"):
        await store_at(path).replace(make_history(1, 2), over=1)
    assert path.read_bytes() == before


async def test_replace_that_fails_half_way_leaves_the_old_file_whole(path, make_history, monkeypatch) -> None:
    store = store_at(path)
    await store.replace(make_history(1, 2), over=1)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailableError, match="cannot be written: no space left"):
        await store.replace(make_history(1, 3), over=2)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 5}', '{"a": []}'])
async def test_read_of_something_else_raises_naming_the_file(path, text) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(StoreUnavailableError, match=r"config\.json"):
        await store_at(path).read()


async def test_store_where_nothing_can_be_written_reads_and_says_it_will_not_last(tmp_path, make_history) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    store = store_at(blocked / "config.json")

    assert not store.durable
    await store.replace(make_history(1, 2), over=1)
    assert blocked.read_text() == "not a folder"


async def test_store_in_a_read_only_folder_still_reads(path, make_history, monkeypatch) -> None:
    await store_at(path).replace(make_history(1, 2), over=1)

    def refuse(**_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    store = store_at(path)
    assert not store.durable
    assert await store.read() == make_history(1, 2)


async def test_file_is_readable_to_people(path, make_history) -> None:
    await store_at(path).replace(make_history(1, 2), over=1)

    assert json.loads(path.read_text())["a"][1]["version"] == 2
    assert path.read_text().count("\n") > 5


@pytest.mark.parametrize(("state", "expected"), [("/x/state", "/x/state/dvt/config.json"), ("", None)])
def test_default_path_follows_the_users_state_folder(monkeypatch, state, expected) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", "/h")

    assert str(default_path()) == (expected or "/h/.local/state/dvt/config.json")
