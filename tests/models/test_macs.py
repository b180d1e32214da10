from dataclasses import replace

import pytest
import torch
from cascades import TINY
from torch.utils.flop_counter import FlopCounterMode

from models import VARIANTS, Cascade, CascadeConfig, baseline_macs, stage_macs


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
def test_stage_macs_variant_equals_flop_counter(name: str) -> None:
    assert [macs.total for macs in stage_macs(VARIANTS[name])] == _counted(VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_baseline_macs_equals_flop_counter_of_plain_vit(name: str) -> None:
    plain = VARIANTS[name].plain()
    assert baseline_macs(VARIANTS[name]) == _counted(plain)[0]


def test_stage_macs_real_tensors_equal_meta_tensors() -> None:
    cascade = Cascade(TINY).eval()
    images, state = torch.zeros(1, 3, 28, 28), None
    for stage, macs in enumerate(stage_macs(TINY)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            state = cascade.forward_stage(stage, images, state).state
        assert counter.get_total_flops() == 2 * macs.total


def test_stage_macs_stem_counted_once() -> None:
    hybrid, deeper = stage_macs(TINY), stage_macs(replace(TINY, grids=(4, 7, 14)))
    assert hybrid[1].embedding < deeper[0].embedding


def test_stage_macs_deit_small_without_resampling_equals_published_table() -> None:
    """7-10-14 at width 384, depth 12, 6 heads, 1000 classes: the totals of an independent count of DVT DeiT-small."""
    config = replace(VARIANTS["small_224_patch"], grids=(7, 10, 14))
    assert [macs.total - macs.resampling for macs in stage_macs(config)] == [
        1_142_909_952,
        2_500_233_216,
        5_157_485_952,
    ]
    assert baseline_macs(config) == 4_598_882_304
