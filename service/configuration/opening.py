"""Opens the store that a setting names."""

import importlib.util
import logging
from pathlib import Path

from service.configuration.file_store import FileStore, default_path
from service.configuration.store import MemoryStore, Store
from service.errors import StoreUnavailableError
from service.settings import SettingsError

_logger = logging.getLogger(__name__)

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(setting: str | None, *, model: str, num_stages: int) -> Store:
    """The store that `DVT_CONFIG_STORE` names: `memory`, the URL of a Redis server, or a file.

    None stands for the model's file in the user's state folder; if it cannot be written, for memory, with a warning.

    Raises:
        SettingsError: the file cannot be used, or the Redis client is not installed.
    """
    if setting is None:
        return _default_store(model, num_stages)
    if setting == "memory":
        return MemoryStore()
    if setting.startswith(_REDIS_SCHEMES):
        return _redis_store(setting, model, num_stages)
    if "://" in setting:
        known = ", ".join(_REDIS_SCHEMES)
        # The rest of the URL may contain a password.
        raise SettingsError(f"DVT_CONFIG_STORE: {setting.split('://')[0]}:// is not one of {known}")
    path = Path(setting)
    store = FileStore(path, model=model, num_stages=num_stages)
    try:
        store.check()
    except StoreUnavailableError as error:
        raise _unusable(path, error) from error
    return store


def _default_store(model: str, num_stages: int) -> Store:
    try:
        path = default_path(model)
    except RuntimeError:
        _warn_of_memory("this user has no home folder")
        return MemoryStore()
    store = FileStore(path, model=model, num_stages=num_stages)
    history = None
    try:
        history = store.check()
    except StoreUnavailableError as error:
        if not isinstance(error.__cause__, OSError):
            raise _unusable(path, error) from error
    if store.durable:
        return store
    # The default file may be unwritable; memory then counts as durable, so that the replica reports no failure.
    _warn_of_memory(f"{path} cannot be written")
    return MemoryStore(history)


def _warn_of_memory(reason: str) -> None:
    _logger.warning(
        "changes of the configuration will not survive a restart: %s; name a file that can in DVT_CONFIG_STORE", reason
    )


def _unusable(path: Path, error: StoreUnavailableError) -> SettingsError:
    if isinstance(error.__cause__, OSError):
        return SettingsError(f"DVT_CONFIG_STORE: {error}; make it readable, or name another file")
    return SettingsError(f"DVT_CONFIG_STORE: {error}; move {path} away to start with the model's own thresholds")


def _redis_store(url: str, model: str, num_stages: int) -> Store:
    if importlib.util.find_spec("redis") is None:
        raise SettingsError("DVT_CONFIG_STORE: Redis needs the extra: pip install 'dynamic-vit-service[redis]'")
    from service.configuration.redis_store import RedisStore, connect

    try:
        client = connect(url)
    except ValueError as error:
        raise SettingsError(f"DVT_CONFIG_STORE: not a URL of a Redis server: {error}") from error
    return RedisStore(client, model=model, num_stages=num_stages)
