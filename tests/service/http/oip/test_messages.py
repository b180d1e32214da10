import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidParameterError, MalformedRequestError, ServiceError, TooLargeError
from service.http.oip.messages import OUTPUTS, parse, render


def document(tensor: dict[str, object] | None = None, **changes: object) -> bytes:
    """A request with one image of three zero bytes, with changes."""
    given = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]} | (tensor or {})
    return json.dumps({"inputs": [given]} | changes).encode()


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_parse_binary_gives_back_every_element(images) -> None:
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    header = document({"shape": [len(images)], "data": None, "parameters": {"binary_data_size": len(data)}})

    assert parse(header + data, str(len(header)), 64).images == images


@pytest.mark.parametrize(("shape", "data"), [([2], ["aGFsbG8=", "AAAA"]), ([2, 1], [["aGFsbG8="], ["AAAA"]])])
def test_parse_json_reads_base64(shape, data) -> None:
    assert parse(document({"shape": shape, "data": data}), None, 64).images == [b"hallo", bytes(3)]


def test_parse_outputs_are_those_asked_for_as_asked_for() -> None:
    outputs = [{"name": "score"}, {"name": "label", "parameters": {"binary_data": False, "classification": 0}}]
    parameters = {"binary_data_output": True, "min_stage": 1}
    inference = parse(document(id="7", parameters=parameters, outputs=outputs), None, 64)

    assert (inference.id, inference.parameters) == ("7", {"min_stage": 1})
    assert list(inference.outputs.items()) == [("score", True), ("label", False)]
    assert parse(document(), None, 64).outputs == dict.fromkeys(OUTPUTS, False)


def test_parse_nulls_say_as_much_as_absence() -> None:
    nulls = document({"parameters": None}, id=None, parameters=None, outputs=None)
    assert parse(nulls, None, 64) == parse(document(), None, 64)

    inference = parse(
        document(
            {"parameters": {"binary_data_size": None, "content_type": None}},
            parameters={"binary_data_output": None, "max_stage": None, "min_stage": 1},
            outputs=[{"name": "macs", "parameters": {"binary_data": None, "classification": None}}],
        ),
        None,
        64,
    )
    assert (inference.outputs, inference.parameters) == ({"macs": False}, {"min_stage": 1})


@pytest.mark.parametrize("body", [b"an image", b""])
def test_parse_raw_request_is_one_image_answered_in_binary(body) -> None:
    inference = parse(body, "0", 64)

    assert (inference.images, inference.parameters, inference.id) == ([body], {}, "")
    assert inference.outputs == dict.fromkeys(OUTPUTS, True)


def test_parse_json_behind_a_byte_order_mark_is_read() -> None:
    marked = b"\xef\xbb\xbf" + document()

    assert parse(marked, None, 64).images == parse(marked, str(len(marked)), 64).images == [bytes(3)]


@pytest.mark.parametrize(
    ("tensor", "error", "words"),
    [
        ({"name": "pixels"}, InvalidParameterError, "expected the input 'image' of BYTES, got 'pixels'"),
        ({"datatype": "FP32"}, InvalidParameterError, "of FP32"),
        ({"shape": []}, InvalidParameterError, r"\[n\] or \[n, 1\]"),
        ({"shape": [1, 2]}, InvalidParameterError, r"\[1, 2\]"),
        ({"shape": [1, 1, 1]}, InvalidParameterError, r"\[n\]"),
        ({"shape": [-1]}, InvalidParameterError, r"\[-1\]"),
        ({"shape": [0]}, InvalidParameterError, "no image"),
        ({"shape": [2]}, InvalidParameterError, "says 2 elements, its data has 1"),
        ({"shape": [2**62]}, TooLargeError, "the limit is 4"),
        ({"data": None}, InvalidParameterError, "has 0"),
        ({"data": [5]}, InvalidParameterError, r"image\[0\]: .*base64, got 5"),
        ({"parameters": {"binary_data_size": 1}}, MalformedRequestError, "binary_data_size of 'image' is 1, and 0"),
        ({"parameters": {"binary_data_size": False}}, MalformedRequestError, "False"),
    ],
)
def test_parse_input_that_is_none_raises_naming_it(tensor, error, words) -> None:
    with pytest.raises(error, match=words):
        parse(document(tensor), None, 4)


@pytest.mark.parametrize("header", ["", "-1", "999999", "9" * 30, "\u0665"])
def test_parse_header_length_that_is_none_raises(header) -> None:
    with pytest.raises(MalformedRequestError, match="Inference-Header-Content-Length"):
        parse(document(), header, 4)


@pytest.mark.parametrize(
    ("rest", "words"),
    [(b"\x01\x00", "inside the length"), (b"\xff\xff\xff\xff", "says it has 4294967295 bytes"), (b"", "has 0")],
)
def test_parse_binary_data_that_does_not_add_up_raises(rest, words) -> None:
    header = document({"parameters": {"binary_data_size": len(rest)}})
    with pytest.raises(ServiceError, match=words):
        parse(header + rest, str(len(header)), 4)


def test_parse_bytes_that_belong_to_nobody_raise() -> None:
    header = document()
    with pytest.raises(MalformedRequestError, match="3 bytes after the JSON"):
        parse(header + b"abc", str(len(header)), 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outputs": [{"name": "logits"}]}, "no output 'logits'; there are label, score, exit_stage, macs"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "unknown parameter 'classification'"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "binary_data must be true or false"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output must be true or false, got 'yes'"),
        ({"inputs": []}, "expected one input, 'image', got 0"),
    ],
)
def test_parse_request_that_asks_for_what_there_is_not_raises(changes, words) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        parse(document(**changes), None, 4)


@settings(max_examples=30)
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 250).map(str)))
def test_parse_of_any_bytes_is_an_error_of_ours_or_a_request(body, header) -> None:
    with suppress(ServiceError):
        parse(body, header, 4)


def test_render_json_and_binary_outputs_side_by_side() -> None:
    binary = {"binary_data": True}
    outputs = [{"name": "exit_stage"}, *({"name": name, "parameters": binary} for name in ("label", "score", "macs"))]
    inference = parse(document(id="x", outputs=outputs), None, 64)
    values = {"label": ["h\u00e9", "b"], "score": [0.5, 1.0], "exit_stage": [0, 3], "macs": [5, 2**40]}
    body, header = render(inference, "m", "1", values)

    assert header is not None
    assert json.loads(body[:header]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "x",
        "outputs": [
            {"name": "exit_stage", "datatype": "INT32", "shape": [2], "data": [0, 3]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}},
            {"name": "score", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
            {"name": "macs", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}},
        ],
    }
    assert body[header:] == struct.pack("<I3sI1s2f2q", 3, "h\u00e9".encode(), 1, b"b", 0.5, 1.0, 5, 2**40)
