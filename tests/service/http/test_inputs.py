"""JSON bodies: images in base64, and parameters beside them."""

import base64
import json

import pytest

JSON = {"content-type": "application/json"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_classify_json_one_image_in_one_object_out(serving, image):
    response = await serving.client.post("/classify", json={"inputs": b64(image(60))})

    assert response.status_code == 200
    assert response.json()["exit"]["stage"] == 1
    assert response.headers["x-dvt-exit-stage"] == "1"


async def test_classify_json_a_list_in_a_list_out_even_of_one(serving, image):
    one = (await serving.client.post("/classify", json={"inputs": [b64(image(0))]})).json()
    several = (
        await serving.client.post("/classify", json={"inputs": [b64(image(red)) for red in (0, 120, 60)]})
    ).json()

    assert [result["exit"]["stage"] for result in one["results"]] == [0]
    assert [result["exit"]["stage"] for result in several["results"]] == [0, 2, 1]


async def test_classify_json_a_bad_image_spoils_nobody_elses_answer(serving, image):
    inputs = [b64(image(0)), "not base64!", b64(b"not an image"), "", b64(image(60))]
    response = await serving.client.post("/classify", json={"inputs": inputs})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [result.get("error", {}).get("status") for result in results] == [None, 400, 400, 400, None]
    assert "base64" in results[1]["error"]["detail"]
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


async def test_classify_json_large_body_is_taken_apart_beside_the_loop(serving):
    data = b"BM" + bytes(100_000)
    response = await serving.client.post("/classify", json={"inputs": [b64(data)]})

    assert response.json()["results"][0]["error"]["status"] == 400


async def test_classify_json_parameters_are_those_of_the_query(serving, image):
    parameters = {"top_k": 2, "thresholds": [0.99, 0.99, 0.99], "max_stage": 2, "trace": True, "deadline_ms": 60_000}
    response = await serving.client.post("/classify", json={"inputs": b64(image(0)), "parameters": parameters})

    answer = response.json()
    assert len(answer["top"]) == 2
    assert (answer["exit"]["stage"], answer["exit"]["reason"]) == (2, "max_stage")
    assert len(answer["trace"]) == 3


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"colour": "red"}, ["colour", "unknown"]),
        ({"top_k": "2"}, ["top_k", "'2'"]),
        ({"top_k": 2.5}, ["top_k", "2.5"]),
        ({"top_k": True}, ["top_k", "True"]),
        ({"top_k": 11}, ["top_k", "11", "10"]),
        ({"thresholds": "0.5"}, ["thresholds", "'0.5'"]),
        ({"thresholds": [0.5]}, ["3", "1"]),
        ({"trace": "true"}, ["trace", "'true'"]),
        ({"max_stage": 9}, ["max_stage", "9", "3"]),
        ([], ["parameters"]),
    ],
)
async def test_classify_json_parameter_that_is_none_is_422(serving, image, parameters, words):
    response = await serving.client.post("/classify", json={"inputs": b64(image(0)), "parameters": parameters})

    assert response.status_code == 422
    assert all(word in response.json()["detail"] for word in words), response.json()["detail"]


@pytest.mark.parametrize("path", ["/classify", "/"])
@pytest.mark.parametrize("parameters", [None, {"top_k": None}])
async def test_json_null_for_what_is_optional_says_as_much_as_absence(serving, image, path, parameters):
    response = await serving.client.post(path, json={"inputs": b64(image(0)), "parameters": parameters})

    assert response.status_code == 200


async def test_classify_json_null_for_a_parameter_leaves_it_to_the_query(serving, image):
    parameters = {"trace": None, "min_stage": None, "thresholds": None}
    response = await serving.client.post(
        "/classify?thresholds=2&trace=true", json={"inputs": b64(image(0)), "parameters": parameters}
    )

    assert len(response.json()["trace"]) == 4


@pytest.mark.parametrize(("method", "path"), [("POST", "/classify"), ("POST", "/"), ("PATCH", "/config")])
async def test_json_behind_a_byte_order_mark_is_read(serving, image, method, path):
    document = {"thresholds": 0.5} if path == "/config" else {"inputs": b64(image(0))}
    content = b"\xef\xbb\xbf" + json.dumps(document).encode()

    assert (await serving.client.request(method, path, content=content, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b'{"inputs": "' + b"\xff" + b'"}', 400, "not JSON"),
        (b"[" * 100_000, 422, "object"),
        (b'{"inputs": "", "parameters": ' + b'{"a":' * 50_000, 400, "not JSON"),
        (b"{}", 422, "inputs"),
        (b"null", 422, "object"),
        (b'{"inputs": null}', 422, "inputs"),
        (b'{"inputs": 5}', 422, "inputs"),
        (b'{"inputs": [5]}', 422, "inputs"),
        (b'{"inputs": []}', 422, "no image"),
        (b'{"inputs": "", "input": ""}', 422, "input"),
        (b'{"inputs": "!"}', 400, "base64"),
        (b'{"inputs": "AAA"}', 400, "base64"),
        ('{"inputs": "\u00e9"}'.encode(), 400, "base64"),
        (b'{"inputs": ""}', 400, "empty"),
    ],
)
async def test_classify_json_that_is_not_a_request_is_refused(serving, body, status, words):
    response = await serving.client.post("/classify", content=body, headers=JSON)

    assert response.status_code == status, response.json()["detail"]
    assert words in response.json()["detail"]
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()


@pytest.mark.parametrize(
    ("query", "parameters", "top_k", "stages"),
    [("top_k=1", {}, 1, 1), ("top_k=1&trace=true", {"top_k": 2}, 2, 1), ("thresholds=2", {"trace": True}, 5, 4)],
)
async def test_classify_json_beside_a_query_is_taken_before_it(serving, image, query, parameters, top_k, stages):
    document = {"inputs": b64(image(0)), "parameters": {"trace": True, **parameters}}
    response = await serving.client.post(f"/classify?{query}", json=document)

    assert (len(response.json()["top"]), len(response.json()["trace"])) == (top_k, stages)


async def test_classify_json_over_the_limits_is_413_and_counted(serve, image):
    async with serve(max_images_per_request=2, max_body_bytes=2000) as serving:
        many = await serving.client.post("/classify", json={"inputs": [b64(image(0))] * 3})
        large = await serving.client.post("/classify", content=json.dumps({"inputs": "A" * 4000}), headers=JSON)

        assert (many.status_code, large.status_code) == (413, 413)
        assert "2" in many.json()["detail"]
        assert await serving.metric("dvt_rejected_total", reason="too_large") == 2
        assert await serving.images_are_accounted_for()


@pytest.mark.parametrize("path", ["/classify", "/", "/v2/models/test-model/infer"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
async def test_compressed_body_is_415(serving, image, path, encoding):
    headers = {"content-type": "image/png", "content-encoding": encoding}
    response = await serving.client.post(path, content=image(0), headers=headers)

    assert response.status_code == 415
    assert encoding in response.json()["error"]
