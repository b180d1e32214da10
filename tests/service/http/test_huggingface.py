from base64 import b64encode

PNG = {"content-type": "image/png"}


def b64(data: bytes) -> str:
    return b64encode(data).decode()


async def test_task_raw_image_gives_labels_and_scores_the_best_first(serving, image):
    response = await serving.client.post("/", content=image(60), headers=PNG)

    answer = response.json()
    assert response.status_code == 200
    assert [set(each) for each in answer] == [{"label", "score"}] * 5
    assert answer[0] == {"label": "dog", "score": 0.95}
    assert [each["score"] for each in answer] == sorted((each["score"] for each in answer), reverse=True)
    assert response.headers["x-dvt-config-version"] == "1"


async def test_task_list_gives_a_list_of_lists_under_the_tasks_parameters(serving, image):
    parameters = {"top_k": 1, "function_to_apply": "softmax"}
    body = {"inputs": [b64(image(0)), b64(image(120))], "parameters": parameters}

    answer = (await serving.client.post("/", json=body)).json()
    assert [[each["label"] for each in scores] for scores in answer] == [["cat"], ["ship"]]


async def test_task_parameter_that_is_none_is_422(serving, image):
    for parameters, *words in (
        ({"function_to_apply": "sigmoid"}, "function_to_apply", "softmax", "sigmoid"),
        ({"top_k": 0}, "top_k", "0"),
        ({"top_k": 99}, "top_k", "99", "10"),
        ({"thresholds": 0.5}, "thresholds", "unknown"),
    ):
        response = await serving.client.post("/", json={"inputs": b64(image(0)), "parameters": parameters})
        assert response.status_code == 422
        assert [word for word in words if word not in response.json()["error"]] == []
    assert (await serving.client.post("/?top_k=1", content=image(0), headers=PNG)).status_code == 422


async def test_task_bad_image_fails_its_request(serving, image):
    raw = await serving.client.post("/", content=b"nonsense", headers=PNG)
    listed = await serving.client.post("/", json={"inputs": [b64(image(0)), b64(b"nonsense")]})

    assert (raw.status_code, listed.status_code) == (400, 400)
    assert raw.json()["error"].startswith("not an image")
    assert listed.json()["error"].startswith("inputs[1]: not an image")
    assert await serving.images_are_accounted_for()
    assert serving.at_rest()
