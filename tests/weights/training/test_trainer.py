from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from cascades import TINY, randomised
from training import QUICK, SMALL, changed, coloured, looking, preprocessing_of, snapshot, trainer_of

from models.cascade import Cascade
from weights.calibration.calibrate import held_out_logits
from weights.data import LabelledImages
from weights.training.recipe import Recipe
from weights.training.trainer import StepReport, set_drop_path

pytestmark = pytest.mark.usefixtures("quick_probes")

STEPS = (6, 3, 1, 6)
"""Of each phase of `QUICK` with 24 images."""


@dataclass
class Whole:
    """A run: its reports and, for each phase, the names it changed and its first rate."""

    cascade: Cascade
    reports: list[StepReport]
    changed: list[set[str]]
    first_rates: dict[int, float]


@pytest.fixture(scope="module")
def whole(quick_probes: None) -> Whole:
    trainer = trainer_of(looking())
    found, before = Whole(trainer.cascade, [], [], {}), snapshot(trainer.cascade)
    for report in trainer.run():
        found.reports.append(report)
        if report.step == 1 and trainer._optimizer is not None:
            found.first_rates[report.phase] = trainer._optimizer.param_groups[0]["lr"]
        if trainer.step == 0:
            found.changed.append(changed(before, trainer.cascade))
            before = snapshot(trainer.cascade)
    assert trainer.finished
    return found


def test_run_reports_every_step_of_every_phase_at_the_recipe_s_rate(whole: Whole) -> None:
    expected = [(phase, step) for phase, steps in enumerate(STEPS) for step in range(1, steps + 1)]
    assert [(report.phase, report.step) for report in whole.reports] == expected
    assert [len(report.exit_accuracy) for report in whole.reports] == [1] * 10 + [3] * 6
    assert {report.images for report in whole.reports} == {8}
    assert whole.first_rates == {0: QUICK.look_rate, 1: QUICK.look_rate, 3: QUICK.learning_rate}


def test_run_each_phase_changes_its_own_part_alone_and_leaves_frozen_blocks_and_statistics(whole: Whole) -> None:
    frozen = (".trunk.stem.", *(f".trunk.blocks.{index}." for index in range(QUICK.frozen_blocks)), "running_")
    moved = changed(snapshot(looking()), whole.cascade)
    assert not any(part in name for name in moved for part in frozen)
    for stage in range(3):
        mine = (f"stages.{stage}.embedding.trunk.", f"stages.{stage}.pooled_head.")
        assert all(name.startswith(mine) for name in whole.changed[stage])
        trained = {f"stages.{stage}.pooled_head.weight", f"stages.{stage}.embedding.trunk.head.conv.weight"}
        assert trained <= whole.changed[stage]
        assert {f"stages.{stage}.head.weight", f"stages.{stage}.blocks.0.mlp.fc1.weight"} <= whole.changed[3]
    settled = (".trunk.", ".pooled_head.", ".logit_share")
    assert not any(part in name for name in whole.changed[3] for part in settled)


def _calm(count: int, seed: int) -> LabelledImages:
    """Images of two colours with little noise, in which a random trunk would drown."""
    noisy = coloured(count, seed=seed)
    calm = 0.9 * noisy.images.mean(axis=(2, 3), keepdims=True) + 0.1 * noisy.images
    return replace(noisy, images=calm.astype(np.uint8))


def test_run_all_phases_learn_images_of_two_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.training.look_phase._PROBE_STEPS", 300)
    trainer = trainer_of(looking(), replace(QUICK, look_epochs=(1.0,) * 3, drop_path=0.0), _calm(32, seed=0))
    assert list(trainer.run())
    unseen = _calm(40, seed=1)
    logits = held_out_logits(trainer.cascade, unseen, preprocessing_of(trainer.cascade.config))
    assert ((logits.argmax(axis=-1) == unseen.labels).mean(axis=1) >= 0.8).all()  # by chance: 0.5 ± 0.08


def test_run_looks_without_epochs_only_have_their_classifiers_fitted() -> None:
    trainer = trainer_of(looking(), Recipe(look_epochs=(0.0, 0.0, 0.0), epochs=1, batch_size=8))
    before = snapshot(trainer.cascade)
    assert {report.phase for report in trainer.run()} == {3}
    after = changed(before, trainer.cascade)
    assert {f"stages.{stage}.pooled_head.weight" for stage in range(3)} <= after
    assert not any(".trunk." in key for key in after)


def test_run_without_trunks_trains_everything_and_repeats_itself() -> None:
    before = snapshot(randomised(SMALL))
    first, second = (trainer_of(randomised(SMALL)) for _ in range(2))
    assert list(first.run()) == list(second.run())
    assert first.finished
    after = changed(before, first.cascade)
    assert {f"stages.{stage}.head.weight" for stage in range(4)} | {"stem.0.conv.weight"} <= after


def test_new_optimizer_decays_matrices_only() -> None:
    trainer = trainer_of(looking(), replace(QUICK, look_epochs=()))
    optimizer = trainer._new_optimizer(trainer.current)
    matrices, rest = (group["params"] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [QUICK.weight_decay, 0.0]
    names = {id(parameter): name for name, parameter in trainer.cascade.named_parameters()}
    assert all(names[id(parameter)].endswith("weight") for parameter in matrices)
    assert {"stages.0.cls_token", "stages.0.pos_embed", "stages.0.norm.weight"} <= {names[id(p)] for p in rest}


def test_set_drop_path_rises_over_the_blocks_and_acts_in_training_only() -> None:
    cascade = randomised(TINY)
    set_drop_path(cascade, 0.5)
    assert [[block.drop_path for block in stage.blocks] for stage in cascade.stages] == [[0.0, 0.5]] * 4
    images = torch.randn(16, 3, 28, 28)
    assert torch.equal(cascade(images)[0], cascade(images)[0])
    block, x = cascade.stages[0].blocks[1].train(), torch.randn(64, 5, 12)
    attended = block.attn(block.norm1(x)).tokens_BND
    dropped = block._drop(attended)
    kept = dropped.abs().sum(dim=(1, 2)) > 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], 2 * attended[kept])
