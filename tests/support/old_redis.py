"""A Redis of before version 6, as far as one key needs it: it knows no HELLO, and a password but no users."""

import asyncio


class OldRedis:
    """Answers on one port of loopback.

    Attributes:
        password: needed first, if there is one.
        port: of 127.0.0.1.
    """

    def __init__(self, password: bytes | None = None) -> None:
        self.password = password
        self._values: dict[bytes, bytes] = {}

    async def __aenter__(self) -> "OldRedis":
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known, queued = self.password is None, None
        while command := await _command(reader):
            name, *arguments = command
            match name.upper():
                case b"AUTH" if len(arguments) != 1:
                    answer = b"-ERR wrong number of arguments for 'auth' command"
                case b"AUTH":
                    known = arguments == [self.password]
                    answer = b"+OK" if known else b"-ERR invalid password"
                case _ if not known:
                    answer = b"-NOAUTH Authentication required."
                case b"SELECT" | b"WATCH" | b"UNWATCH":
                    answer = b"+OK"
                case b"MULTI":
                    queued, answer = {}, b"+OK"
                case b"SET" if queued is not None:
                    queued[arguments[0]], answer = arguments[1], b"+QUEUED"
                case b"EXEC" if queued is not None:
                    self._values |= queued
                    answer = b"*%d" % len(queued) + b"\r\n+OK" * len(queued)
                    queued = None
                case b"GET":
                    value = self._values.get(arguments[0])
                    answer = b"$-1" if value is None else b"$%d\r\n%s" % (len(value), value)
                case _:
                    answer = b"-ERR unknown command '%s'" % name
            writer.write(answer + b"\r\n")
        writer.close()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    line = await reader.readline()
    parts = []
    for _ in range(int(line[1:] or 0)):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts
