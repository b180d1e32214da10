"""The configuration in Redis, shared by all replicas."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, WatchError

from service.configuration.store import Store, decode, require_version
from service.engine.operating import History
from service.errors import StoreUnavailableError, VersionConflictError

# No call waits longer than twice this: a broken connection is retried once.
_REDIS_TIMEOUT_S = 1.0


class RedisStore(Store):
    """One key of a Redis server. Changes are found by polling, which cannot miss one and needs no subscription.

    Args:
        client: a Redis client.
        model: part of the key's name.
        num_stages: stages of the model.
    """

    poll_interval_s = 0.25

    def __init__(self, client: Any, *, model: str, num_stages: int) -> None:
        self._client = client
        self._key = f"dvt:config:{model}"
        self._num_stages = num_stages

    async def read(self) -> History | None:
        """As `Store.read`."""
        with self._translated():
            return self._decoded(await self._client.get(self._key))

    async def replace(self, history: History, *, over: int) -> None:
        """As `Store.replace`."""
        with self._translated():
            async with self._client.pipeline(transaction=True) as pipeline:
                await pipeline.watch(self._key)
                require_version(self._decoded(await pipeline.get(self._key)), over)
                pipeline.multi()
                pipeline.set(self._key, msgspec.json.encode(history))
                await pipeline.execute()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _decoded(self, data: bytes | None) -> History | None:
        return decode(data, self._num_stages, f"the key {self._key}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except WatchError as error:
            raise VersionConflictError("another change of the configuration came first") from error
        except (RedisError, OSError) as error:
            # Error texts may contain the address, never the password.
            raise StoreUnavailableError(f"Redis cannot be used: {error}") from error


def connect(url: str) -> Any:
    """A client for this URL; it connects at the first use.

    Raises:
        ValueError: the URL is not one of Redis.
    """
    return Redis.from_url(
        url,
        # Redis before version 6 and some proxies know no newer protocol.
        protocol=2,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[ConnectionError],
    )
