import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cascades import TINY, TINY_CONFIGS, TINY_LOOKS, randomised
from manifests import manifest_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.config import CascadeConfig
from weights import Manifest, ModelFormatError, NamedOperatingPoint, load, load_model, save
from weights.calibration.table import CalibrationTable
from weights.store import round_to_half, shipped_models

_POINT = {"name": "fast", "thresholds": [0.5, 0.5, 0.5], "accuracy": 0.8, "mean_macs": 1e6}


def _manifest(config: CascadeConfig) -> Manifest:
    return manifest_of(config, provenance={"data": "noise"})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    table = CalibrationTable(np.full((4, 2), 0.5, dtype=np.float32), np.ones((4, 2), dtype=bool))
    save(tmp_path / "tiny", randomised(TINY), _manifest(TINY), "# card\n", table)
    return tmp_path / "tiny"


@pytest.mark.parametrize("kind", ["hybrid", "t2t", "looks"])
def test_load_saved_model_gives_equal_manifest_and_outputs(tmp_path: Path, kind: str) -> None:
    cascade, config = randomised(TINY_CONFIGS[kind]), TINY_CONFIGS[kind]
    points = [_POINT | {"name": name, "thresholds": (0.5,) * (config.num_stages - 1)} for name in ("fast", "exact")]
    manifest = manifest_of(config, operating_points=[NamedOperatingPoint(**point) for point in points])
    save(tmp_path / "model", cascade, manifest, "# card\n")
    stored = load(tmp_path / "model")
    assert stored.manifest == manifest
    assert not stored.cascade.training
    images = torch.randn(2, 3, config.image_size, config.image_size)
    for expected, found in zip(cascade(images), load_model(tmp_path / "model")(images), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("config", [TINY, TINY_LOOKS], ids=["hybrid", "looks"])
def test_round_to_half_changes_matrices_by_its_precision_and_half_the_space_is_taken(
    tmp_path: Path, config: CascadeConfig
) -> None:
    cascade = randomised(config)
    with torch.no_grad():
        cascade.stages[0].head.weight[0, 0] = 70_000.0  # beyond what half precision holds
    before = {key: value.clone() for key, value in cascade.state_dict().items()}
    save(tmp_path / "whole", cascade, _manifest(config), "")
    round_to_half(cascade)
    save(tmp_path / "half", cascade, _manifest(config), "")
    found = load(tmp_path / "half").cascade.state_dict()
    for key, value in cascade.state_dict().items():
        assert (found[key].dtype, torch.equal(found[key], value)) == (value.dtype, True), key
        if value.ndim < 2 or key == "stages.0.head.weight":
            assert torch.equal(value, before[key]), key
        else:
            assert torch.equal(value, value.half().float()), key
            torch.testing.assert_close(value, before[key], rtol=2**-11, atol=2**-25)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.65 * whole  # the tiny model has many small tensors, which stay as they are


def test_save_equal_tensors_are_stored_once_and_loaded_under_all_names_independently(tmp_path: Path) -> None:
    cascade = randomised(TINY)
    for stage in cascade.stages[1:]:
        stage.head.load_state_dict(cascade.stages[0].head.state_dict())
    save(tmp_path / "model", cascade, _manifest(TINY), "")
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        stored, aliases = set(file.keys()), json.loads(file.metadata()["aliases"])
    assert aliases["stages.3.head.weight"] == "stages.0.head.weight"
    assert not stored & aliases.keys()
    assert stored | aliases.keys() == cascade.state_dict().keys()
    found = load(tmp_path / "model").cascade
    for key, value in found.state_dict().items():
        assert torch.equal(value, cascade.state_dict()[key]), key
    with torch.no_grad():
        found.stages[0].head.weight.zero_()
    assert torch.equal(found.stages[1].head.weight, cascade.stages[1].head.weight)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ('{"stages.3.head.weight": "stages.9.head.weight"}', "alias of 'stages.9.head.weight', which is not stored"),
        ('{"stages.3.head.weight": 3}', "alias of 3, which is not stored"),
        ('{"stages.0.head.weight": "stages.1.head.weight"}', "stages.0.head.weight is stored and an alias"),
        ('{"stages.3.head.weight": "stages.0.head.bias"}', "does not hold this architecture"),
        ('["stages.3.head.weight"]', "aliases must be an object of names, found list"),
        ("{", "aliases is not JSON"),
    ],
)
def test_load_wrong_alias_raises(saved: Path, aliases: str, message: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    del tensors["stages.3.head.weight"]
    save_file(tensors, saved / "model.safetensors", {"aliases": aliases})
    _renew_checksum(saved, "model.safetensors")
    with pytest.raises(ModelFormatError, match=message):
        load(saved)


def test_save_where_it_must_not_or_cannot_write_says_so_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ModelFormatError, match="photos exists and is not a model folder"):
        save(tmp_path / "photos", randomised(TINY), _manifest(TINY), "")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    (tmp_path / "file").touch()
    with pytest.raises(ModelFormatError, match="cannot be written: Not a directory; choose another folder"):
        save(tmp_path / "file" / "model", randomised(TINY), _manifest(TINY), "")


def test_save_over_a_model_replaces_it_whole_but_files_of_others_and_an_edited_card(saved: Path) -> None:
    save(saved, randomised(TINY, seed=1), _manifest(TINY), "# new card\n")
    card = saved / "README.md"
    assert card.read_text().startswith("# new card\n")
    assert {path.name for path in saved.iterdir()} == {"README.md", "SHA256SUMS", "config.json", "model.safetensors"}
    assert torch.equal(load_model(saved).stages[0].head.weight, randomised(TINY, seed=1).stages[0].head.weight)
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"]
    save(saved, randomised(TINY), _manifest(TINY), None)
    assert card.read_text().startswith("# new card\n")
    (saved / "notes.txt").write_text("mine")
    card.write_text(card.read_text() + "\nnot for faces\n")
    save(saved, randomised(TINY), _manifest(TINY), "# newer card\n")
    assert (saved / "notes.txt").read_text() == "mine"
    assert "not for faces" in card.read_text()
    assert (saved / "README.generated.md").read_text().startswith("# newer card\n")


def test_calibration_digest_is_anothers_for_all_that_thresholds_hang_on_and_for_nothing_else(tmp_path: Path) -> None:
    confidence = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)
    right, wrong = (CalibrationTable(confidence, np.full((4, 2), each)) for each in (True, False))

    def digest(seed: int = 0, table: CalibrationTable | None = None, **changes: object) -> str:
        save(tmp_path / "a", randomised(TINY, seed), _manifest(TINY).model_copy(update=changes), "", table)
        return load(tmp_path / "a").calibration_digest

    first, other = digest(), digest(temperatures=(1.0, 1.0, 1.0, 1.5))
    assert len({first, other, digest(seed=1), digest(table=right), digest(table=wrong)}) == 5
    assert digest(thresholds=(0.1,) * 3, provenance={"data": "the same noise"}) == first
    assert load(tmp_path / "a").calibration is None
    assert len(first) == 16


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{}", "config.json: sha256 is .*the file was changed"),
        ("model.safetensors", b"x", "model.safetensors: sha256 is .*the file is damaged"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", r"pointer of git-lfs.*git lfs pull"),
        ("calibration.safetensors", b"x", "calibration.safetensors: sha256 is .*the file is damaged"),
        ("config.json", None, "has no config.json"),
        ("model.safetensors", None, "has no model.safetensors"),
        ("SHA256SUMS", None, "has no SHA256SUMS"),
    ],
)
def test_load_altered_or_missing_file_raises_naming_it(
    saved: Path, name: str, content: bytes | None, message: str
) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=message):
        load(saved)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class_names", ["a"], "class_names has 1 entries, the architecture needs 5"),
        ("thresholds", [0.5], "thresholds has 1 entries, the architecture needs 3"),
        ("temperatures", [1, 1, 1, 0], "temperatures must be positive"),
        ("architecture", {"num_heads": 5}, "not divisible by num_heads 5"),
        ("architecture", {"depth": 3}, "does not hold this architecture"),
        ("preprocessing", {"crop_px": 20}, "crop_px 20 differs from image_size 28"),
        ("operating_points", [_POINT | {"thresholds": [0.5]}], "operating point fast has 1 entries, .* needs 3"),
        ("operating_points", [_POINT, _POINT], "need different names, got fast, fast"),
    ],
)
def test_load_wrong_config_raises_naming_value(saved: Path, key: str, value: Any, message: str) -> None:
    document = json.loads((saved / "config.json").read_text())
    document[key] = document[key] | value if isinstance(value, dict) else value
    (saved / "config.json").write_text(json.dumps(document))
    _renew_checksum(saved, "config.json")
    with pytest.raises(ModelFormatError, match=message):
        load(saved)


def test_load_unknown_name_raises_listing_shipped_models() -> None:
    with pytest.raises(ModelFormatError, match="no model 'nowhere'"):
        load("nowhere")


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_loads_and_stays_under_40_megabytes(name: str) -> None:
    stored = load(name)
    assert stored.manifest.name == name
    assert sum(path.stat().st_size for path in stored.path.iterdir()) < 40e6


def _renew_checksum(folder: Path, name: str) -> None:
    """So that the check under test is the one that fails."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    renewed = f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
    (folder / "SHA256SUMS").write_text("\n".join(renewed if line.endswith(name) else line for line in lines))
