"""Bodies as they arrive: chunk by chunk, damaged, too long, or not to their end."""

import pytest
from fastapi import Request

from service.errors import (
    ClientLeftError,
    InvalidParameterError,
    MalformedRequestError,
    ServiceError,
    TooLargeError,
    UnsupportedMediaError,
)
from service.http.bodies import read_body, read_images

MULTIPART = "multipart/form-data; boundary=sep"
LEFT = None
"""A chunk that stands for the client's leaving."""


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


async def images_of(*chunks, content_type=MULTIPART, max_bytes=10_000, max_images=3, **headers):
    return await read_images(make_request(chunks, content_type, **headers), max_bytes=max_bytes, max_images=max_images)


def part(content, disposition=b'form-data; name="file"; filename="a.png"', more=b""):
    return b"--sep\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + content + b"\r\n"


END = b"--sep--\r\n"


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/PNG", "image/webp; q=1", "application/octet-stream", None]
)
async def test_read_images_of_a_raw_body_is_one_image(content_type):
    assert await images_of(b"ab", b"", b"c", content_type=content_type) == [b"abc"]


@pytest.mark.parametrize(
    "content_type", ["", ";", "image", "application/json", "multipart/mixed; boundary=sep", "\xff"]
)
async def test_read_images_of_another_type_is_refused_before_anything_is_read(content_type):
    request = make_request([b"data"], content_type)

    with pytest.raises(UnsupportedMediaError, match="multipart/form-data"):
        await read_images(request, max_bytes=10, max_images=1)
    assert request.state.unread == [b"data"]


async def test_read_images_long_content_type_is_shortened_in_the_error():
    with pytest.raises(UnsupportedMediaError) as refusal:
        await images_of(content_type="x" * 5000)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_read_images_parts_are_the_same_however_the_body_is_cut(size):
    contents = [b"first", b"", b"\r\n--se not a boundary\r\n--sep\r", bytes(range(256))]
    body = b"".join(map(part, contents)) + END
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    assert await images_of(*chunks, max_images=4) == contents


@pytest.mark.parametrize(
    "disposition",
    [
        b'form-data; name="file"',
        b"form-data; name=file",
        b'FORM-DATA; NAME="file"; filename=""',
        b'form-data; filename="a;b\\"c.png"; name="file"',
        b"form-data; name=\"file\"; filename*=utf-8''%E2%82%AC.png",
        'form-data; name="file"; filename="ü.png"'.encode(),
    ],
)
async def test_read_images_part_named_file_is_an_image_whatever_else_its_header_says(disposition):
    assert await images_of(part(b"data", disposition) + END) == [b"data"]


async def test_read_images_other_headers_of_a_part_are_passed_over():
    more = b"Content-Type: text/html\r\nX-Name: name=other\r\n"

    assert await images_of(part(b"data", more=more) + END) == [b"data"]


async def test_read_images_header_name_of_a_part_is_read_in_any_case():
    assert await images_of(part(b"data").replace(b"Content-Disposition", b"cOnTent-disposition") + END) == [b"data"]


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (part(b"x", b'form-data; name="picture"'), "'picture'"),
        (part(b"x", b'form-data; name="File"'), "'File'"),
        (part(b"x", b'form-data; name="files"'), "'files'"),
        (part(b"x", b'form-data; filename="file"'), "''"),
        (part(b"x", b"form-data; name=\xff"), "part"),
        (b"--sep\r\nContent-Type: image/png\r\n\r\nx\r\n", "''"),
        (b"--sep\r\n\r\nx\r\n", "''"),
        (part(b"x", b'form-data; name="%s"' % (b"n" * 1000)), "n" * 100),
    ],
)
async def test_read_images_part_with_another_name_is_refused_naming_it(first, name):
    with pytest.raises(InvalidParameterError, match=name) as refusal:
        await images_of(first + part(b"data") + END)
    assert len(str(refusal.value)) < 300


async def test_read_images_name_of_one_part_does_not_hold_for_the_next():
    with pytest.raises(InvalidParameterError, match="''"):
        await images_of(part(b"data") + b"--sep\r\n\r\nx\r\n" + END)


@pytest.mark.parametrize("body", [END, b"\r\n" + END])
async def test_read_images_without_a_part_is_refused(body):
    with pytest.raises(InvalidParameterError, match="no part named 'file'"):
        await images_of(body)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "Multipart/Form-Data"]
)
async def test_read_images_without_a_boundary_is_malformed(content_type):
    with pytest.raises(MalformedRequestError, match="no boundary"):
        await images_of(part(b"data") + END, content_type=content_type)


async def test_read_images_body_cut_anywhere_is_malformed():
    body = part(b"one") + part(b"two") + END.rstrip()
    for length in range(len(body) - 1):
        with pytest.raises(MalformedRequestError, match="multipart"):
            await images_of(body[:length])


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b"--other\r\n\r\n",
        b"--sep\r\nbad header: x\r\n\r\n",
        b"--sep\r\nno colon\r\n\r\n",
        b"--sep\n\n",
        b"--sep\r\nContent-Disposition: form-data\rX",
        b"--sepsep\r\n",
    ],
)
async def test_read_images_body_that_is_not_multipart_is_malformed(body):
    with pytest.raises(MalformedRequestError, match="multipart"):
        await images_of(body + END)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary*=utf-8''%E2%82%AC",
        "multipart/form-data; boundary*=nothing''sep",
        "multipart/form-data; boundary*0=s; boundary*1=ep",
        'multipart/form-data; boundary="',
        'multipart/form-data; boundary="\xe9"',
        "multipart/form-data; boundary=" + "s" * 5000,
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; =;;==",
    ],
)
async def test_read_images_odd_boundary_is_an_error_of_ours(content_type):
    with pytest.raises(ServiceError):
        await images_of(part(b"data") + END, content_type=content_type)


async def test_read_images_one_more_than_the_limit_is_refused_before_it_is_read():
    request = make_request([*[part(b"data")] * 3, b"never asked for"])

    with pytest.raises(TooLargeError, match="limit of 2"):
        await read_images(request, max_bytes=10_000, max_images=2)
    assert request.state.unread == [b"never asked for"]


async def test_read_images_as_many_as_the_limit_are_taken():
    assert len(await images_of(part(b"data") * 3 + END, max_images=3)) == 3


@pytest.mark.parametrize("announced", ["-1", "five", "", "²"])
async def test_read_body_announced_length_that_is_no_number_is_passed_over(announced):
    request = make_request([b"data"], content_length=announced)

    assert await read_body(request, max_bytes=4) == b"data"


async def test_read_body_announced_length_over_the_limit_is_refused_unread():
    request = make_request([b"data"], content_length="5")

    with pytest.raises(TooLargeError, match=r"5 bytes.*limit is 4"):
        await read_body(request, max_bytes=4)
    assert request.state.unread == [b"data"]


async def test_read_body_longer_than_announced_is_refused_at_the_limit_all_the_same():
    request = make_request([b"12", b"34", b"5", b"unread"], content_length="2")

    with pytest.raises(TooLargeError, match="limit of 4"):
        await read_body(request, max_bytes=4)
    assert request.state.unread == [b"unread"]


@pytest.mark.parametrize("content_type", [MULTIPART, "image/png"])
@pytest.mark.parametrize("chunks", [[LEFT], [b"--sep", LEFT], [part(b"data"), b"", LEFT]])
async def test_read_images_client_that_leaves_while_sending_cancels(chunks, content_type):
    with pytest.raises(ClientLeftError):
        await images_of(*chunks, content_type=content_type)
