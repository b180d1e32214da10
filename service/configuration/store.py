"""What a configuration is kept in, and how it is written there."""

from typing import Protocol

import msgspec

from service.engine.operating import History, OperatingPoint, parse_thresholds
from service.errors import InvalidParameterError, StoreUnavailableError, VersionConflictError

HISTORY_LENGTH = 20
"""Versions that are remembered."""


class Store(Protocol):
    """Keeps the history of a configuration. Nothing stored counts as version 1: the model's own.

    Attributes:
        poll_interval_s: seconds after which somebody else may have changed it; None where nobody else does.
        durable: whether what is stored lasts as long as who chose this store expects.
    """

    @property
    def poll_interval_s(self) -> float | None: ...  # noqa: D102 - in the class's text

    @property
    def durable(self) -> bool: ...  # noqa: D102 - in the class's text

    async def read(self) -> History | None:
        """What is stored.

        Raises:
            StoreUnavailableError: it cannot be read, or is not a configuration of this model.
        """

    async def replace(self, history: History, *, over: int) -> None:
        """Store this instead of what ends with version `over`.

        Raises:
            StoreUnavailableError: it cannot be written.
            VersionConflictError: another version is stored.
        """

    async def close(self) -> None:
        """Let go of what it holds open."""


class MemoryStore:
    """Remembers while the process lives."""

    poll_interval_s = None
    durable = True

    def __init__(self, history: History | None = None) -> None:
        self._history = history

    async def read(self) -> History | None:
        """As `Store.read`."""
        return self._history

    async def replace(self, history: History, *, over: int) -> None:
        """As `Store.replace`; nobody else stores anything here."""
        self._history = history

    async def close(self) -> None:
        """Nothing is held."""


def require_version(stored: History | None, version: int) -> None:
    """Check that what is stored ends with this version.

    Raises:
        VersionConflictError: it does not.
    """
    found = stored[-1].version if stored else 1
    if found != version:
        raise VersionConflictError(f"the configuration is at version {found}, not {version}")


def encode(history: History) -> bytes:
    """The history as JSON."""
    return msgspec.json.encode(history)


def decode(data: bytes | msgspec.Raw, num_stages: int, place: str) -> History:
    """What `encode` wrote, checked.

    Raises:
        StoreUnavailableError: naming `place`, for anything else.
    """
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
