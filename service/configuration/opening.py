"""Opens the store that a setting names."""

import importlib.util
import logging
from pathlib import Path

from service.configuration.file_store import FileStore, default_path
from service.configuration.store import MemoryStore, Store
from service.engine.operating import History
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
    if setting == "memory":
        return MemoryStore()
    if setting is not None and "://" in setting:
        return _redis_store(setting, model, num_stages)
    try:
        path = default_path(model) if setting is None else Path(setting)
    except RuntimeError:
        return _fallback("this user has no home folder", None)
    store, history = FileStore(path, model=model, num_stages=num_stages), None
    try:
        history = store.read_now()
    except StoreUnavailableError as error:
        unreadable = isinstance(error.__cause__, OSError)
        if setting is not None or not unreadable:
            start_anew = f"move {path} away to start with the model's own thresholds"
            remedy = "make it readable, or name another file" if unreadable else start_anew
            raise SettingsError(f"DVT_CONFIG_STORE: {error}; {remedy}") from error
    if setting is None and not store.durable:
        return _fallback(f"{path} cannot be written", history)
    return store


def _fallback(reason: str, history: History | None) -> MemoryStore:
    # Nobody asked for the default file, so memory counts as durable and the replica reports no failure.
    _logger.warning(
        "changes of the configuration will not survive a restart: %s; name a file that can in DVT_CONFIG_STORE", reason
    )
    return MemoryStore(history)


def _redis_store(url: str, model: str, num_stages: int) -> Store:
    if not url.startswith(_REDIS_SCHEMES):
        # The rest of the URL may contain a password.
        raise SettingsError(f"DVT_CONFIG_STORE: {url.split('://')[0]}:// is not one of {', '.join(_REDIS_SCHEMES)}")
    if importlib.util.find_spec("redis") is None:
        raise SettingsError("DVT_CONFIG_STORE: Redis needs the extra: pip install 'dynamic-vit-service[redis]'")
    from service.configuration.redis_store import RedisStore, connect

    try:
        return RedisStore(connect(url), model=model, num_stages=num_stages)
    except ValueError as error:
        raise SettingsError(f"DVT_CONFIG_STORE: not a URL of a Redis server: {error}") from error
