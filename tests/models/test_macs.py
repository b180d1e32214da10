from dataclasses import replace

import pytest
import torch
from cascades import TINY
from torch.utils.flop_counter import FlopCounterMode

from models import VARIANTS, Cascade, CascadeConfig, baseline_macs, stage_macs
from models.macs import paper_macs


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


def test_stage_macs_tiny_equals_flop_counter(tiny_config: CascadeConfig) -> None:
    assert [macs.total for macs in stage_macs(tiny_config)] == _counted(tiny_config)


@pytest.mark.parametrize("name", VARIANTS)
def test_stage_macs_variant_and_its_baseline_equal_flop_counter(name: str) -> None:
    # All blocks but the last are alike, and counting takes long.
    config = replace(VARIANTS[name], depth=3)
    assert [macs.total for macs in stage_macs(config)] == _counted(config)
    assert baseline_macs(config) == _counted(config.plain())[0]


def test_stage_macs_real_tensors_equal_meta_tensors() -> None:
    cascade = Cascade(TINY).eval()
    images, state = torch.zeros(1, 3, 28, 28), None
    for stage, macs in enumerate(stage_macs(TINY)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            state = cascade.forward_stage(stage, images, state).state
        assert counter.get_total_flops() == 2 * macs.total


def test_stage_macs_plain_vit_last_block_is_the_class_token_s() -> None:
    n, d, hidden, depth = 197, TINY.embed_dim, TINY.mlp_hidden_dim, TINY.depth
    (macs,) = stage_macs(TINY.plain())
    assert macs.attention_linear == (depth - 1) * n * 4 * d * d + (n * 2 + 2) * d * d
    assert macs.attention_matmul == (depth - 1) * 2 * n * n * d + 2 * n * d
    assert macs.block_mlp == (depth - 1) * n * 2 * hidden * d + 2 * hidden * d


def test_stage_macs_stages_that_hand_on_tokens_are_counted_in_full() -> None:
    executed = [macs.total - macs.feature_resampling - macs.relation_resampling for macs in stage_macs(TINY)]
    assert executed[:-1] == list(paper_macs(TINY)[:-1])
    assert executed[-1] < paper_macs(TINY)[-1]


def test_paper_macs_deit_small_equals_published_table() -> None:
    """7-10-14 at width 384, depth 12, 6 heads, 1000 classes: the totals of an independent count of DVT DeiT-small."""
    config = replace(VARIANTS["small_224_patch"], grids=(7, 10, 14))
    assert paper_macs(config) == (1_142_909_952, 2_500_233_216, 5_157_485_952)
    assert paper_macs(config.plain()) == (4_598_882_304,)
