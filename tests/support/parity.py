"""Reference outputs of the authors' models: a part of them in the repository, all of them where ../shared is present.

Both folders have the same layout; the part in the repository keeps fewer stages, images and intermediates.
`tests/data/trim_parity.py` says which.
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
from models.reuse import ReuseState
from models.stage import Stage
from models.t2t import TokensToToken
from weights.conversion.authors import CHECKPOINT_STAGES, authors_architecture, authors_cascade
from weights.conversion.convert import convert
from weights.conversion.foreign import Checkpoint

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "data" / "parity"
SHARED = ROOT.parent / "shared" / "parity"

_needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the complete parity data, ../shared/parity, is not here"
)
FOLDERS = [pytest.param(KEPT, id="kept"), pytest.param(SHARED, id="shared", marks=_needs_shared)]

VARIANTS = ("full", "feature", "relation", "none")
CASES = [
    *(
        pytest.param(KEPT, name, id=f"kept-{name}")
        for name in sorted(f.name.split(".")[0] for f in KEPT.glob("*.golden.*"))
    ),
    *(
        pytest.param(SHARED, f"{family}_reduced_{variant}", id=f"shared-{family}-{variant}", marks=_needs_shared)
        for family in ("deit", "t2t")
        for variant in VARIANTS
    ),
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


def intermediates(cascade: Cascade, images: Tensor) -> list[dict[str, Tensor]]:
    """Every intermediate of the real modules, by the names of the reference data, each block run for all tokens.

    The results must be those of the stage itself: logits up to rounding, what is handed on bit for bit.
    """
    traced: list[dict[str, Tensor]] = []
    state = None
    for index, stage in enumerate(cascade.stages):
        assert isinstance(stage, Stage)
        steps = _of_stage(stage, images, state)
        output = cascade.forward_stage(index, images, state)
        tolerance = 1e-10 if images.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(output.logits, steps["logits"], atol=tolerance, rtol=0)
        state = output.state
        if state is not None and state.tokens is not None:
            assert torch.equal(steps["tokens"], state.tokens)
        if state is not None and state.relations is not None:
            relations = torch.cat([steps[f"attn_logits.{layer}"] for layer in range(len(stage.blocks))], dim=1)
            assert torch.equal(relations, state.relations)
        traced.append(steps)
    return traced


def _of_stage(stage: Stage, images: Tensor, upstream: ReuseState | None) -> dict[str, Tensor]:
    steps = {"embed": stage.embedding(images).tokens_BND}
    if isinstance(stage.embedding, TokensToToken):
        steps["t2t_perf1"], steps["t2t_perf2"], _ = stage.embedding.layers(images)
    cls_token = stage.cls_token.expand(len(images), -1, -1)
    x = steps["block_in"] = torch.cat([cls_token, steps["embed"]], dim=1) + stage.pos_embed
    biases = None
    if stage.relation_reuse is not None:
        biases = stage.relation_reuse(upstream.relations)
        steps["relation_conv_out"] = torch.cat([bias.relations_BHMM for bias in biases], dim=1)
    for layer, block in enumerate(stage.blocks):
        features = bias = None
        if stage.feature_reuse is not None:
            features = steps[f"reused_feature.{layer}"] = stage.feature_reuse[layer](upstream.tokens)
        if biases is not None:
            bias = biases[layer]
            steps[f"relation_bias.{layer}"] = bias.resampling_NM @ bias.relations_BHMM @ bias.resampling_NM.T
        x, steps[f"attn_logits.{layer}"] = block(x, features, bias, return_relations=True)
        steps[f"block_out.{layer}"] = x
    return steps | {"tokens": x, "logits": stage.head(stage.norm(x[:, 0]))}


def compare(steps: list[dict[str, Tensor]], values: dict[str, Tensor]) -> None:
    """Hold every reference value of the outputs' precision against `steps`, one dictionary for each stage."""
    exact = steps[0]["logits"].dtype == torch.float64
    keys = [key for key in values if key.endswith(".f64") == exact]
    assert {f"logits.{stage}" for stage in range(len(steps))} <= {key.removesuffix(".f64") for key in keys}
    for key in keys:
        name, stage, *rest = key.removesuffix(".f64").split(".")
        part = rest.pop() if rest and not rest[-1].isdigit() else None
        found = _part(steps[int(stage)][".".join([name, *rest])], part)[: len(values[key])]
        tolerance = 1e-10 if exact else 2e-5 if name == "logits" else 1e-4
        message = f"{key} differs by up to {(found - values[key]).abs().max():.1e}"
        torch.testing.assert_close(found, values[key], atol=tolerance, rtol=0, msg=message)


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
