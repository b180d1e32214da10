import asyncio
import socket

import msgspec
import pytest

from service.link.channel import Channel, receive_one
from service.link.messages import Cancel, FromFrontEnd, Seen


async def channels() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return await Channel.open(ours, FromFrontEnd), await Channel.open(theirs, FromFrontEnd)


async def test_channel_messages_arrive_in_order_as_what_they_were_and_once_they_are_sent() -> None:
    here, there = await channels()
    received = there.receive()
    here.send(Cancel(1))
    assert await anext(received) == Cancel(1)
    here.send(Seen(2))
    here.send(Cancel(3))
    await here.close()

    assert [message async for message in received] == [Seen(2), Cancel(3)]
    await there.close()


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
async def test_channel_messages_are_the_same_however_they_are_cut_until_the_other_end_dies(size: int) -> None:
    ours, theirs = socket.socketpair()
    there = await Channel.open(theirs, FromFrontEnd)
    sent = [Seen(2**40), *map(Cancel, range(20)), Cancel(300)]
    bodies = [msgspec.msgpack.encode(message) for message in sent]
    stream = b"".join(len(body).to_bytes(4, "little") + body for body in [*bodies, b"never complete"])[:-1]
    with ours:
        for start in range(0, len(stream), size):
            ours.sendall(stream[start : start + size])
            await asyncio.sleep(0)

    assert [message async for message in there.receive()] == sent
    await there.close()


async def test_send_after_the_other_end_is_gone_does_nothing() -> None:
    here, there = await channels()
    await there.close()
    assert [message async for message in here.receive()] == []
    for _ in range(3):
        here.send(Cancel(1))
        await asyncio.sleep(0)
    await here.close()


def test_receive_one_reads_exactly_one_message() -> None:
    async def send(sock: socket.socket) -> None:
        channel: Channel = await Channel.open(sock, FromFrontEnd)
        channel.send(Seen(7))
        channel.send(Seen(8))
        await channel.close()

    ours, theirs = socket.socketpair()
    asyncio.run(send(ours))
    with theirs:
        assert [receive_one(theirs, FromFrontEnd) for _ in range(2)] == [Seen(7), Seen(8)]
        with pytest.raises(EOFError):
            receive_one(theirs, FromFrontEnd)
