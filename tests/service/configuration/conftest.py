from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from service.configuration.store import Store, require_version
from service.engine.operating import History, OperatingPoint, Target
from service.errors import StoreUnavailableError

MakeHistory = Callable[..., History]


class SharedStore(Store):
    """What several replicas share, in memory; `error` makes it unavailable."""

    poll_interval_s = 0.01

    def __init__(self) -> None:
        self.history: History | None = None
        self.error: str | None = None
        self.reads = 0
        self.before_replace: Callable[[], None] = lambda: None

    async def read(self) -> History | None:
        self.reads += 1
        self._check()
        return self.history

    async def replace(self, history: History, *, over: int) -> None:
        self._check()
        self.before_replace()
        require_version(self.history, over)
        self.history = history

    def _check(self) -> None:
        if self.error is not None:
            raise StoreUnavailableError(self.error)


@pytest.fixture
def shared() -> SharedStore:
    return SharedStore()


@pytest.fixture
def make_history() -> MakeHistory:
    """`make_history(3, 5)`: versions 3 to 5, for a model of four stages."""

    def make(first: int, last: int) -> History:
        return tuple(
            OperatingPoint(
                version=version,
                thresholds=(version / 100,) * 3,
                target=Target("accuracy", 0.75) if version % 2 else None,
                calibration=f"calibration {version}",
                changed_by="alice",
                updated_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
            for version in range(first, last + 1)
        )

    return make
