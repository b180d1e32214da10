"""A model folder that is quick to load and to run, for tests that start real servers."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from models.cascade import Cascade
from models.config import CascadeConfig
from weights.preprocessing import Preprocessing
from weights.store import Manifest, save


def save_tiny_model(folder: Path) -> str:
    """Save a model of four stages and three classes that never leaves early; returns its path."""
    architecture = CascadeConfig(image_size=28, num_classes=3, embed_dim=12, depth=1, num_heads=1)
    manifest = Manifest(
        name="tiny",
        architecture=architecture,
        preprocessing=Preprocessing(resize_px=28, crop_px=28),
        class_names=("cat", "dog", "ship"),
        thresholds=(2.0, 2.0, 2.0),
        temperatures=(1.0,) * 4,
        provenance={},
    )
    save(folder, Cascade(architecture), manifest, "# tiny\n")
    return str(folder)


def black_png() -> bytes:
    """A small image."""
    buffer = BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "PNG")
    return buffer.getvalue()
