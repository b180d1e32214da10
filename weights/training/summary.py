"""Texts that a run prints before its first and after its last step."""

from dataclasses import asdict
from operator import itemgetter
from typing import Any

from models.config import TrunkEmbeddingConfig
from weights.training.augment import Augmentation
from weights.training.recipe import Recipe
from weights.training.run import PreparedRun

_SHOWN_CLASSES = 20


def announcement(plan: PreparedRun) -> str:
    """Images left out, classes, and the training to come."""
    parts, recipe, origin = plan.parts, plan.recipe, plan.origin
    start = f"starting from the {origin.get('part', 'weights')} of {origin['name']}" if origin else "from nothing"
    strengths = [f"{name} {value:g}" for name, value in _effective(recipe.augmentation).items()]
    return "\n".join((*plan.data.notes, _classes(plan))) + (
        f"\n{len(parts.train):,} images of {len(plan.data.class_names)} classes to train with, "
        f"{len(parts.calibration):,} to calibrate with, {len(parts.test):,} to judge on; {start}\n"
        f"{_epochs(plan, recipe)}, batches of {recipe.batch_size}, seed {recipe.seed}\n"
        f"augmentation: {', '.join(strengths)}"
    )


def outcome(plan: PreparedRun, results: dict[str, Any]) -> str:
    """Accuracy of the model with confidence intervals."""
    exits = ", ".join(
        f"{accuracy:.1%} ({low:.0%}-{high:.0%})"
        for accuracy, (low, high) in zip(results["exit_accuracy"], results["exit_accuracy_interval"], strict=True)
    )
    return (
        f"top-1 on {len(plan.parts.test):,} held-out images by exit, with 95 % intervals: {exits}\n"
        f"finished: {plan.run.out}"
    )


def _classes(plan: PreparedRun) -> str:
    counted = list(zip(plan.data.class_names, plan.data.counts, strict=True))
    if len(counted) > _SHOWN_CLASSES:
        fewest, most = min(counted, key=itemgetter(1)), max(counted, key=itemgetter(1))
        return f"{len(counted):,} classes, from {fewest[0]} ({fewest[1]:,} images) to {most[0]} ({most[1]:,})"
    return "images: " + ", ".join(f"{name} {count:,}" for name, count in counted)


def _effective(augmentation: Augmentation) -> dict[str, float]:
    """The augmentation, in words."""
    unused = (
        {"distortion_rate"} if not any((augmentation.colour, augmentation.rotation_deg, augmentation.shear)) else set()
    )
    unused |= {"min_scale"} if augmentation.min_scale == 1 else set()
    return {name: value for name, value in asdict(augmentation).items() if value and name not in unused}


def _epochs(plan: PreparedRun, recipe: Recipe) -> str:
    embedding = plan.cascade.config.embedding
    if not isinstance(embedding, TrunkEmbeddingConfig) or not recipe.look_epochs:
        return f"epochs: {recipe.epochs:g}"
    looks = zip(embedding.looks, recipe.look_epochs, strict=True)
    epochs = ", ".join(f"{look.px} px {epochs:g}" for look, epochs in looks)
    return f"epochs of each look: {epochs}; then of the Transformers: {recipe.epochs:g}"
