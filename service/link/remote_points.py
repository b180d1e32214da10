"""A front end's side of a channel: the replica's configuration, as if it were here."""

from collections.abc import Sequence

from service.engine.operating import Change, History, OperatingPoint
from service.link.remote import RemoteEngine


class RemoteOperatingPoints:
    """The replica's configuration, as `OperatingPoints` is the process's own."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    @property
    def current(self) -> OperatingPoint:
        """What requests admitted now are given."""
        return self._engine.configuration[-1]

    @property
    def history(self) -> History:
        """The last versions."""
        return self._engine.configuration

    async def start(self) -> None:
        """Nothing: the engine process keeps it in step with its store."""

    async def close(self) -> None:
        """Nothing: the engine process closes it."""

    async def change(self, change: Change, *, if_version: Sequence[int] | None = None) -> OperatingPoint:
        """As `OperatingPoints.change`."""
        return await self._engine.configure(change, if_version)
