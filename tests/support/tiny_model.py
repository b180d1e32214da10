"""A model folder that is quick to load and to run, for tests that start real servers."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from manifests import manifest_of
from PIL import Image

from models.cascade import Cascade
from models.config import CascadeConfig
from weights.store import save

ARCHITECTURE = CascadeConfig(image_size=28, num_classes=3, embed_dim=12, depth=1, num_heads=1)


def save_tiny_model(folder: Path, **more: Any) -> str:
    """Save a seeded model of four stages and three classes that never leaves early; returns its path.

    Args:
        more: of the manifest.
    """
    names, never = ("cat", "dog", "ship"), (2.0, 2.0, 2.0)
    manifest = manifest_of(ARCHITECTURE, class_names=names, thresholds=never, **more)
    torch.manual_seed(0)
    save(folder, Cascade(ARCHITECTURE), manifest, "# tiny\n")
    return str(folder)


def png(color: str = "black") -> bytes:
    """A small image of one colour."""
    buffer = BytesIO()
    Image.new("RGB", (20, 20), color).save(buffer, "PNG")
    return buffer.getvalue()
