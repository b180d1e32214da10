"""A converted checkpoint behind HTTP: the authors' model, with real early exit, answering with its own numbers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from images import encode
from parity import KEPT, SHARED, Golden, converted_model, golden
from reference import reference_forward
from torch import Tensor

from service.engine.runner import TorchRunner
from service.http.app import create_app
from service.replica.backend import build
from service.replica.in_process import linked
from service.settings import Settings
from weights.conversion.convert import convert

GRIDS = (7, 10, 14)
RELEASED = ("reduced_deit_released_style.pth.tar", "reduced_deit_released_style_module_prefix.pth.tar")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Golden]:
    folder = tmp_path_factory.mktemp("converted") / "model"
    return folder, converted_model(folder)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(model=str(folder), max_batch_size=1, dtype="float32")
    async with linked(build(settings), settings) as context:
        app = create_app(context)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=60) as client,
        ):
            async with asyncio.timeout(120):
                while not context.ready:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield client


async def answer_at(client: httpx.AsyncClient, image: bytes, stage: int) -> Tensor:
    """The probabilities an image gets when it leaves at `stage`, by class index."""
    never_before = ",".join("0" if index == stage else "2" for index in range(len(GRIDS) - 1))
    response = await client.post(
        f"/classify?top_k=10&thresholds={never_before}", content=image, headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["exit"]["grid"] == GRIDS[stage]
    probs = torch.zeros(10, dtype=torch.float64)
    for entry in document["top"]:
        probs[entry["index"]] = entry["confidence"]
    return probs


def assert_golden(found: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(found, logits.double().softmax(dim=-1), atol=1e-5, rtol=0)


async def check_against_goldens(folder: Path, reference: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is real but the pixels: the golden images are floats that no 8-bit picture can hold."""
    upload_order: list[int] = []

    def golden_pixels(self: TorchRunner, stage: int, tasks: list, size: int) -> Tensor:
        assert size == len(tasks)
        # The picture that was sent says which golden image stands in for it.
        rows = [min(int(task.pixels[0, 0, 0]) // 50, len(reference.images) - 1) for task in tasks]
        upload_order.extend(rows)
        return reference.images[rows]

    async with served(folder) as client:
        monkeypatch.setattr(TorchRunner, "_upload", golden_pixels)
        for row in range(len(reference.images)):
            picture = encode(np.full((3, 224, 224), 50 * row, dtype=np.uint8))
            for stage in range(len(GRIDS)):
                assert_golden(await answer_at(client, picture, stage), reference.values[f"logits.{stage}.f64"][row])
    assert set(upload_order) == set(range(len(reference.images)))


async def test_classify_converted_model_answers_with_the_golden_softmax(
    converted: tuple[Path, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_against_goldens(*converted, monkeypatch)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the complete parity data, ../shared/parity, is not here")
@pytest.mark.parametrize("name", RELEASED)
async def test_classify_released_style_file_answers_with_the_golden_softmax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    convert(SHARED / name, tmp_path / "model")
    await check_against_goldens(tmp_path / "model", golden(SHARED, "deit_reduced_full"), monkeypatch)


async def test_classify_converted_model_picture_equals_plain_reference(converted: tuple[Path, Golden]) -> None:
    """Nothing replaced: a PNG in, and the float64 reference, itself equal to the goldens, on the same pixels."""
    cascade = converted[1].cascade
    pixels = np.random.default_rng(2).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    # 256 to 224 is a centre crop of a 256-pixel picture that needs no resizing.
    picture = np.pad(pixels, ((0, 0), (16, 16), (16, 16)))
    images = (torch.from_numpy(pixels).double() / 255 - mean) / std
    expected = reference_forward(cascade.double().state_dict(), cascade.config, images[None])
    async with served(converted[0]) as client:
        for stage in range(len(GRIDS)):
            assert_golden(await answer_at(client, encode(picture), stage), expected[stage].logits[0])


async def test_config_operating_point_of_a_converted_model_is_selected_by_name(converted: tuple[Path, Golden]) -> None:
    async with served(converted[0]) as client:
        (model,) = (await client.get("/models")).json()["models"]
        names = [point["name"] for point in model["operating_points"]]
        assert names == [f"budget-{number}" for number in range(1, 60)]
        changed = (await client.patch("/config", json={"operating_point": "budget-17"})).json()
        assert changed["operating_point"] == "budget-17"
        assert changed["thresholds"] == model["operating_points"][16]["thresholds"]
        assert (await client.get("/config")).json() == changed
        refused = await client.patch("/config", json={"operating_point": "budget-60"})
        assert refused.status_code == 422
        assert "'budget-60' is not one of the model's 59 (budget-1 to budget-59)" in refused.json()["detail"]
        both = await client.patch("/config", json={"operating_point": "budget-1", "thresholds": 0.5})
        assert both.status_code == 422
        assert (await client.get("/config")).json()["version"] == 2


def test_kept_parity_data_stays_under_three_megabytes() -> None:
    assert sum(file.stat().st_size for file in KEPT.iterdir()) < 3e6
