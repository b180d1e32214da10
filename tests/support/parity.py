"""Reference outputs of the authors' models: a part of them in the repository, all of them where ../shared is present.

Both folders have the same layout; the part in the repository keeps fewer stages, images and intermediates.
`tests/data/README.md` says which.
"""

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.cascade import Cascade
from weights.conversion.authors import CHECKPOINT_STAGES, authors_architecture, authors_cascade
from weights.conversion.convert import convert
from weights.conversion.foreign import Checkpoint

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "data" / "parity"
SHARED = ROOT.parent / "shared" / "parity"

_needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the complete parity data, ../shared/parity, is not here"
)
KEPT_NAMES = sorted(file.name.split(".")[0] for file in KEPT.glob("*.golden.*"))
CASES = [pytest.param(KEPT, name, id=f"kept-{name}") for name in KEPT_NAMES]
CASES += [
    pytest.param(SHARED, f"{family}_reduced_{variant}", id=f"shared-{family}-{variant}", marks=_needs_shared)
    for family in ("deit", "t2t")
    for variant in ("full", "feature", "relation", "none")
]
"""Every folder and model there are outputs for."""

_HEADS = {"deit": 3, "t2t": 2}


@dataclass(frozen=True)
class Golden:
    """One model with its reference outputs, by the keys of the files: `logits.0.f64`, `attn_logits.2.1.rows`."""

    cascade: Cascade
    images: Tensor
    values: dict[str, Tensor]


def golden(folder: Path, name: str) -> Golden:
    """The model `name`, such as deit_reduced_full."""
    return Golden(
        cascade=authors_model(weights_of(folder, name), _HEADS[name.split("_")[0]]),
        images=load_file(folder / "input.safetensors")["x"],
        values=load_file(folder / f"{name}.golden.safetensors"),
    )


def weights_of(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights of a model under the authors' names."""
    family, _, variant = name.split("_")
    file = {"feature": "full", "none": "relation"}.get(variant, variant)
    tensors = load_file(folder / f"{family}_reduced_{file}.state_dict.safetensors")
    keeps_relations = variant in ("full", "relation")
    return {key: value for key, value in tensors.items() if keeps_relations or ".relation_reuse_conv." not in key}


def authors_model(tensors: dict[str, Tensor], heads: int) -> Cascade:
    """The cascade of these weights, with as many stages as there are weights for."""
    checkpoint = Checkpoint(tensors, {}, "")
    stages = sum(any(key.startswith(f"{stage}.") for key in tensors) for stage in CHECKPOINT_STAGES)
    config = authors_architecture(checkpoint, heads)
    return authors_cascade(checkpoint, replace(config, grids=config.grids[:stages]))


def compare(steps: list[dict[str, Tensor]], values: dict[str, Tensor]) -> None:
    """Hold every reference value in double precision against `steps`, one dictionary for each stage."""
    keys = [key.removesuffix(".f64") for key in values if key.endswith(".f64")]
    assert {f"logits.{stage}" for stage in range(len(steps))} <= set(keys)
    for key in keys:
        name, stage, *rest = key.split(".")
        part = rest.pop() if rest and not rest[-1].isdigit() else None
        expected = values[f"{key}.f64"]
        found = _part(steps[int(stage)][".".join([name, *rest])], part)[: len(expected)]
        message = f"{key} differs by up to {(found - expected).abs().max():.1e}"
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0, msg=message)


def _part(tensor: Tensor, part: str | None) -> Tensor:
    match part:
        case None:
            return tensor
        case "cols":
            return tensor[..., :2]
        case "rows":
            count = tensor.shape[-1]
        case "tokens":
            count = tensor.shape[-2]
        case _:
            raise AssertionError(f"unknown part {part}")
    return tensor[..., [0, 1, count // 2, count - 1], :]


def manifests() -> dict[str, dict[str, list[int]]]:
    """The shape of every tensor of the full-size models, by variant and the authors' name."""
    document: dict[str, dict[str, list[int]]] = json.loads(gzip.decompress((KEPT / "manifests.json.gz").read_bytes()))
    return document


def write_released(path: Path, weights: dict[str, Tensor], **changes: object) -> Path:
    """A checkpoint in the released layout around these weights, with the tables of the threshold data.

    Args:
        changes: entries to replace, or to leave out where None.
    """
    tables = load_file(KEPT / "thresholds.safetensors")
    costs = json.loads((KEPT / "costs.json").read_text())["models"]["DVT_Deit_small"]["exits"]
    document: dict[str, object] = {
        "model_state_dict": weights,
        "flops": [entry["cumulative_gmacs"] for entry in costs],
        "anytime_classification": [39.25, 51.0, 66.45],
        "dynamic_threshold": tables["solve_eval.thresholds"],
        "budgeted_batch_classification": [
            tables["solve_eval.gflops"].tolist(),
            tables["solve_eval.accuracy"].tolist(),
        ],
    }
    document |= changes
    torch.save({key: value for key, value in document.items() if value is not None}, path)
    return path


def converted_model(out: Path) -> Golden:
    """Convert a checkpoint in the released layout to the folder `out`; the model's reference outputs.

    It is the T2T model with relation reuse: 10 classes, exits at 7x7, 10x10 and 14x14.
    """
    name = "t2t_reduced_relation"
    checkpoint = write_released(out.with_suffix(".pth.tar"), weights_of(KEPT, name))
    convert(checkpoint, out)
    return golden(KEPT, name)
