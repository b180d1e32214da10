import pytest

from service.configuration.file_store import FileStore
from service.configuration.opening import open_store
from service.configuration.redis_store import RedisStore
from service.configuration.store import MemoryStore
from service.settings import SettingsError


def opened(setting):
    return open_store(setting, model="a", num_stages=4)


async def test_open_store_each_form_of_the_setting(tmp_path, monkeypatch, make_history) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert isinstance(opened("memory"), MemoryStore)
    assert isinstance(opened(str(tmp_path / "file.json")), FileStore)
    redis = opened("redis://127.0.0.1:1/0")
    assert isinstance(redis, RedisStore)
    await redis.close()
    default = opened(None)
    await default.replace(make_history(1, 2), over=1)
    assert (tmp_path / "dvt" / "a.json").is_file()


def test_open_store_unknown_scheme_is_refused_without_the_rest_of_the_url() -> None:
    with pytest.raises(SettingsError, match="DVT_CONFIG_STORE: postgres:// is not one of redis://") as caught:
        opened("postgres://me:hush@host/db")
    assert "hush" not in str(caught.value)


def test_open_store_wrong_redis_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="DVT_CONFIG_STORE: not a URL of a Redis server"):
        opened("redis://host:not-a-port")


def test_open_store_without_the_extra_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SettingsError, match=r"dynamic-vit-service\[redis\]"):
        opened("redis://host")


def test_open_store_file_with_something_else_in_it_is_refused(tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text("a shopping list")

    with pytest.raises(SettingsError, match=r"DVT_CONFIG_STORE: .*config\.json cannot be read"):
        opened(str(path))
