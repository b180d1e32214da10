"""Cuts `parity/` out of the complete parity data: `python tests/data/trim_parity.py FOLDER_OF_THE_COMPLETE_DATA`.

Kept are one image, both families, and each variant once: DeiT with both reuses and with features alone up to the
10x10 exit, T2T with relations alone and without reuse up to the last. It must stay under 3 MB.
"""

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

TARGET = Path(__file__).parent / "parity"

STATES = {
    "deit_reduced_full": ("less_less_token.", "less_token."),
    "t2t_reduced_relation": ("less_less_token.", "less_token.", "normal_token."),
}
LOGITS = ("logits.0", "logits.1", "logits.2")
GOLDENS = {
    "deit_reduced_full": (
        *LOGITS[:2],
        "embed.0.tokens",
        "embed.1.tokens",
        "relation_conv_out.1.rows",
        "relation_bias.1.1.rows",
        "reused_feature.1.0.tokens",
        "reused_feature.1.1.tokens",
        "attn_logits.1.1.rows",
    ),
    "deit_reduced_feature": LOGITS[:2],
    "t2t_reduced_relation": (*LOGITS, "relation_conv_out.2.rows", "relation_bias.2.2.cols", "attn_logits.2.2.rows"),
    "t2t_reduced_none": LOGITS,
}
# The embedding does not depend on the reuse, but only `full` has its layers.
EMBEDDING = tuple(f"{name}.{stage}.tokens" for name in ("t2t_perf1", "t2t_perf2", "embed") for stage in range(3))
MANIFESTS = {
    "dvt_deit_small": "DVT_Deit_small",
    "dvt_t2t_vit_12": "DVT_T2t_vit_12",
    "dvt_t2t_vit_14": "DVT_T2t_vit_14",
}


def _both(keys: tuple[str, ...]) -> list[str]:
    return [full for key in keys for full in (key, f"{key}.f64")]


def _goldens(source: Path) -> None:
    for name, keys in GOLDENS.items():
        values = load_file(source / f"{name}.golden.safetensors")
        kept = {key: values[key][:1] for key in _both(keys)}
        if name == "t2t_reduced_relation":
            full = load_file(source / "t2t_reduced_full.golden.safetensors")
            kept |= {key: full[key] for key in _both(EMBEDDING)}
        save_file(kept, TARGET / f"{name}.golden.safetensors")


def _states(source: Path) -> None:
    full = load_file(source / "t2t_reduced_full.state_dict.safetensors")
    for name, prefixes in STATES.items():
        tensors = load_file(source / f"{name}.state_dict.safetensors")
        for key, value in tensors.items():
            assert "tokens_to_token" not in key or np.array_equal(value, full[key]), key
        kept = {key: value for key, value in tensors.items() if key.startswith(prefixes)}
        save_file(kept, TARGET / f"{name}.state_dict.safetensors")


def _thresholds(source: Path) -> None:
    values = load_file(source / "thresholds.safetensors")
    kept = {key: value for key, value in values.items() if not key.endswith((".softmax", ".targets"))}
    for name in ("solve", "eval", "ties", "tiny"):
        softmax = values[f"{name}.softmax"]
        kept[f"{name}.confidence"] = softmax.max(axis=-1)
        kept[f"{name}.correct"] = (softmax.argmax(axis=-1) == values[f"{name}.targets"]).astype(np.uint8)
    save_file(kept, TARGET / "thresholds.safetensors")


def _manifests(source: Path) -> None:
    documents = {}
    for variant, name in MANIFESTS.items():
        entries = json.loads((source / f"manifest_{name}.json").read_text())["state_dict"]
        documents[variant] = {entry["key"]: entry["shape"] for entry in entries}
    (TARGET / "manifests.json.gz").write_bytes(gzip.compress(json.dumps(documents).encode(), mtime=0))


def main(source: Path) -> None:
    TARGET.mkdir(exist_ok=True)
    save_file({"x": load_file(source / "input.safetensors")["x"][:1]}, TARGET / "input.safetensors")
    _states(source)
    _goldens(source)
    _thresholds(source)
    _manifests(source)
    for name in ("units.safetensors", "costs.json"):
        shutil.copyfile(source / name, TARGET / name)
    size = sum(file.stat().st_size for file in TARGET.iterdir())
    assert size < 3_000_000, size
    print(f"{size / 1e6:.2f} MB in {TARGET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
