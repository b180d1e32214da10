from dataclasses import replace

import pytest
import torch
from torch import nn
from training import QUICK, STILL, changed, coloured, looking, phase_arguments, silent, snapshot

from models.cascade import Cascade
from weights.data import LabelledImages
from weights.training.look_phase import LookPhase, fit_probe, look_of
from weights.training.recipe import Recipe


def _phase(
    cascade: Cascade,
    stage: int = 0,
    recipe: Recipe = QUICK,
    data: LabelledImages | None = None,
    starts_from_last: bool = False,
) -> LookPhase:
    return LookPhase(*phase_arguments(cascade, recipe, data), stage, stage=stage, starts_from_last=starts_from_last)


def test_begin_classes_in_a_row_are_all_seen_by_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.training.look_phase._PROBE_IMAGES", 12)
    data = coloured(48)
    sorted_data = data.subset(data.labels.argsort(kind="stable"))
    phase = _phase(looking(), data=sorted_data)
    phase.begin(silent)
    assert phase.judge(sorted_data, silent)[0] > 0.6


@pytest.mark.usefixtures("quick_probes")
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


def test_logits_of_kept_maps_are_those_of_the_whole_trunk_until_they_are_released() -> None:
    data = coloured(16)
    phase = _phase(looking(), 2, replace(QUICK, augmentation=STILL), data)
    phase.prepare(silent)
    (logits,), labels = phase.logits(0)
    _, places = phase._batch(0)
    look, head = look_of(phase.cascade, 2)
    images = phase._seen_at(torch.from_numpy(data.images[phase._rows[places]]), look.px)
    torch.testing.assert_close(logits, head(look.trunk(images).pooled), rtol=2e-2, atol=2e-2)
    assert labels.tolist() == data.labels[phase._rows[places]].tolist()
    phase.release()
    assert phase._kept_maps.numel() == 0


def test_fit_probe_separable_features_are_told_apart_whatever_the_head_was() -> None:
    labels = torch.arange(90) % 3
    noise = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    features, head, steps = noise + 6 * torch.eye(3, 6)[labels], nn.Linear(6, 3), []
    nn.init.constant_(head.weight, 50.0)
    with torch.no_grad():
        fit_probe(head, features, labels, lambda done, total: steps.append((done, total)))
    assert (head(features).argmax(dim=1) == labels).float().mean() > 0.97
    assert head.weight.abs().max() < 10
    assert steps[-1] == (len(steps), len(steps))
