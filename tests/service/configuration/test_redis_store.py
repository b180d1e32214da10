"""The store's logic against an imitation; test_replicas.py has the real server."""

import asyncio

import fakeredis
import pytest

from service.configuration.redis_store import RedisStore, connect
from service.errors import StoreUnavailableError, VersionConflictError


@pytest.fixture
def server():
    return fakeredis.FakeServer()


@pytest.fixture
async def connected(server):
    stores = []

    def connect_one(model="a"):
        client = fakeredis.FakeAsyncRedis(server=server)
        stores.append(RedisStore(client, model=model, num_stages=4))
        return stores[-1]

    yield connect_one
    for store in stores:
        await store.close()


async def test_replace_is_what_every_replica_reads_and_over_another_version_it_is_refused(
    connected, make_history
) -> None:
    assert await connected().read() is None
    await connected().replace(make_history(1, 2), over=1)

    assert await connected().read() == make_history(1, 2)
    assert await connected("another model").read() is None
    with pytest.raises(VersionConflictError, match="at version 2, not 1"):
        await connected().replace(make_history(1, 2), over=1)


async def test_replace_of_two_at_once_one_wins(connected, make_history) -> None:
    stores = [connected() for _ in range(6)]
    results = await asyncio.gather(
        *(store.replace(make_history(1, 2), over=1) for store in stores), return_exceptions=True
    )

    assert [type(result).__name__ for result in results if result is not None] == ["VersionConflictError"] * 5


async def test_read_of_something_else_raises_naming_the_key(connected, server) -> None:
    client = fakeredis.FakeAsyncRedis(server=server)
    await client.set("dvt:config:a", "nonsense")
    await client.lpush("dvt:config:b", "item")

    with pytest.raises(StoreUnavailableError, match="key dvt:config:a holds no configuration"):
        await connected().read()
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        await connected("b").read()


async def test_connect_to_nobody_raises_without_the_password() -> None:
    store = RedisStore(connect("redis://:hush@127.0.0.1:1/0"), model="a", num_stages=4)

    with pytest.raises(StoreUnavailableError, match="Redis cannot be used") as caught:
        await store.read()
    assert "hush" not in str(caught.value)
    await store.close()


@pytest.mark.parametrize(("query", "protocol"), [("", 2), ("?protocol=3", 3)])
async def test_connect_protocol_is_that_of_before_redis_6_unless_the_url_says_otherwise(query, protocol) -> None:
    client = connect(f"redis://127.0.0.1:1/0{query}")

    assert int(client.get_connection_kwargs()["protocol"]) == protocol
    await client.aclose()
