"""Manifests of tiny models."""

from typing import Any

from models.config import CascadeConfig
from weights.manifest import Manifest
from weights.preprocessing import Preprocessing


def manifest_of(config: CascadeConfig, **more: Any) -> Manifest:
    """Of classes a, b, …, whose images never leave early and are stored as large as they are seen; or with `more`."""
    values: dict[str, Any] = {
        "name": "tiny",
        "architecture": config,
        "preprocessing": Preprocessing(resize_px=config.image_size, crop_px=config.image_size),
        "class_names": tuple("abcde"[: config.num_classes]),
        "thresholds": (1.0,) * (config.num_stages - 1),
        "temperatures": (1.0,) * config.num_stages,
        "provenance": {},
    }
    return Manifest(**{**values, **more})
