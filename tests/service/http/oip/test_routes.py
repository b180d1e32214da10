import base64
import json

MODEL = "/v2/models/test-model"


def body(*images: bytes, **changes: object) -> dict[str, object]:
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor]} | changes


async def test_metadata_names_the_server_the_model_and_its_tensors(serving):
    server = (await serving.client.get("/v2")).json()
    model = (await serving.client.get(MODEL)).json()

    assert server["extensions"] == ["binary_tensor_data"]
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in model["outputs"]] == ["label", "score", "exit_stage", "macs"]
    assert (await serving.client.get(f"{MODEL}/versions/1")).json() == model


async def test_health_says_live_and_ready_unless_draining(serving):
    assert (await serving.client.get("/v2/health/live")).json() == {"live": True}
    assert (await serving.client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await serving.client.get(f"{MODEL}/ready")).json() == {"name": "test-model", "ready": True}

    serving.context.draining = True
    for path in ("/v2/health/ready", f"{MODEL}/ready"):
        response = await serving.client.get(path)
        assert (response.status_code, response.json()) == (503, {"error": "the service is draining"})
    assert (await serving.client.get("/v2/health/live")).status_code == 200


async def test_infer_batch_gives_one_element_of_each_output_for_each_image(serving, image):
    response = await serving.client.post(f"{MODEL}/infer", json=body(image(0), image(120), id="42"))

    answer = response.json()
    assert response.status_code == 200
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "test-model", "1")
    assert {output["name"]: output["data"] for output in answer["outputs"]} == {
        "label": ["cat", "ship"],
        "score": [0.95, 0.95],
        "exit_stage": [0, 2],
        "macs": [100, 1300],
    }
    assert {tuple(output["shape"]) for output in answer["outputs"]} == {(2,)}


async def test_infer_parameters_shape_the_walk(serving, image):
    parameters = {"thresholds": "0.99,0.99,0.99", "max_stage": 1, "timeout": 60_000_000}
    answer = (await serving.client.post(f"{MODEL}/versions/1/infer", json=body(image(0), parameters=parameters))).json()
    assert ("id" in answer, answer["outputs"][2]["data"]) == (False, [1])

    late = body(image(0), parameters={"timeout": 1})
    assert (await serving.client.post(f"{MODEL}/infer", json=late)).status_code == 504


async def test_infer_raw_image_is_answered_in_binary(serving, image):
    raw = {"inference-header-content-length": "0"}
    response = await serving.client.post(f"{MODEL}/infer", content=image(120), headers=raw)

    length = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:length])["outputs"]
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    assert [output["name"] for output in outputs] == ["label", "score", "exit_stage", "macs"]
    assert response.content[length:].startswith(b"\x04\0\0\0ship")


async def test_infer_of_another_model_is_404(serving, image):
    for path, words in (
        ("/v2/models/other/infer", "no model 'other'; there is test-model"),
        (f"{MODEL}/versions/2/infer", "no version '2'"),
    ):
        response = await serving.client.post(path, json=body(image(0)))
        assert (response.status_code, words in response.json()["error"]) == (404, True)


async def test_infer_that_asks_for_what_there_is_not_is_422_in_the_protocols_words(serving, image):
    for query, changes, words in (
        ("", {"parameters": {"priority": 1}}, "priority"),
        ("", {"parameters": {"top_k": 3}}, "top_k"),
        ("", {"parameters": {"max_stage": 9}}, "max_stage"),
        ("", {"parameters": {"thresholds": "x"}}, "thresholds"),
        ("", {"parameters": {"timeout": 0}}, "timeout"),
        ("", {"inputs": []}, "one input"),
        ("?max%5Fstage=1", {}, "'max_stage'"),
    ):
        response = await serving.client.post(f"{MODEL}/infer{query}", json=body(image(0)) | changes)
        assert (response.status_code, list(response.json())) == (422, ["error"])
        assert words in response.json()["error"]


async def test_infer_bad_image_fails_its_request_and_no_other(serving, image):
    response = await serving.client.post(f"{MODEL}/infer", json=body(image(0), b"nonsense"))

    assert response.status_code == 400
    assert response.json()["error"].startswith("image[1]: not an image")
    assert (await serving.client.post(f"{MODEL}/infer", json=body(image(0)))).status_code == 200
    assert await serving.images_are_accounted_for()


async def test_infer_over_the_limits_is_413_and_counted(serve, image):
    async with serve(max_images_per_request=1) as serving:
        response = await serving.client.post(f"{MODEL}/infer", json=body(image(0), image(0)))

        assert response.status_code == 413
        assert await serving.metric("dvt_rejected_total", reason="too_large") == 1
