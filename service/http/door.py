"""Requests refused at their head, before anything is made of them, while not a single permit is left.

Under overload most of what a front end does is refusing, and the time it takes is missing for answers. Here it takes
half of what it takes in a route, and does not wait for the routes that are under way.
"""

import asyncio
from collections.abc import Sequence

from service.errors import OverloadedError
from service.http.access_log import AccessLog, Client
from service.http.context import Context
from service.http.middleware import request_id_of
from service.http.problems import error_answer
from service.http.walk import require_room

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""

_PATHS = frozenset({b"/classify", b"/"})
"""Of the routes that refuse in the same way themselves, where a request gets as far."""


class Door:
    """Knows which request finds no room."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._access_log = AccessLog(context.settings.access_log)
        self._arrived = 0  # in this turn of the loop; they take their permits in the next

    def refusal(
        self, method: bytes, target: bytes, headers: Headers, own_headers: Headers, client: Client = None
    ) -> bytes | None:
        """The whole answer to a request, or None where a route is to answer it.

        Args:
            own_headers: what the server adds to every answer.
        """
        if not _takes_images(method, target):
            return None
        # Who needs a key must hear of that first; and a connection that is to be closed is closed elsewhere.
        if self._context.api_keys is not None or self._context.draining:
            return None
        try:
            require_room(self._context, self._arrived)
        except OverloadedError as error:
            self._context.metrics.request_done(429, None)
            path, request_id = target.partition(b"?")[0].decode(), request_id_of(headers)
            self._access_log.answered(client, method.decode(), target, 429, 0.0, request_id)
            return error_answer(error, path, request_id, own_headers)
        return None

    def refused(self, status: int, client: Client) -> None:
        """What is no request was answered with this status."""
        self._context.metrics.request_done(status, None)
        self._access_log.refused(client, status)

    def arrived(self, method: bytes, target: bytes) -> None:
        """A request that was let in is about to take its permit. One whose body is still to come holds nobody up."""
        if not _takes_images(method, target):
            return
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._arrived += 1

    def _begin_turn(self) -> None:
        self._arrived = 0


def _takes_images(method: bytes, target: bytes) -> bool:
    return method == b"POST" and target.partition(b"?")[0] in _PATHS
