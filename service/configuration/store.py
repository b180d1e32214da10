"""The interface of a configuration store, the store in memory, and the stored format."""

from abc import ABC, abstractmethod

import msgspec

from service.engine.operating import History, OperatingPoint, parse_thresholds
from service.errors import InvalidParameterError, StoreUnavailableError, VersionConflictError

HISTORY_LENGTH = 20
"""Number of versions that are kept."""


class Store(ABC):
    """Keeps the history of a configuration. An empty store counts as version 1: the model's own thresholds.

    Attributes:
        poll_interval_s: interval at which to look for changes by others; None if nobody else changes the store.
        durable: whether changes are kept as this kind of store promises.
    """

    poll_interval_s: float | None = None
    durable = True

    @abstractmethod
    async def read(self) -> History | None:
        """The stored history.

        Raises:
            StoreUnavailableError: it cannot be read, or is not a configuration of this model.
        """

    @abstractmethod
    async def replace(self, history: History, *, over: int) -> None:
        """Replace the stored history, which must end with version `over`.

        Raises:
            StoreUnavailableError: it cannot be written.
            VersionConflictError: another version is stored.
        """

    async def close(self) -> None:
        """Close connections."""
        return


class MemoryStore(Store):
    """Keeps the history while the process lives."""

    def __init__(self, history: History | None = None) -> None:
        self._history = history

    async def read(self) -> History | None:
        """As `Store.read`."""
        return self._history

    async def replace(self, history: History, *, over: int) -> None:
        """As `Store.replace`, without conflicts."""
        self._history = history


def require_version(stored: History | None, version: int) -> None:
    """Check that the stored history ends with this version.

    Raises:
        VersionConflictError: it ends with another one.
    """
    found = stored[-1].version if stored else 1
    if found != version:
        raise VersionConflictError(f"the configuration is at version {found}, not {version}")


def decode(data: bytes | msgspec.Raw | None, num_stages: int, place: str) -> History | None:
    """Read and check a history that `msgspec.json.encode` wrote; None stays None.

    Raises:
        StoreUnavailableError: for anything else; the text names `place`.
    """
    if data is None:
        return None
    try:
        history = msgspec.json.decode(data, type=tuple[OperatingPoint, ...])
        for point in history:
            parse_thresholds(point.thresholds, num_stages)
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidParameterError) as error:
        raise StoreUnavailableError(f"{place} holds no configuration of this model: {error}") from error
    versions = [point.version for point in history]
    if not versions or versions[0] < 1 or versions != list(range(versions[0], versions[0] + len(versions))):
        raise StoreUnavailableError(f"{place} holds no configuration of this model: versions {versions[:5]}")
    return history
