import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from weights.conversion.foreign import ConversionError, read_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


class Exploit:
    """Would run a command when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def _saved(path: Path, document: object) -> Path:
    torch.save(document, path)
    return path


@pytest.mark.parametrize("container", ["model_state_dict", "state_dict", "model", None])
def test_read_checkpoint_gives_weights_and_extras(tmp_path: Path, container: str | None) -> None:
    document = WEIGHTS if container is None else {container: OrderedDict(WEIGHTS), "flops": [1.0]}
    checkpoint = read_checkpoint(_saved(tmp_path / "a.pth", document))
    assert torch.equal(checkpoint.tensors["a.weight"], WEIGHTS["a.weight"])
    assert checkpoint.extras == ({} if container is None else {"flops": [1.0]})
    assert len(checkpoint.sha256) == 64


def test_read_checkpoint_strips_module_prefix_widens_to_float32_and_leaves_counters_out(tmp_path: Path) -> None:
    document = {f"module.{key}": value.half() for key, value in WEIGHTS.items()}
    document["module.bn.num_batches_tracked"] = torch.tensor(7)
    tensors = read_checkpoint(_saved(tmp_path / "a.pth", document)).tensors
    assert {key: value.dtype for key, value in tensors.items()} == dict.fromkeys(WEIGHTS, torch.float32)


def test_read_checkpoint_cuda_tensors_come_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # the tag a tensor of a GPU gets in the file
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        path = _saved(tmp_path / "a.pth", WEIGHTS)
    assert b"cuda:0" in path.read_bytes()
    assert {value.device.type for value in read_checkpoint(path).tensors.values()} == {"cpu"}


def test_read_checkpoint_with_code_in_it_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _saved(tmp_path / "a.pth", {"model_state_dict": WEIGHTS, "flops": Exploit()})
    with pytest.raises(ConversionError, match=r"not a PyTorch checkpoint of tensors.*posix\.system") as raised:
        read_checkpoint(path)
    assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_read_checkpoint_cut_short_raises(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    save_file(WEIGHTS, path) if name.endswith("safetensors") else torch.save(WEIGHTS, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConversionError, match=f"{name} is not a"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1, 2], "expected a dictionary of tensors, found list"),
        ({"a": 3}, "a: expected a tensor of floating point numbers, found int"),
        ({"a": torch.ones(2, dtype=torch.int64)}, "a: expected .*, found a tensor of torch.int64"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a: expected finite numbers"),
        ({"a": torch.ones(1), "module.a": torch.ones(1)}, "a is there twice"),
    ],
)
def test_read_checkpoint_other_content_raises_naming_it(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(_saved(tmp_path / "a.pth", document))
    with pytest.raises(ConversionError, match="nowhere is not a file"):
        read_checkpoint(tmp_path / "nowhere")
