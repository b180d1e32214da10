"""JSON bodies: images in base64, and parameters beside them."""

import json
from base64 import b64encode

import pytest

JSON = {"content-type": "application/json"}


def b64(data: bytes) -> str:
    return b64encode(data).decode()


async def test_classify_json_one_image_in_one_object_out(serving, image):
    response = await serving.client.post("/classify", json={"inputs": b64(image(60))})

    assert (response.status_code, response.json()["exit"]["stage"]) == (200, 1)
    assert response.headers["x-dvt-exit-stage"] == "1"


@pytest.mark.parametrize("reds", [(0,), (0, 120, 60)])
async def test_classify_json_a_list_in_a_list_out_even_of_one(serving, image, reds):
    response = await serving.client.post("/classify", json={"inputs": [b64(image(red)) for red in reds]})

    assert [result["exit"]["stage"] for result in response.json()["results"]] == [red // 60 for red in reds]


async def test_classify_json_a_bad_image_spoils_nobody_elses_answer(serving, image):
    # So large that it is parsed beside the event loop.
    inputs = [b64(image(0)), "not base64!", b64(b"BM" + bytes(100_000)), "", b64(image(60))]
    response = await serving.client.post("/classify", json={"inputs": inputs})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [result.get("error", {}).get("status") for result in results] == [None, 400, 400, 400, None]
    assert "base64" in results[1]["error"]["detail"]
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


async def test_classify_json_parameters_are_those_of_the_query(serving, image):
    parameters = {"top_k": 2.0, "thresholds": [0.99, 0.99, 0.99], "max_stage": 2, "trace": True, "deadline_ms": 60_000}
    response = await serving.client.post("/classify", json={"inputs": b64(image(0)), "parameters": parameters})

    answer = response.json()
    assert len(answer["top"]) == 2
    assert (answer["exit"]["stage"], answer["exit"]["reason"]) == (2, "max_stage")
    assert len(answer["trace"]) == 3


async def test_classify_json_parameter_that_is_none_is_422(serving, image):
    for parameters, *words in (
        ({"colour": "red"}, "colour", "unknown"),
        ({"top_k": "2"}, "top_k", "'2'"),
        ({"top_k": 2.5}, "top_k", "2.5"),
        ({"top_k": 11}, "top_k", "11", "10"),
        ({"thresholds": "0.5"}, "thresholds", "'0.5'"),
        ({"thresholds": [0.5]}, "3", "1"),
        ({"trace": "true"}, "trace", "'true'"),
        ([], "parameters"),
    ):
        response = await serving.client.post("/classify", json={"inputs": b64(image(0)), "parameters": parameters})
        assert response.status_code == 422
        assert [word for word in words if word not in response.json()["detail"]] == [], response.json()["detail"]


@pytest.mark.parametrize("path", ["/classify", "/"])
async def test_json_null_for_what_is_optional_says_as_much_as_absence(serving, image, path):
    for parameters in (None, {"top_k": None}):
        response = await serving.client.post(path, json={"inputs": b64(image(0)), "parameters": parameters})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("query", "parameters", "top_k", "stages"),
    [
        ("top_k=1", {"trace": True}, 1, 1),
        ("top_k=1&trace=true", {"top_k": 2}, 2, 1),
        ("thresholds=2&trace=true", {"trace": None, "thresholds": None}, 5, 4),
    ],
)
async def test_classify_json_is_taken_before_a_query(serving, image, query, parameters, top_k, stages):
    document = {"inputs": b64(image(0)), "parameters": parameters}
    answer = (await serving.client.post(f"/classify?{query}", json=document)).json()

    assert (len(answer["top"]), len(answer["trace"])) == (top_k, stages)


async def test_json_behind_a_byte_order_mark_is_read(serving, image):
    for method, path, document in (
        ("POST", "/classify", {"inputs": b64(image(0))}),
        ("PATCH", "/config", {"thresholds": 0.5}),
    ):
        content = b"\xef\xbb\xbf" + json.dumps(document).encode()
        assert (await serving.client.request(method, path, content=content, headers=JSON)).status_code == 200


async def test_classify_json_that_is_not_a_request_is_refused(serving):
    for body, status, words in (
        (b"", 400, "not JSON"),
        (b'{"inputs": "' + b"\xff" + b'"}', 400, "not JSON"),
        (b"[" * 100_000, 422, "object"),
        (b'{"inputs": "", "parameters": ' + b'{"a":' * 50_000, 400, "not JSON"),
        (b"{}", 422, "inputs"),
        (b'{"inputs": [5]}', 422, "inputs"),
        (b'{"inputs": []}', 422, "no image"),
        (b'{"inputs": "", "input": ""}', 422, "input"),
        (b'{"inputs": "AAA"}', 400, "base64"),
        ('{"inputs": "\u00e9"}'.encode(), 400, "base64"),
        (b'{"inputs": ""}', 400, "empty"),
    ):
        response = await serving.client.post("/classify", content=body, headers=JSON)
        assert (response.status_code, words in response.json()["detail"]) == (status, True), response.json()["detail"]
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


async def test_classify_json_over_the_limits_is_413_and_counted(serve, image):
    async with serve(max_images_per_request=2, max_body_bytes=2000) as serving:
        many = await serving.client.post("/classify", json={"inputs": [b64(image(0))] * 3})
        two = await serving.client.post("/classify", json={"inputs": [b64(image(0))] * 2})
        large = await serving.client.post("/classify", content=json.dumps({"inputs": "A" * 4000}), headers=JSON)

        assert (many.status_code, two.status_code, large.status_code) == (413, 200, 413)
        assert "2" in many.json()["detail"]
        assert await serving.metric("dvt_rejected_total", reason="too_large") == 2
        assert await serving.images_are_accounted_for()


async def test_compressed_body_is_415(serving, image):
    for path in ("/classify", "/", "/v2/models/test-model/infer"):
        headers = {"content-type": "image/png", "content-encoding": "gzip"}
        response = await serving.client.post(path, content=image(0), headers=headers)
        assert (response.status_code, "gzip" in response.json()["error"]) == (415, True)
