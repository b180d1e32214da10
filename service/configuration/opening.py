"""From the setting to the store."""

import importlib.util
from pathlib import Path

from service.configuration.file_store import FileStore, default_path
from service.configuration.store import MemoryStore, Store
from service.errors import StoreUnavailableError
from service.settings import SettingsError

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(setting: str | None, *, model: str, num_stages: int) -> Store:
    """The store that `DVT_CONFIG_STORE` stands for: `memory`, Redis by its URL, or a file; None is the default file.

    Raises:
        SettingsError: the file holds something else, or the Redis client is not installed.
    """
    if setting == "memory":
        return MemoryStore()
    if setting is not None and setting.startswith(_REDIS_SCHEMES):
        return _redis_store(setting, model, num_stages)
    if setting is not None and "://" in setting:
        known = ", ".join(_REDIS_SCHEMES)
        # The rest of a URL may hold a password.
        raise SettingsError(f"DVT_CONFIG_STORE: {setting.split('://')[0]}:// is not one of {known}")
    store = FileStore(Path(setting) if setting else default_path(model), model=model, num_stages=num_stages)
    try:
        store.check()
    except StoreUnavailableError as error:
        raise SettingsError(f"DVT_CONFIG_STORE: {error}") from error
    return store


def _redis_store(url: str, model: str, num_stages: int) -> Store:
    if importlib.util.find_spec("redis") is None:
        raise SettingsError("DVT_CONFIG_STORE: Redis needs the extra: pip install 'dynamic-vit-service[redis]'")
    from service.configuration.redis_store import RedisStore, connect

    try:
        client = connect(url)
    except ValueError as error:
        raise SettingsError(f"DVT_CONFIG_STORE: not a URL of a Redis server: {error}") from error
    return RedisStore(client, model=model, num_stages=num_stages)
