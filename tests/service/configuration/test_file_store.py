import asyncio
import fcntl
import json
import os
from stat import S_IMODE

import pytest

from service.configuration import file_store
from service.configuration.file_store import FileStore, default_path
from service.configuration.operating_points import OperatingPoints
from service.engine.operating import Change
from service.errors import StoreUnavailableError, VersionConflictError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "dvt" / "config.json"


def names_in(folder):
    return {entry.name for entry in folder.iterdir()} - {".config.json.lock"}


def store_at(path, model="a"):
    return FileStore(path, model=model, num_stages=4)


async def test_replace_is_what_other_processes_and_people_read_beside_other_models(path, make_history) -> None:
    assert await store_at(path).read() is None
    await store_at(path).replace(make_history(1, 2), over=1)
    await store_at(path, "b").replace(make_history(1, 4), over=1)

    assert await store_at(path).read() == make_history(1, 2)
    assert await store_at(path, "b").read() == make_history(1, 4)
    assert names_in(path.parent) == {path.name}
    assert json.loads(path.read_text())["a"][1]["version"] == 2
    assert path.read_text().count("\n") > 5


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
    assert names_in(path.parent) == {path.name}


@pytest.mark.parametrize("text", ["[]", '{"a": 5}'])
async def test_read_of_something_else_raises_naming_the_file(path, text) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(StoreUnavailableError, match=r"config\.json"):
        await store_at(path).read()


async def test_store_in_a_read_only_folder_reads_and_says_it_will_not_last(path, make_history, monkeypatch) -> None:
    await store_at(path).replace(make_history(1, 2), over=1)

    def refuse(**_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    store = store_at(path)
    await store.replace(make_history(1, 3), over=2)

    assert not store.durable
    assert await store.read() == make_history(1, 2)


@pytest.mark.parametrize("models", [("a", "a"), ("a", "b")])
async def test_replace_of_two_at_once_on_one_file_loses_no_change(path, models) -> None:
    replicas = [OperatingPoints((2.0, 2.0, 2.0), store_at(path, model)) for model in models]
    for _ in range(10):
        await asyncio.gather(
            *(replica.change(Change(thresholds=(0.5, 0.5, 0.5), changed_by="alice")) for replica in replicas)
        )

    for model in models:
        assert (await store_at(path, model).read())[-1].version == 1 + 10 * models.count(model)


async def test_replace_while_another_process_keeps_the_lock_is_refused_in_time(path, make_history, monkeypatch) -> None:
    store = store_at(path)
    monkeypatch.setattr(file_store, "_LOCK_TIMEOUT_S", 0.05)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match=r"config\.json .* another process has locked it"):
            await store.replace(make_history(1, 2), over=1)
    await store.replace(make_history(1, 2), over=1)


async def test_replace_behind_a_symlink_keeps_it_and_the_mode_of_its_file(path, tmp_path, make_history) -> None:
    target = tmp_path / "elsewhere" / "real.json"
    await store_at(target).replace(make_history(1, 2), over=1)
    target.chmod(0o640)
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    await store_at(path).replace(make_history(1, 3), over=2)

    assert path.readlink() == target
    assert (await store_at(target).read())[-1].version == 3
    assert S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("state", "model", "expected"),
    [
        ("/x/state", "tiny", "/x/state/dvt/tiny.json"),
        ("", "tiny", "/h/.local/state/dvt/tiny.json"),
        ("/x", "../../escape", "/x/dvt/..%2F..%2Fescape.json"),
    ],
)
def test_default_path_is_a_file_of_its_own_in_the_users_state_folder(monkeypatch, state, model, expected) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", "/h")

    assert str(default_path(model)) == expected
