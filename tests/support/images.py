"""Images and data sets the tests make themselves."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encode(pixels: np.ndarray, image_format: str = "PNG", **options: object) -> bytes:
    """uint8 [3, H, W] as an encoded file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, image_format, **options)
    return buffer.getvalue()


def two_colour_images(count: int, side: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy reddish (class 0) and bluish (class 1) images: uint8 [count, 3, side, side], labels [count]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.integers(0, 120, (count, 3, side, side))
    images[np.arange(count), labels * 2] += 120
    return images.astype(np.uint8), labels


def write_parquet(path: Path, encoded: list[bytes], labels: list[int], names: list[str] | None) -> Path:
    """The Hugging Face image-classification layout."""
    table = pa.table(
        {"image": [{"bytes": data, "path": None} for data in encoded], "label": pa.array(labels, pa.int64())}
    )
    if names is not None:
        document = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(document).encode()})
    pq.write_table(table, path)
    return path


def two_colour_parquet(path: Path, count: int, side: int = 32, *, mislabelled: float = 0.0) -> Path:
    """`two_colour_images` as a parquet file with classes red and blue, some of them confused."""
    images, labels = two_colour_images(count, side)
    labels = labels ^ (np.random.default_rng(1).random(count) < mislabelled)
    return write_parquet(path, [encode(image) for image in images], labels.tolist(), ["red", "blue"])
