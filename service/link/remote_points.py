"""A front end's side of a channel: the configuration of the replica."""

from collections.abc import Sequence

from service.engine.operating import Change, History, OperatingPoint
from service.link.remote import RemoteEngine


class RemoteOperatingPoints:
    """The configuration of the replica, which the engine process keeps."""

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

    async def change(self, change: Change, *, if_version: Sequence[int] | None = None) -> OperatingPoint:
        """Put new thresholds into force in all front ends; raises as `OperatingPoints.change`."""
        return await self._engine.configure(change, if_version)
