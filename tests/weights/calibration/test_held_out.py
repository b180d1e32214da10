from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cascades import TINY
from images import encode
from manifests import manifest_of
from pictures import pictures

from weights import Manifest
from weights.calibration.held_out import held_out
from weights.data import DataError, LabelledImages, load_images
from weights.preprocessing import Preprocessing
from weights.splitting import split, split_by_position

PREPROCESSING = Preprocessing(resize_px=28, crop_px=28)
PICTURES = pictures(200, side=28)
LABELS = np.arange(200) % 2
DRAWN = split(PICTURES, 0.3, 7)


def _manifest(**provenance: Any) -> Manifest:
    return manifest_of(replace(TINY, num_classes=2), provenance=provenance)


BY_CONTENT = _manifest(data="train", split=DRAWN.provenance(0.3, 7))
BY_POSITION = _manifest(
    data="train.parquet", holdout=0.3, split={"train": 140, "calibration": 30, "test": 30}, recipe={"seed": 7}
)


def _data(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    return LabelledImages(images, labels, ("a", "b"))


def _folder(path: Path, rows: np.ndarray, names: np.ndarray) -> Path:
    for row, name in zip(rows, names, strict=True):
        (path / "ab"[LABELS[row]]).mkdir(parents=True, exist_ok=True)
        (path / "ab"[LABELS[row]] / f"{name:06}.png").write_bytes(encode(PICTURES[row]))
    return path


def _same(found: LabelledImages, rows: np.ndarray) -> bool:
    return {image.tobytes() for image in found.images} == {PICTURES[row].tobytes() for row in rows}


def test_held_out_of_renamed_and_reordered_files_has_no_training_image(tmp_path: Path) -> None:
    copy = _folder(tmp_path / "mine", np.arange(200), np.random.default_rng(0).permutation(200))
    parts = held_out(BY_CONTENT, [copy], load_images([copy], PREPROCESSING))
    assert _same(parts.test, DRAWN.test)
    assert _same(parts.calibration, DRAWN.calibration)
    assert parts.num_training == len(DRAWN.train)


def test_held_out_of_training_images_alone_raises_saying_what_to_do() -> None:
    with pytest.raises(DataError, match=r"none of the 20 images is left to judge on: 20 belong.*--fresh"):
        held_out(BY_CONTENT, [], _data(PICTURES[DRAWN.train[:20]], LABELS[:20]))


def test_held_out_says_what_was_left_out_and_keeps_the_counts() -> None:
    tinted = np.clip(PICTURES[:, :, 1:, 1:] * [[[0.7]], [[1.0]], [[0.8]]], 0, 255).astype(np.uint8)
    both = np.concatenate([PICTURES[:, :, 1:, 1:], tinted])
    parts = held_out(BY_CONTENT, [], _data(both, np.tile(LABELS, 2)))
    assert parts.num_near_duplicates > 0
    assert f"{parts.num_near_duplicates:,} near-duplicates, {parts.num_training:,} of the training part" in str(parts)
    told = parts.provenance(BY_CONTENT.provenance["split"], fresh=False)
    assert told == BY_CONTENT.provenance["split"] | {
        "calibration": len(parts.calibration),
        "test": len(parts.test),
        "near_duplicates": parts.num_near_duplicates,
    }


def test_held_out_of_an_older_model_goes_by_position_in_its_own_files() -> None:
    parts = held_out(BY_POSITION, [Path("train.parquet")], _data(PICTURES, LABELS))
    rows = split_by_position(LABELS, 0.3, 7)
    assert _same(parts.calibration, rows.calibration)
    assert _same(parts.test, rows.test)
    split_before = BY_POSITION.provenance["split"]
    assert parts.provenance(split_before, fresh=False) == split_before


@pytest.mark.parametrize("manifest", [BY_POSITION, _manifest()], ids=["older", "converted"])
def test_held_out_of_other_files_of_an_older_or_a_converted_model_is_two_halves(manifest: Manifest) -> None:
    parts = held_out(manifest, [Path("other.parquet")], _data(PICTURES, LABELS))
    seen, unseen = parts.calibration, parts.test
    assert (len(seen), len(unseen)) == (100, 100)
    assert not {image.tobytes() for image in seen.images} & {image.tobytes() for image in unseen.images}


def test_held_out_of_an_older_model_with_other_images_than_its_training_had_raises() -> None:
    with pytest.raises(DataError, match=r"made from 200 images of train\.parquet, this has 100"):
        held_out(BY_POSITION, [Path("train.parquet")], _data(PICTURES[:100], LABELS[:100]))
