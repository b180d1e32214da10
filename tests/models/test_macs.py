import pytest
import torch
from cascades import TINY, TINY_CONFIGS
from torch.utils.flop_counter import FlopCounterMode

from models import Cascade, CascadeConfig, baseline_macs, stage_macs
from models.config import VARIANTS


def _counted(config: CascadeConfig) -> list[int]:
    """Half of PyTorch's FLOP count of each stage's real forward pass for one image."""
    with torch.device("meta"):
        cascade = Cascade(config).eval()
        images = torch.zeros(1, 3, config.image_size, config.image_size)
    counts, state = [], None
    for stage in range(config.num_stages):
        with FlopCounterMode(display=False) as counter:
            state = cascade.forward_stage(stage, images, state).state
        flops = counter.get_total_flops()
        assert flops % 2 == 0
        counts.append(flops // 2)
    return counts


@pytest.mark.parametrize(
    "kind", ["residual_stem", "unshuffled_maps", "patch", "features_only", "relations_only", "t2t", "looks"]
)
def test_stage_macs_and_baseline_equal_flop_counter(kind: str) -> None:
    config = TINY_CONFIGS[kind]
    assert [macs.total for macs in stage_macs(config)] == _counted(config)
    assert baseline_macs(config) == _counted(config.plain())[0]


def test_stage_macs_shipped_architecture_equals_flop_counter() -> None:
    config = VARIANTS["looks_224"]
    assert [macs.total for macs in stage_macs(config)] == _counted(config)
    assert baseline_macs(config) == _counted(config.plain())[0]


def test_stage_macs_plain_vit_last_block_is_the_class_token_s() -> None:
    n, d, hidden, depth = 197, TINY.embed_dim, TINY.mlp_hidden_dim, TINY.depth
    (macs,) = stage_macs(TINY.plain())
    assert macs.attention_linear == (depth - 1) * n * 4 * d * d + (n * 2 + 2) * d * d
    assert macs.attention_matmul == (depth - 1) * 2 * n * n * d + 2 * n * d
    assert macs.block_mlp == (depth - 1) * n * 2 * hidden * d + 2 * hidden * d
