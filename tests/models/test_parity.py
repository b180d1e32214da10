"""The same model as the authors': every reference output, by the fast path and by the plain one."""

import json
from pathlib import Path

import pytest
import torch
from parity import CASES, FOLDERS, compare, golden, intermediates, manifests
from reference import ReferenceStage, reference_forward
from safetensors.torch import load_file
from torch import Tensor

from models import VARIANTS, Cascade
from models.embedding import sinusoid_positions
from models.macs import paper_macs
from models.resampling import resampling_matrix
from models.t2t import PerformerLayer
from weights.conversion.authors import authors_name

COSTS = {"dvt_deit_small": "DVT_Deit_small", "dvt_t2t_vit_12": "DVT_T2t_vit_12", "dvt_t2t_vit_14": "DVT_T2t_vit_14"}
SINGLE = {"dvt_deit_small": "DeiT-S", "dvt_t2t_vit_12": "T2T-ViT-12", "dvt_t2t_vit_14": "T2T-ViT-14"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("folder", "name"), CASES)
@torch.inference_mode()
def test_cascade_equals_authors_outputs(folder: Path, name: str, dtype: torch.dtype) -> None:
    model = golden(folder, name)
    compare(intermediates(model.cascade.to(dtype), model.images.to(dtype)), model.values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("folder", "name"), CASES)
@torch.inference_mode()
def test_plain_reference_equals_authors_outputs(folder: Path, name: str, dtype: torch.dtype) -> None:
    model = golden(folder, name)
    state = model.cascade.to(dtype).state_dict()
    stages = reference_forward(state, model.cascade.config, model.images.to(dtype))
    compare([_steps(stage, model.cascade.config.depth) for stage in stages], model.values)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize(("folder", "name"), CASES)
@torch.inference_mode()
def test_cascade_any_batch_size_gives_authors_logits(folder: Path, name: str, batch_size: int) -> None:
    model = golden(folder, name)
    rows = torch.arange(batch_size) % len(model.images)
    for stage, logits in enumerate(model.cascade.double()(model.images[rows].double())):
        torch.testing.assert_close(logits, model.values[f"logits.{stage}.f64"][rows], atol=1e-10, rtol=0)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), [(torch.float64, ".f64", 1e-10), (torch.float32, "", 1e-4)])
def test_performer_layer_tiny_denominators_equal_authors(
    folder: Path, dtype: torch.dtype, suffix: str, tolerance: float
) -> None:
    units = load_file(folder / "units.safetensors")
    assert units["performer.denominator.f64"].min() < 1e-12
    layer = PerformerLayer(27, 8, 4, norm_eps=1e-5).to(dtype)
    renamed = {"mlp.0.": "mlp.fc1.", "mlp.2.": "mlp.fc2."}
    weights = {key.removeprefix("performer."): value for key, value in units.items() if key.startswith("performer.")}
    for old, new in renamed.items():
        weights = {key.replace(old, new): value for key, value in weights.items()}
    layer.load_state_dict({key: weights[key] for key in layer.state_dict()})
    torch.testing.assert_close(
        layer(units["performer.in"].to(dtype)), units[f"performer.out{suffix}"], atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_sinusoid_positions_equal_authors_exactly(folder: Path) -> None:
    units = load_file(folder / "units.safetensors")
    assert torch.equal(sinusoid_positions(197, 40).float(), units["sinusoid.197x40"])
    for dim in (256, 384):
        rows = sinusoid_positions(197, dim).float()[units["sinusoid.rows"]]
        assert torch.equal(rows, units[f"sinusoid.197x{dim}.rows"])


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(("source", "target"), [(7, 10), (10, 14)])
def test_resampling_matrix_equals_authors(folder: Path, source: int, target: int) -> None:
    units = load_file(folder / "units.safetensors")
    matrix, name = resampling_matrix(source, target), f"resample_{source}to{target}"
    torch.testing.assert_close(matrix, units[f"{name}.matrix.f64"], atol=1e-14, rtol=0)
    resampled = matrix @ units[f"{name}.in.f64"] @ matrix.T
    torch.testing.assert_close(resampled, units[f"{name}.out.f64"], atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", COSTS)
def test_full_size_model_has_the_manifest_s_tensors(name: str) -> None:
    with torch.device("meta"):
        state = Cascade(VARIANTS[name]).state_dict()
    assert {authors_name(key): list(value.shape) for key, value in state.items()} == manifests()[name]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", COSTS)
def test_full_size_model_has_published_cost_and_parameters(folder: Path, name: str) -> None:
    document = json.loads((folder / "costs.json").read_text())
    costs, single = document["models"][COSTS[name]], document["single_models_without_reuse"][SINGLE[name]]
    config = VARIANTS[name]
    assert list(paper_macs(config)) == [entry["stage_macs"] for entry in costs["exits"]]
    assert paper_macs(config.plain()) == (single[-1]["macs"],)
    with torch.device("meta"):
        cascade, plain = Cascade(config), Cascade(config.plain())
    assert _count(cascade.state_dict()) == costs["total_params"]
    assert sum(p.numel() for p in cascade.parameters() if p.requires_grad) == costs["total_trainable_params"]
    assert _count(plain.state_dict()) == single[-1]["params"]
    for stage, entry in zip(cascade.stages, costs["exits"], strict=True):
        assert _count(stage.state_dict()) == entry["stage_params"]


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_reduced_model_has_published_cost(folder: Path, name: str) -> None:
    config = golden(folder, name).cascade.config
    costs = json.loads((folder / "costs.json").read_text())["reduced"][name.replace("_reduced", "")]
    expected = [entry["stage_macs"] for entry in costs][: config.num_stages]
    assert list(paper_macs(config)) == expected


def _count(state: dict[str, Tensor]) -> int:
    return sum(value.numel() for value in state.values())


def _steps(stage: ReferenceStage, depth: int) -> dict[str, Tensor]:
    steps = stage.steps | {"logits": stage.logits, "tokens": stage.tokens}
    per_layer = {"attn_logits": stage.relations, "relation_bias": stage.biases}
    for name, channels in per_layer.items():
        if channels is not None:
            steps |= {f"{name}.{layer}": part for layer, part in enumerate(channels.chunk(depth, dim=1))}
    return steps
