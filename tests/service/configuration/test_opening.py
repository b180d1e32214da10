from pathlib import Path

import pytest

from service.configuration.file_store import FileStore
from service.configuration.opening import open_store
from service.configuration.operating_points import OperatingPoints
from service.configuration.redis_store import RedisStore
from service.configuration.store import MemoryStore
from service.engine.operating import Change
from service.settings import SettingsError


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    """The user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def opened(setting):
    return open_store(setting, model="a", num_stages=4)


async def test_open_store_each_form_of_the_setting(state, make_history) -> None:
    assert isinstance(opened("memory"), MemoryStore)
    assert isinstance(opened(str(state / "file.json")), FileStore)
    redis = opened("redis://127.0.0.1:1/0")
    assert isinstance(redis, RedisStore)
    await redis.close()
    await opened(None).replace(make_history(1, 2), over=1)
    assert (state / "dvt" / "a.json").is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://me:hush@host/db", "postgres:// is not one of redis://"),
        ("redis://:hush@host:not-a-port", "not a URL of a Redis server"),
    ],
)
def test_open_store_wrong_url_is_refused_without_its_password(url, message) -> None:
    with pytest.raises(SettingsError, match=f"DVT_CONFIG_STORE: {message}") as caught:
        opened(url)
    assert "hush" not in str(caught.value)


def test_open_store_without_the_extra_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SettingsError, match=r"dynamic-vit-service\[redis\]"):
        opened("redis://host")


@pytest.mark.parametrize(("text", "default"), [("a shopping list", True), ('{"a": []}', False)])
def test_open_store_file_with_something_else_in_it_is_refused_saying_what_to_do(state, text, default) -> None:
    path = state / "dvt" / "a.json"
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(SettingsError, match=rf"DVT_CONFIG_STORE: {path}.*; move {path} away to start with the model's"):
        opened(None if default else str(path))


def test_open_store_file_that_cannot_be_read_is_refused_saying_what_to_do(state) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read: .*; make it readable, or name another file"):
        opened(str(state))


def test_open_store_without_a_home_keeps_the_configuration_in_memory(monkeypatch, caplog) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)

    assert isinstance(opened(None), MemoryStore)
    assert "will not survive a restart: this user has no home folder" in caplog.text


def test_open_store_home_that_cannot_be_read_keeps_the_configuration_in_memory(state, monkeypatch, caplog) -> None:
    (state / "not-a-folder").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(state / "not-a-folder"))

    assert isinstance(opened(None), MemoryStore)
    assert "a.json cannot be written" in caplog.text


async def test_open_store_read_only_home_begins_with_what_is_there_and_counts_as_stored(
    state, monkeypatch, make_history
) -> None:
    await opened(None).replace(make_history(1, 3), over=1)
    monkeypatch.setattr(FileStore, "_is_writable", lambda _: False)
    assert not opened(str(state / "dvt" / "a.json")).durable, "a file that was asked for is not replaced by memory"
    points = OperatingPoints((2.0, 2.0, 2.0), opened(None))
    await points.start()

    assert points.current.version == 3
    changed = await points.change(Change(thresholds=(0.5, 0.5, 0.5), changed_by="alice"))
    assert (changed.version, points.stored) == (4, True)
