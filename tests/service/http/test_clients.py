"""Clients people already have, unmodified, and what the README shows of them, against a real server."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient.utils import InferenceServerException

from service.capacity.child import SERVE, Child, served

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
TURTLE = ROOT / "tests" / "data" / "turtle.jpg"
CLIENTS = README.partition("### Clients you already have")[2].partition("\n### ")[0]


def snippets(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def server() -> Iterator[Child]:
    with served(SERVE, {"DVT_DTYPE": "float32", "DVT_MAX_BATCH_SIZE": "4", "DVT_ADMIN_KEY": ""}) as child:
        yield child


@pytest.fixture
def client(server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        yield client


def tensor(*images: bytes) -> triton.InferInput:
    made = triton.InferInput("image", [len(images)], "BYTES")
    made.set_data_from_numpy(np.array(images, dtype=np.object_))
    return made


def test_readme_python_snippets_say_hawksbill(server, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    scripts = snippets("python", CLIENTS)
    assert len(scripts) == 3
    for script in scripts:
        exec(script.replace("localhost:8000", f"{server.host}:{server.port}"), {})
        assert capsys.readouterr().out.startswith("hawksbill "), script


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_readme_curl_snippets_are_answered(server, tmp_path) -> None:
    use_it = README.partition("## Use it")[2].partition("### Clients")[0]
    script = "\n".join(["set -e", *snippets("sh", use_it)]).replace("localhost:8000", f"{server.host}:{server.port}")
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(TURTLE.read_bytes())
    (tmp_path / "notes.txt").write_text("not an image")

    script = script.replace("curl ", "curl --silent --show-error --fail-with-body ")
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count('"label":"hawksbill","index":44') >= 2
    assert '"expected"' in ended.stdout


def test_inference_client_image_classification_works_unmodified(server) -> None:
    url = f"http://{server.host}:{server.port}"
    whole = InferenceClient(model=url).image_classification(TURTLE.read_bytes())
    two = InferenceClient(model=url).image_classification(str(TURTLE), top_k=2, function_to_apply="softmax")

    assert (whole[0].label, len(whole), len(two)) == ("hawksbill", 5, 2)
    assert whole[0].score == two[0].score
    with pytest.raises(HfHubHTTPError, match="422"):
        InferenceClient(model=url).image_classification(str(TURTLE), function_to_apply="sigmoid")
    with pytest.raises(HfHubHTTPError, match="not an image"):
        InferenceClient(model=url).image_classification(b"nonsense")


def test_triton_client_health_and_metadata_work_unmodified(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("dvt-photos")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("dvt-photos")["inputs"][0]["datatype"] == "BYTES"


def test_triton_client_infer_works_unmodified(client, server) -> None:
    data = TURTLE.read_bytes()
    ours = httpx.post(f"http://{server.host}:{server.port}/classify", content=data).json()
    answer = client.infer("dvt-photos", [tensor(data, data)], request_id="abc", timeout=60_000_000)
    assert answer.get_response()["id"] == "abc"
    assert answer.as_numpy("label").tolist() == [b"hawksbill"] * 2
    assert answer.as_numpy("score")[0] == pytest.approx(ours["confidence"], abs=0.02)
    assert answer.as_numpy("exit_stage").tolist() == [ours["exit"]["stage"]] * 2

    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("macs", binary_data=binary)]
        answer = client.infer("dvt-photos", [tensor(data)], outputs=wanted)
        assert (answer.as_numpy("macs").tolist(), answer.as_numpy("label")) == ([ours["compute"]["macs"]], None)


def test_triton_client_error_is_read_by_the_client(client) -> None:
    with pytest.raises(InferenceServerException, match="not an image"):
        client.infer("dvt-photos", [tensor(b"nonsense")])
    with pytest.raises(InferenceServerException, match="no model 'another'"):
        client.infer("another", [tensor(TURTLE.read_bytes())])
    with pytest.raises(InferenceServerException, match="content encoding"):
        client.infer("dvt-photos", [tensor(TURTLE.read_bytes())], request_compression_algorithm="gzip")


def test_triton_client_asynchronous_requests_are_answered(client) -> None:
    pending = [client.async_infer("dvt-photos", [tensor(TURTLE.read_bytes())]) for _ in range(2)]

    assert {bytes(each.get_result().as_numpy("label")[0]) for each in pending} == {b"hawksbill"}
