"""Bodies as they arrive: chunk by chunk, damaged, too long, or not to their end."""

import pytest
from fastapi import Request

from service import errors
from service.http.bodies import read_body, read_images

MULTIPART = "multipart/form-data; boundary=sep"
LEFT = None
"""A chunk that stands for the client's leaving."""
END = b"--sep--\r\n"


def make_request(chunks, content_type=MULTIPART, **headers):
    """A request whose body comes in these chunks; `request.state.unread` are those nobody asked for."""
    unread = list(chunks)

    async def receive():
        chunk = unread.pop(0) if unread else b""
        if chunk is LEFT:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(unread)}

    if content_type is not None:
        headers["content-type"] = content_type
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    request = Request({"type": "http", "headers": raw}, receive)
    request.state.unread = unread
    return request


async def images_of(*chunks, content_type=MULTIPART, max_images=3):
    return await read_images(make_request(chunks, content_type), max_bytes=10_000, max_images=max_images)


def part(content=b"data", disposition=b'form-data; name="file"; filename="a.png"', more=b""):
    return b"--sep\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + content + b"\r\n"


@pytest.mark.parametrize("content_type", ["IMAGE/PNG", "image/webp; q=1", "application/octet-stream", None])
async def test_read_images_of_a_raw_body_is_one_image(content_type):
    assert await images_of(b"ab", b"", b"c", content_type=content_type) == [b"abc"]


@pytest.mark.parametrize("content_type", ["", "image", "application/json", "multipart/mixed; boundary=sep", "x" * 5000])
async def test_read_images_of_another_type_is_refused_in_few_words_before_anything_is_read(content_type):
    request = make_request([b"data"], content_type)

    with pytest.raises(errors.UnsupportedMediaError, match="multipart/form-data") as refusal:
        await read_images(request, max_bytes=10, max_images=1)
    assert request.state.unread == [b"data"]
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_read_images_parts_are_the_same_however_the_body_is_cut(size):
    contents = [b"first", b"", b"\r\n--se not a boundary\r\n--sep\r", bytes(range(256))]
    body = b"".join(map(part, contents)) + END
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    assert await images_of(*chunks, max_images=4) == contents


@pytest.mark.parametrize(
    "body",
    [
        part(disposition=b"form-data; name=file"),
        part(disposition=b'FORM-DATA; NAME="file"; filename=""'),
        part(disposition=b'form-data; filename="a;b\\"c.png"; name="file"'),
        part(disposition='form-data; name="file"; filename="ü.png"'.encode()),
        part(more=b"Content-Type: text/html\r\nX-Name: name=other\r\n"),
        part().replace(b"Content-Disposition", b"cOnTent-disposition"),
    ],
)
async def test_read_images_part_named_file_is_an_image_whatever_else_its_headers_say(body):
    assert await images_of(body + END) == [b"data"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (part(disposition=b'form-data; name="File"'), "'File'"),
        (part(disposition=b'form-data; name="files"'), "'files'"),
        (part(disposition=b'form-data; filename="file"'), "''"),
        (part(disposition=b"form-data; name=\xff"), "part"),
        (part(disposition=b'form-data; name="%s"' % (b"n" * 1000)), "n" * 100),
        (b"--sep\r\nContent-Type: image/png\r\n\r\nx\r\n", "''"),
        (part() + b"--sep\r\n\r\nx\r\n", "''"),
    ],
)
async def test_read_images_part_with_another_name_is_refused_naming_it(body, name):
    with pytest.raises(errors.InvalidParameterError, match=name) as refusal:
        await images_of(body + part() + END)
    assert len(str(refusal.value)) < 300


async def test_read_images_without_a_part_is_refused():
    with pytest.raises(errors.InvalidParameterError, match="no part named 'file'"):
        await images_of(END)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "Multipart/Form-Data; boundary="])
async def test_read_images_without_a_boundary_is_malformed(content_type):
    with pytest.raises(errors.MalformedRequestError, match="no boundary"):
        await images_of(part() + END, content_type=content_type)


async def test_read_images_body_cut_anywhere_is_malformed():
    body = part(b"one") + part(b"two") + END.rstrip()
    for length in range(len(body) - 1):
        with pytest.raises(errors.MalformedRequestError, match="multipart"):
            await images_of(body[:length])


@pytest.mark.parametrize("body", [b"garbage", b"--other\r\n\r\n", b"--sep\r\nno colon\r\n\r\n", b"--sepsep\r\n"])
async def test_read_images_body_that_is_not_multipart_is_malformed(body):
    with pytest.raises(errors.MalformedRequestError, match="multipart"):
        await images_of(body + END)


@pytest.mark.parametrize(
    "boundary", ["*=utf-8''%E2%82%AC", "*=nothing''sep", '="', '="\xe9"', "=" + "s" * 5000, "=a; boundary=b"]
)
async def test_read_images_odd_boundary_is_an_error_of_ours(boundary):
    with pytest.raises(errors.ServiceError):
        await images_of(part() + END, content_type=f"multipart/form-data; boundary{boundary}")


async def test_read_images_as_many_as_the_limit_are_taken_and_one_more_is_refused_before_it_is_read():
    assert len(await images_of(part() * 3 + END, max_images=3)) == 3

    request = make_request([*[part()] * 4, b"never asked for"])
    with pytest.raises(errors.TooLargeError, match="limit of 3"):
        await read_images(request, max_bytes=10_000, max_images=3)
    assert request.state.unread == [b"never asked for"]


@pytest.mark.parametrize("announced", ["-1", "five", "", "²", "4"])
async def test_read_body_of_the_limit_is_taken_whatever_is_announced(announced):
    assert await read_body(make_request([b"data"], content_length=announced), max_bytes=4) == b"data"


@pytest.mark.parametrize(
    ("announced", "message", "unread"),
    [("5", r"5 bytes.*limit is 4", [b"12", b"34", b"5", b"unread"]), ("2", "limit of 4", [b"unread"])],
)
async def test_read_body_over_the_limit_is_refused_without_reading_on(announced, message, unread):
    request = make_request([b"12", b"34", b"5", b"unread"], content_length=announced)

    with pytest.raises(errors.TooLargeError, match=message):
        await read_body(request, max_bytes=4)
    assert request.state.unread == unread


@pytest.mark.parametrize("content_type", [MULTIPART, "image/png"])
@pytest.mark.parametrize("chunks", [[LEFT], [part(), b"", LEFT]])
async def test_read_images_client_that_leaves_while_sending_cancels(chunks, content_type):
    with pytest.raises(errors.ClientLeftError):
        await images_of(*chunks, content_type=content_type)
