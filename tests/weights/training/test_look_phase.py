from dataclasses import replace

import pytest
import torch
from training import QUICK, changed, coloured, looking, phase_arguments, silent, snapshot

from models.cascade import Cascade
from weights.data import LabelledImages
from weights.training.augment import Augmentation
from weights.training.look_phase import LookPhase, look_of
from weights.training.recipe import Recipe

STILL = replace(QUICK, augmentation=Augmentation(flip=False))


def _phase(
    cascade: Cascade,
    stage: int = 0,
    recipe: Recipe = QUICK,
    data: LabelledImages | None = None,
    starts_from_last: bool = False,
) -> LookPhase:
    return LookPhase(*phase_arguments(cascade, recipe, data), stage, stage=stage, starts_from_last=starts_from_last)


def test_begin_fits_the_classifier_of_this_stage_alone() -> None:
    cascade, data = looking(), coloured()
    before = snapshot(cascade)
    phase = _phase(cascade, 1, data=data)
    phase.begin(silent)
    assert changed(before, cascade) == {"stages.1.pooled_head.weight", "stages.1.pooled_head.bias"}
    assert phase.judge(data, silent)[0] >= 0.9


def test_begin_classes_in_a_row_are_all_seen_by_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.training.look_phase._PROBE_IMAGES", 12)
    data = coloured(48)
    sorted_data = data.subset(data.labels.argsort(kind="stable"))
    phase = _phase(looking(), data=sorted_data)
    phase.begin(silent)
    assert phase.judge(sorted_data, silent)[0] > 0.6


@pytest.mark.parametrize("starts_from_last", [True, False])
def test_begin_takes_over_what_the_look_before_learned_if_it_starts_like_it(starts_from_last: bool) -> None:
    cascade = looking()
    first, second = (look_of(cascade, stage)[0].trunk for stage in (0, 1))
    own = snapshot(second)
    with torch.no_grad():
        first.head.conv.weight.add_(1.0)
    _phase(cascade, 1, starts_from_last=starts_from_last).begin(silent)
    assert changed(snapshot(first) if starts_from_last else own, second) == set()
    assert torch.equal(second.head.conv.weight, first.head.conv.weight) == starts_from_last


def test_logits_of_kept_maps_are_those_of_the_whole_trunk() -> None:
    data = coloured(16)
    phase = _phase(looking(), 2, STILL, data)
    phase.prepare(silent)
    (logits,), labels = phase.logits(0)
    _, places = phase._batch(0)
    look, head = look_of(phase.cascade, 2)
    images = phase._seen_at(torch.from_numpy(data.images[phase._rows[places]]), look.px)
    torch.testing.assert_close(logits, head(look.trunk(images).pooled), rtol=2e-2, atol=2e-2)
    assert labels.tolist() == data.labels[phase._rows[places]].tolist()


def test_release_gives_the_maps_back() -> None:
    phase = _phase(looking())
    phase.prepare(silent)
    assert phase._kept_maps.shape[0] == 48
    phase.release()
    assert phase._kept_maps.numel() == 0
