"""Request bodies: read in memory, under a limit of bytes that is checked while they arrive."""

from collections.abc import Callable

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from service import errors

_JSON = b"application/json"
_MULTIPART = b"multipart/form-data"
_ACCEPTED = "image/*, application/octet-stream, multipart/form-data or application/json"


def is_json(request: Request) -> bool:
    """Whether the content type is JSON."""
    media_type, _ = parse_options_header(request.headers.get("content-type", ""))
    return bool(media_type == _JSON)


async def read_images(request: Request, *, max_bytes: int, max_images: int) -> list[bytes]:
    """The encoded images of a request, at least one.

    Raises:
        UnsupportedMediaError: the content type is not accepted, or the body is compressed.
        TooLargeError: more bytes or images than allowed.
        MalformedRequestError: a multipart body that cannot be parsed.
        InvalidParameterError: a part that is not a file named `file`, or no part at all.
        ClientLeftError: the client disconnected before the end of the body.
    """
    # A body without a content type may be treated as a stream of bytes (RFC 9110, 8.3).
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type, options = parse_options_header(content_type)
    if media_type == _MULTIPART:
        return await _read_parts(request, max_bytes, max_images, options.get(b"boundary", b""))
    if media_type.startswith(b"image/") or media_type == b"application/octet-stream":
        return [await read_body(request, max_bytes=max_bytes)]
    raise errors.UnsupportedMediaError(f"content type {content_type[:100]!r} is not accepted; send {_ACCEPTED}")


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: more than `max_bytes`; raised before the rest is read.
        UnsupportedMediaError: the body is compressed.
        ClientLeftError: the client disconnected before the end of the body.
    """
    chunks: list[bytes] = []
    await _receive(request, max_bytes, chunks.append)
    return b"".join(chunks)


async def _receive(request: Request, max_bytes: int, write: Callable[[bytes], object]) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        # A small compressed body can expand beyond every limit.
        raise errors.UnsupportedMediaError(
            f"content encoding {encoding[:100]!r} is not accepted; send the body as it is"
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise errors.TooLargeError(f"the body has {announced} bytes; the limit is {max_bytes}")
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise errors.ClientLeftError("the client left before it had sent its request")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise errors.TooLargeError(f"the body has more bytes than the limit of {max_bytes}")
        if chunk:
            write(chunk)


async def _read_parts(request: Request, max_bytes: int, max_images: int, boundary: bytes) -> list[bytes]:
    """The contents of a multipart body."""
    if not boundary:
        raise errors.MalformedRequestError("the multipart content type names no boundary")
    parts = _Parts(max_images)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": lambda data, start, end: parts.field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: parts.value.extend(data[start:end]),
                "on_header_end": parts.end_header,
                "on_headers_finished": parts.check_name,
                "on_part_data": lambda data, start, end: parts.data.extend(data[start:end]),
                "on_part_end": lambda: parts.images.append(bytes(parts.data)),
            },
        )
        await _receive(request, max_bytes, parser.write)
    except FormParserError as error:
        raise errors.MalformedRequestError(f"multipart: {error}") from error
    if parser.state != MultipartState.END:
        raise errors.MalformedRequestError("multipart: the body ends before its last boundary")
    if not parts.images:
        raise errors.InvalidParameterError("multipart: no part named 'file'")
    return parts.images


class _Parts:
    """Collects the parts named `file` of a multipart body.

    Starlette's own parser would write them to disk, and would read a part without a filename as text. Nothing here
    refers to the parser: in a reference cycle the images would stay in memory until the next garbage collection.
    """

    def __init__(self, max_images: int) -> None:
        self.images: list[bytes] = []
        self.field, self.value, self.data = bytearray(), bytearray(), bytearray()
        self._disposition = b""
        self._max_images = max_images

    def begin(self) -> None:
        if len(self.images) == self._max_images:
            raise errors.TooLargeError(f"the request has more images than the limit of {self._max_images}")
        self._disposition = b""
        self.data = bytearray()

    def end_header(self) -> None:
        if self.field.lower() == b"content-disposition":
            self._disposition = bytes(self.value)
        self.field.clear()
        self.value.clear()

    def check_name(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "file":
            raise errors.InvalidParameterError(f"multipart: unknown part {name[:100]!r}; images are parts named 'file'")
