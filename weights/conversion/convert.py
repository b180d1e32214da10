"""`dvt convert` without the command line: a checkpoint of another program in, a model folder out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.macs import baseline_macs, stage_macs
from weights.calibration.authors_thresholds import NEVER_EXITS
from weights.card import TRUNK
from weights.conversion.authors import authors_architecture, authors_cascade, is_authors
from weights.conversion.cards import converted_card, initial_card, trunk_card
from weights.conversion.classes import class_names
from weights.conversion.foreign import Checkpoint, ConversionError, read_checkpoint
from weights.conversion.lite import is_lite, lite_architecture, lite_cascade, lite_origin, lite_preprocessing
from weights.conversion.operating_points import sensible_default, stated_exits, stated_operating_points
from weights.conversion.vit_init import initial_cascade, is_vit, vit_architecture
from weights.preprocessing import Preprocessing
from weights.store import Manifest, NamedOperatingPoint, check_writable, round_to_half, save


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written.

    Attributes:
        ready: whether the model can be served; otherwise it must be trained first.
    """

    manifest: Manifest
    ready: bool


def convert(
    checkpoint: Path,
    out: Path,
    *,
    heads: int | None = None,
    class_names_file: Path | None = None,
    deepest: Path | None = None,
    half: bool = False,
) -> Conversion:
    """Write a checkpoint as a model folder, whole or not at all.

    A checkpoint of the authors becomes the same model. An EfficientNet-Lite becomes a cascade whose exits answer as it
    does at four resolutions. A plain ViT of timm or DeiT becomes a cascade that must be trained before use.

    Args:
        heads: attention heads, where the file does not tell.
        class_names_file: one name a line, or a JSON list.
        deepest: another EfficientNet-Lite, for the last stage.
        half: round the weights to half precision.

    Raises:
        ConversionError: when the checkpoint is of another kind, damaged or inconsistent.
        ModelFormatError: when `out` exists and is not a model folder.
    """
    check_writable(out)
    source = read_checkpoint(checkpoint)
    provenance: dict[str, Any] = {
        "converted_from": {"file": checkpoint.name, "sha256": source.sha256},
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
    points: tuple[NamedOperatingPoint, ...] = ()
    preprocessing, make_card, ready = None, converted_card, True
    if deepest is not None and not is_lite(source):
        raise ConversionError(f"--deepest is for EfficientNet-Lite checkpoints, and {checkpoint} is not one")
    if is_authors(source):
        cascade = authors_cascade(source, authors_architecture(source, heads))
        points = stated_operating_points(source, cascade.config.num_stages)
        provenance["stated_by_authors"] = stated_exits(source, cascade.config.num_stages)
    elif is_lite(source):
        last = None if deepest is None else read_checkpoint(deepest)
        cascade = lite_cascade(source, lite_architecture(source, heads, last), last)
        preprocessing, make_card = lite_preprocessing(cascade.config), trunk_card
        provenance[TRUNK] = [lite_origin(source, checkpoint.name)]
        if deepest is not None and last is not None:
            provenance[TRUNK].append(lite_origin(last, deepest.name))
    elif is_vit(source):
        cascade = initial_cascade(source, vit_architecture(source, heads))
        make_card, ready = initial_card, False
        provenance["warning"] = "initial weights of a plain ViT: train before use"
    else:
        raise ConversionError(_foreign(checkpoint, source))
    if half:
        round_to_half(cascade)
        provenance["weights"] = "float16"
    config = cascade.config
    manifest = Manifest(
        name=out.name,
        architecture=config,
        preprocessing=preprocessing or Preprocessing(resize_px=config.image_size * 8 // 7, crop_px=config.image_size),
        class_names=class_names(config.num_classes, class_names_file),
        thresholds=sensible_default(points).thresholds if points else (NEVER_EXITS,) * (config.num_stages - 1),
        temperatures=(1.0,) * config.num_stages,
        provenance=provenance,
        operating_points=points,
    )
    save(out, cascade, manifest, make_card(manifest))
    return Conversion(manifest, ready)


def summary(conversion: Conversion, out: Path) -> str:
    """A summary of the folder's content and use, in a few lines."""
    manifest = conversion.manifest
    config = manifest.architecture
    grids = ", ".join(f"{grid}x{grid}" for grid in config.grids)
    cost = sum(stage.total for stage in stage_macs(config)) / baseline_macs(config)
    if not conversion.ready:
        advice = f"not trained: train it before use, with dvt train DATA --out NAME --init {out}"
    elif manifest.operating_points:
        thresholds = ", ".join(f"{threshold:g}" for threshold in manifest.thresholds)
        advice = f"{len(manifest.operating_points)} operating points; default thresholds {thresholds}"
    else:
        advice = f"the checkpoint has no thresholds: they are {NEVER_EXITS:g}, so every image walks to the last exit"
    if TRUNK in manifest.provenance:
        advice += f"\nto train it on images of your own: dvt train DATA --out NAME --init {out}"
    return (
        f"{out}: width {config.embed_dim}, depth {config.depth}, {config.num_heads} heads, "
        f"{config.num_classes} classes, exits at {grids}\n"
        f"the whole walk costs {cost:.2f} times a plain ViT at the last grid\n{advice}"
    )


def _foreign(path: Path, checkpoint: Checkpoint) -> str:
    shown = ", ".join(list(checkpoint.tensors)[:4]) or "no tensors"
    return (
        f"{path}: expected the authors' names (less_less_token.…, less_token.…, normal_token.…), an EfficientNet's "
        f"(_conv_stem.weight or conv_stem.weight) or a plain ViT's (cls_token, patch_embed.proj.weight, blocks.0.…), "
        f"found {shown}"
    )
