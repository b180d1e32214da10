"""The same model as the authors': every reference output, by the fast path and by the plain one."""

import json
from pathlib import Path

import pytest
import torch
from parity import CASES, KEPT, KEPT_NAMES, compare, golden, manifests
from reference import ReferenceStage, reference_forward
from safetensors.torch import load_file
from torch import Tensor

from models import VARIANTS, Cascade
from models.embedding import sinusoid_positions
from models.macs import paper_macs
from models.t2t import PerformerLayer
from weights.conversion.authors import authors_name

COSTS = {"dvt_deit_small": "DVT_Deit_small", "dvt_t2t_vit_12": "DVT_T2t_vit_12", "dvt_t2t_vit_14": "DVT_T2t_vit_14"}
SINGLE = {"dvt_deit_small": "DeiT-S", "dvt_t2t_vit_12": "T2T-ViT-12", "dvt_t2t_vit_14": "T2T-ViT-14"}


@pytest.mark.parametrize(("folder", "name"), CASES)
@torch.inference_mode()
def test_cascade_equals_authors_outputs(folder: Path, name: str) -> None:
    model = golden(folder, name)
    for dtype, suffix, tolerance in ((torch.float64, ".f64", 1e-10), (torch.float32, "", 2e-5)):
        for stage, logits in enumerate(model.cascade.to(dtype)(model.images.to(dtype))):
            expected = model.values[f"logits.{stage}{suffix}"]
            torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", KEPT_NAMES)
@torch.inference_mode()
def test_plain_reference_equals_authors_outputs(name: str) -> None:
    model = golden(KEPT, name)
    state, config = model.cascade.double().state_dict(), model.cascade.config
    stages = reference_forward(state, config, model.images.double())
    compare([_steps(stage, config.depth) for stage in stages], model.values)


@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), [(torch.float64, ".f64", 1e-10), (torch.float32, "", 1e-4)])
def test_performer_layer_tiny_denominators_equal_authors(dtype: torch.dtype, suffix: str, tolerance: float) -> None:
    units = load_file(KEPT / "units.safetensors")
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


def test_sinusoid_positions_equal_authors_exactly() -> None:
    units = load_file(KEPT / "units.safetensors")
    assert torch.equal(sinusoid_positions(197, 40).float(), units["sinusoid.197x40"])
    for dim in (256, 384):
        rows = sinusoid_positions(197, dim).float()[units["sinusoid.rows"]]
        assert torch.equal(rows, units[f"sinusoid.197x{dim}.rows"])


@pytest.mark.parametrize("name", COSTS)
def test_full_size_model_has_published_tensors_and_cost(name: str) -> None:
    document = json.loads((KEPT / "costs.json").read_text())
    costs, single = document["models"][COSTS[name]], document["single_models_without_reuse"][SINGLE[name]]
    config = VARIANTS[name]
    assert list(paper_macs(config)) == [entry["stage_macs"] for entry in costs["exits"]]
    assert paper_macs(config.plain()) == (single[-1]["macs"],)
    with torch.device("meta"):
        cascade, plain = Cascade(config), Cascade(config.plain())
    state = cascade.state_dict()
    assert {authors_name(key): list(value.shape) for key, value in state.items()} == manifests()[name]
    assert _count(state) == costs["total_params"]
    assert sum(p.numel() for p in cascade.parameters() if p.requires_grad) == costs["total_trainable_params"]
    assert _count(plain.state_dict()) == single[-1]["params"]
    for stage, entry in zip(cascade.stages, costs["exits"], strict=True):
        assert _count(stage.state_dict()) == entry["stage_params"]


def _count(state: dict[str, Tensor]) -> int:
    return sum(value.numel() for value in state.values())


def _steps(stage: ReferenceStage, depth: int) -> dict[str, Tensor]:
    steps = stage.steps | {"logits": stage.logits, "tokens": stage.tokens}
    per_layer = {"attn_logits": stage.relations, "relation_bias": stage.biases}
    for name, channels in per_layer.items():
        if channels is not None:
            steps |= {f"{name}.{layer}": part for layer, part in enumerate(channels.chunk(depth, dim=1))}
    return steps
