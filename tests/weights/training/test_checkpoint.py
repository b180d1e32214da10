import pickle
from pathlib import Path

import pytest
import torch

from weights.training.checkpoint import CheckpointError, read, write

CPU = torch.device("cpu")


def test_read_written_state_is_equal(tmp_path: Path) -> None:
    state = {"step": 3, "tensor": torch.arange(4)}
    write(tmp_path / "run" / "checkpoint.pt", state, {"seed": "0"})
    found = read(tmp_path / "run" / "checkpoint.pt", {"seed": "0"}, CPU)
    assert found["step"] == 3
    assert torch.equal(found["tensor"], state["tensor"])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]


def test_read_other_fingerprint_raises_saying_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "c.pt", {}, {"seed": "0", "data": "a"})
    with pytest.raises(CheckpointError, match="another run: seed was 0, is 1"):
        read(tmp_path / "c.pt", {"seed": "1", "data": "a"}, CPU)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"state": print}, protocol=2)])
def test_read_foreign_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read(tmp_path / "c.pt", {}, CPU)
