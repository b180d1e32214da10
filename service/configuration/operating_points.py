"""The live configuration: exit thresholds that can change while the service runs."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from service.configuration.adaptation import Adaptation
from service.configuration.store import HISTORY_LENGTH, MemoryStore, Store
from service.engine.operating import Change, History, OperatingPoint, parse_thresholds
from service.errors import StoreUnavailableError, VersionConflictError

_logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 5


class OperatingPoints:
    """Holds the versions of the configuration, the last one in force, and synchronises them with a store.

    Belongs to one event loop; `current` may be read from any thread. The higher version wins: a store with an older
    version is updated, and an unreachable store changes nothing.

    The stored thresholds stay as they were set. If the current version was set for other weights, this replica uses
    adapted thresholds under the same version number, so that replicas agree while their weights are replaced.

    Args:
        thresholds: the model's own, version 1.
        adaptation: adapts stored points to this replica's weights; None uses them unchanged.

    Attributes:
        on_change: called with every new history.
    """

    def __init__(
        self, thresholds: Sequence[float], store: Store | None = None, adaptation: Adaptation | None = None
    ) -> None:
        self._num_stages = len(thresholds) + 1
        self._store = store or MemoryStore()
        self._own = parse_thresholds(thresholds, self._num_stages)
        self._adaptation = adaptation
        self._calibration = None if adaptation is None else adaptation.calibration
        self._current = OperatingPoint(
            version=1, thresholds=self._own, calibration=self._calibration, updated_at=datetime.now(UTC)
        )
        self._shared: History = (self._current,)
        self._reachable = True
        self._changing = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None
        self.on_change: Callable[[History], None] = lambda _: None

    @property
    def current(self) -> OperatingPoint:
        """The configuration that newly admitted requests get."""
        return self._current

    @property
    def history(self) -> History:
        """The last versions; those before the current one as they were set."""
        return (*self._shared[:-1], self._current)

    @property
    def stored(self) -> bool:
        """Whether the configuration is stored and will survive a restart."""
        return self._reachable and self._store.durable

    async def start(self) -> None:
        """Adopt the stored configuration, and from then on changes by others."""
        if not self._store.durable:
            _logger.warning("changes of the configuration will not survive a restart: its file cannot be written")
        await self._synchronise()
        if self._store.poll_interval_s is not None:
            self._polling = asyncio.create_task(self._poll(self._store.poll_interval_s))

    async def close(self) -> None:
        """Stop polling and close the store."""
        if self._polling is not None:
            self._polling.cancel()
            with suppress(asyncio.CancelledError):
                await self._polling
        await self._store.close()

    async def change(self, change: Change, *, if_version: Sequence[int] | None = None) -> OperatingPoint:
        """Store new thresholds, put them into force, and return the new operating point.

        Args:
            if_version: change only if the current version is one of these.

        Raises:
            InvalidParameterError: the thresholds are not valid.
            StoreUnavailableError: the change cannot be stored.
            VersionConflictError: the current version is another one.
        """
        parse_thresholds(change.thresholds, self._num_stages)
        async with self._changing:
            with self._reachability_noted():
                for _ in range(_MAX_ATTEMPTS):
                    await self._refresh()
                    version = self.current.version
                    if if_version is not None and version not in if_version:
                        wanted = " or ".join(map(str, if_version)) or "what If-Match names"
                        raise VersionConflictError(f"the configuration is at version {version}, not {wanted}")
                    point = self.current.changed(change, self._calibration)
                    history = (*self._shared, point)[-HISTORY_LENGTH:]
                    with suppress(VersionConflictError):  # another change came first: try again
                        await self._store.replace(history, over=version)
                        await self._adopt(history)
                        return self.current
        raise VersionConflictError(f"others changed the configuration {_MAX_ATTEMPTS} times meanwhile; try again")

    async def _poll(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self._synchronise()

    async def _synchronise(self) -> None:
        async with self._changing:
            with suppress(StoreUnavailableError), self._reachability_noted():
                await self._refresh()

    @contextmanager
    def _reachability_noted(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailableError as error:
            if self._reachable:
                _logger.error("version %d of the configuration stays in force: %s", self.current.version, error)
            self._reachable = False
            raise
        if not self._reachable:
            _logger.info("the configuration's store is back, version %d is in force", self.current.version)
        self._reachable = True

    async def _refresh(self) -> None:
        stored = await self._store.read()
        if stored is not None and stored[-1].version >= self.current.version:
            await self._adopt(stored)
        elif self.current.version > 1:
            # The store lost this version. Another replica may restore it at the same time.
            with suppress(VersionConflictError):
                await self._store.replace(self._shared, over=stored[-1].version if stored else 1)

    async def _adopt(self, history: History) -> None:
        if history == self._shared:
            return
        point = history[-1]
        if self._adaptation is not None and not self._adaptation.fits(point):
            # Solving would block the event loop; the old version stays in force meanwhile.
            point = await asyncio.to_thread(self._adaptation.adapted, point, self._own)
        self._shared, self._current = history, point
        version, by, thresholds = point.version, point.changed_by, list(point.thresholds)
        _logger.info("version %d of the configuration, by %s: thresholds %s", version, by, thresholds)
        self.on_change(self.history)
