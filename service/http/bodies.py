"""Request bodies, read under a byte limit while they arrive, and taken apart in memory."""

from collections.abc import Callable

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import (
    ClientLeftError,
    InvalidParameterError,
    MalformedRequestError,
    TooLargeError,
    UnsupportedMediaError,
)

_JSON = b"application/json"
_MULTIPART = b"multipart/form-data"
_ACCEPTED = "image/*, application/octet-stream, multipart/form-data or application/json"


def is_json(request: Request) -> bool:
    """Whether the body says that it is JSON."""
    media_type, _ = parse_options_header(request.headers.get("content-type", ""))
    return bool(media_type == _JSON)


async def read_images(request: Request, *, max_bytes: int, max_images: int) -> list[bytes]:
    """The encoded images of a request, at least one.

    Raises:
        UnsupportedMediaError: the content type is none of the accepted ones.
        TooLargeError: more bytes or images than allowed.
        MalformedRequestError: a multipart body that cannot be taken apart.
        InvalidParameterError: a part that is not a file named `file`, or no part at all.
        ClientLeftError: the client left before it had sent everything.
    """
    # A body without a type may be taken for a stream of bytes (RFC 9110, 8.3).
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type, options = parse_options_header(content_type)
    if media_type == _MULTIPART:
        parts = _FileParts(options.get(b"boundary", b""), max_images)
        try:
            await _receive(request, max_bytes, parts.write)
            return parts.finish()
        finally:
            parts.close()
    if media_type.startswith(b"image/") or media_type == b"application/octet-stream":
        return [await read_body(request, max_bytes=max_bytes)]
    raise UnsupportedMediaError(f"content type {content_type[:100]!r} is not accepted; send {_ACCEPTED}")


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: more than `max_bytes`; raised before the rest is read.
        UnsupportedMediaError: it is compressed.
        ClientLeftError: the client left before it had sent everything.
    """
    chunks: list[bytes] = []
    await _receive(request, max_bytes, chunks.append)
    return b"".join(chunks)


async def _receive(request: Request, max_bytes: int, write: Callable[[bytes], None]) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        # A small body that unpacks into a huge one would get around every limit.
        raise UnsupportedMediaError(f"content encoding {encoding[:100]!r} is not accepted; send the body as it is")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise TooLargeError(f"the body has {announced} bytes; the limit is {max_bytes}")
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("the client left before it had sent its request")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError(f"the body has more bytes than the limit of {max_bytes}")
        if chunk:
            write(chunk)
        if not message.get("more_body", False):
            return


class _FileParts:
    """Collects the parts named `file` of a multipart body, as it arrives.

    Starlette's own parser would spool them to disk, and read a part without a filename as text.
    """

    def __init__(self, boundary: bytes, max_images: int) -> None:
        if not boundary:
            raise MalformedRequestError("the multipart content type names no boundary")
        self._max_images = max_images
        self._images: list[bytes] = []
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._data = bytearray()
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_begin": self._on_header_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
                    "on_part_end": lambda: self._images.append(bytes(self._data)),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise MalformedRequestError(f"multipart: {error}") from error

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequestError(f"multipart: {error}") from error

    def finish(self) -> list[bytes]:
        if not self._complete:
            raise MalformedRequestError("multipart: the body ends before its last boundary")
        if not self._images:
            raise InvalidParameterError("multipart: no part named 'file'")
        return self._images

    def close(self) -> None:
        """Let go of the parser, which refers back here: the images would stay until the next collection."""
        del self._parser

    def _on_part_begin(self) -> None:
        if len(self._images) == self._max_images:
            raise TooLargeError(f"the request has more images than the limit of {self._max_images}")
        self._disposition = b""
        self._data = bytearray()

    def _on_header_begin(self) -> None:
        self._header = (bytearray(), bytearray())

    def _on_header_end(self) -> None:
        field, value = self._header
        if field.lower() == b"content-disposition":
            self._disposition = bytes(value)

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "file":
            raise InvalidParameterError(f"multipart: unknown part {name[:100]!r}; images are parts named 'file'")

    def _on_end(self) -> None:
        self._complete = True
