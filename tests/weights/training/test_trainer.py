import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from cascades import TINY, TINY_T2T, randomised
from training import QUICK, at_report, changed, coloured, looking, snapshot, trainer_of

from models.config import CascadeConfig
from weights.calibration.calibrate import held_out_logits
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing
from weights.training.interruption import Interrupted
from weights.training.recipe import Recipe
from weights.training.trainer import StepReport, Trainer, exit_loss, set_drop_path

pytestmark = pytest.mark.usefixtures("quick_probes")

STEPS = (6, 3, 1, 6)
"""Of each phase of `QUICK` with 24 images."""


@dataclass
class Whole:
    """A run without interruption: its reports and, for each phase, the names it changed and its first rate."""

    reports: list[StepReport]
    changed: list[set[str]]
    first_rates: dict[int, float]
    state: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def whole(quick_probes: None) -> Whole:
    trainer = trainer_of(looking())
    found, before = Whole([], [], {}, {}), snapshot(trainer.cascade)
    for report in trainer.run():
        found.reports.append(report)
        if report.step == 1 and trainer._optimizer is not None:
            found.first_rates[report.phase] = trainer._optimizer.param_groups[0]["lr"]
        if trainer.step == 0:
            found.changed.append(changed(before, trainer.cascade))
            before = snapshot(trainer.cascade)
    assert trainer.finished
    found.state = trainer.cascade.state_dict()
    return found


def _finished(trainer: Trainer) -> dict[str, torch.Tensor]:
    for _ in trainer.run():
        pass
    assert trainer.finished
    return trainer.cascade.state_dict()


def _reopened(trainer: Trainer) -> Trainer:
    """Another trainer that goes on from what the first one left."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    other = trainer_of(looking())
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def test_run_reports_every_step_of_every_phase(whole: Whole) -> None:
    expected = [(phase, step) for phase, steps in enumerate(STEPS) for step in range(1, steps + 1)]
    assert [(report.phase, report.step) for report in whole.reports] == expected
    assert [len(report.exit_accuracy) for report in whole.reports] == [1] * 10 + [3] * 6
    assert {report.images for report in whole.reports} == {8}


@pytest.mark.parametrize(
    ("steps", "goes_on"),
    [(3, _reopened), (STEPS[0], _reopened), (sum(STEPS) - 1, _reopened), (8, lambda trainer: trainer)],
)
def test_run_interrupted_after_any_step_ends_with_the_same_weights(
    steps: int, goes_on: Callable[[Trainer], Trainer], whole: Whole
) -> None:
    trainer = trainer_of(looking())
    assert len(list(islice(trainer.run(), steps))) == steps
    state = _finished(goes_on(trainer))
    assert all(torch.equal(value, whole.state[key]) for key, value in state.items())


@pytest.mark.parametrize(
    ("preparation", "phase"),
    [
        ("look of 32 px: features for the classifier", 0),
        ("look of 49 px: fitting the classifier", 1),
        ("Transformers: preparing views", 3),
    ],
)
def test_run_interrupted_in_a_preparation_ends_with_the_same_weights(
    preparation: str, phase: int, whole: Whole
) -> None:
    def stop() -> None:
        raise Interrupted

    trainer = trainer_of(looking(), report=at_report(preparation, stop))
    with pytest.raises(Interrupted):
        _finished(trainer)
    assert (trainer.phase, trainer.step) == (phase, 0)
    state = _finished(_reopened(trainer))
    assert all(torch.equal(value, whole.state[key]) for key, value in state.items())


def test_load_state_dict_of_a_phase_boundary_forgets_the_optimizer_of_before() -> None:
    fresh, trainer = trainer_of(looking()), trainer_of(looking())
    list(islice(trainer.run(), 2))
    trainer.load_state_dict(fresh.state_dict())
    assert trainer.state_dict()["optimizer"] is None


def test_run_stems_first_blocks_and_norm_statistics_stay_as_they_are(whole: Whole) -> None:
    before = snapshot(looking())
    for key, value in whole.state.items():
        frozen = ".trunk.stem." in key or any(f".trunk.blocks.{index}." in key for index in range(QUICK.frozen_blocks))
        if frozen or "running_" in key:
            assert torch.equal(value, before[key]), key
    moved = {key for key, value in whole.state.items() if not torch.equal(value, before[key])}
    for stage in range(3):
        assert {f"stages.{stage}.pooled_head.weight", f"stages.{stage}.embedding.trunk.head.conv.weight"} <= moved
        assert {f"stages.{stage}.head.weight", f"stages.{stage}.blocks.0.mlp.fc1.weight"} <= moved


def test_run_each_phase_changes_its_own_part_alone(whole: Whole) -> None:
    for stage in range(3):
        mine = (f"stages.{stage}.embedding.trunk.", f"stages.{stage}.pooled_head.")
        assert whole.changed[stage]
        assert all(name.startswith(mine) for name in whole.changed[stage])
    assert whole.changed[3]
    settled = (".trunk.", ".pooled_head.", ".logit_share")
    assert not any(part in name for name in whole.changed[3] for part in settled)


def test_run_learning_rate_follows_the_recipe_in_every_phase(whole: Whole) -> None:
    assert whole.first_rates == {0: QUICK.look_rate, 1: QUICK.look_rate, 3: QUICK.learning_rate}


def _calm(count: int, seed: int) -> LabelledImages:
    """Images of two colours with little noise, in which a random trunk would drown."""
    noisy = coloured(count, seed=seed)
    calm = 0.9 * noisy.images.mean(axis=(2, 3), keepdims=True) + 0.1 * noisy.images
    return replace(noisy, images=calm.astype(np.uint8))


def test_run_all_phases_learn_images_of_two_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.training.probe._STEPS", 300)
    recipe = replace(QUICK, look_epochs=(1.0,) * 3, drop_path=0.0)
    trainer = trainer_of(looking(), recipe, _calm(32, seed=0))
    _finished(trainer)
    unseen = _calm(40, seed=1)
    logits = held_out_logits(trainer.cascade, unseen, Preprocessing(resize_px=63, crop_px=63))
    assert ((logits.argmax(axis=-1) == unseen.labels).mean(axis=1) >= 0.8).all()  # by chance: 0.5 ± 0.08


@pytest.mark.parametrize("config", [TINY, replace(TINY, feature_reuse=None, relation_reuse=None), TINY_T2T])
def test_run_without_trunks_trains_everything_and_repeats_itself(config: CascadeConfig) -> None:
    config = replace(config, num_classes=2)
    before = snapshot(randomised(config))
    first, second = (trainer_of(randomised(config)) for _ in range(2))
    assert list(first.run()) == list(second.run())
    assert first.finished
    after = changed(before, first.cascade)
    assert {f"stages.{stage}.head.weight" for stage in range(config.num_stages)} <= after


def test_new_optimizer_decays_matrices_only() -> None:
    trainer = trainer_of(looking(), replace(QUICK, look_epochs=()))
    optimizer = trainer._new_optimizer(trainer.current)
    matrices, rest = (group["params"] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [QUICK.weight_decay, 0.0]
    names = {id(parameter): name for name, parameter in trainer.cascade.named_parameters()}
    assert all(names[id(parameter)].endswith("weight") for parameter in matrices)
    assert {"stages.0.cls_token", "stages.0.pos_embed", "stages.0.norm.weight"} <= {names[id(p)] for p in rest}


def test_exit_loss_is_the_sum_of_cross_entropies() -> None:
    logits, labels = [torch.randn(4, 3), torch.randn(4, 3)], torch.tensor([0, 1, 2, 0])
    expected = sum(torch.nn.functional.cross_entropy(exit_logits, labels) for exit_logits in logits)
    torch.testing.assert_close(exit_loss(logits, labels), expected)


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


def test_run_looks_without_epochs_only_have_their_classifiers_fitted() -> None:
    trainer = trainer_of(looking(), Recipe(look_epochs=(0.0, 0.0, 0.0), epochs=1, batch_size=8))
    before = snapshot(trainer.cascade)
    assert {report.phase for report in trainer.run()} == {3}
    after = changed(before, trainer.cascade)
    assert {f"stages.{stage}.pooled_head.weight" for stage in range(3)} <= after
    assert not any(".trunk." in key for key in after)
