import pickle
from pathlib import Path

import pytest
import torch
from training import CPU

from weights.training.checkpoint import CheckpointError, read, write


def test_read_written_state_is_equal(tmp_path: Path) -> None:
    state = {"step": 3, "tensor": torch.arange(4)}
    write(tmp_path / "run" / "checkpoint.pt", state, {"seed": "0"})
    found = read(tmp_path / "run" / "checkpoint.pt", {"seed": "0"}, CPU)
    assert found["step"] == 3
    assert torch.equal(found["tensor"], state["tensor"])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]


def test_read_other_fingerprint_raises_with_a_line_for_each_difference_and_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path / "c.pt", {}, {"seed": "0", "recipe epochs": "10", "same": "x", "gone": "y"})
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "c.pt", {"seed": "1", "recipe epochs": "20", "same": "x", "new": "z"}, CPU)
    head, *differences, advice = str(caught.value).splitlines()
    assert head == f"{tmp_path} holds another run, which differs in"
    assert differences == ["  seed: 0 -> 1", "  recipe epochs: 10 -> 20", "  new: none -> z", "  gone: y -> none"]
    assert "another --out" in advice
    assert "delete that folder" in advice


@pytest.mark.parametrize("content", [b"garbage", pickle.dumps({"state": print}, protocol=2)])
def test_read_foreign_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read(tmp_path / "c.pt", {}, CPU)
