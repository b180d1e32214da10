from dataclasses import replace

import torch
from training import QUICK, STILL, coloured, looking, phase_arguments, silent

from models.trunk import TrunkOutput
from weights.training.stages_phase import StagesPhase


def test_logits_of_kept_looks_are_those_of_the_cascade() -> None:
    data = coloured(16)
    recipe = replace(QUICK, augmentation=STILL, views=1)
    phase = StagesPhase(*phase_arguments(looking(), recipe, data), 0)
    phase.prepare(silent)
    logits, labels = phase.logits(1)
    _, places = phase._batch(1)
    state = None
    for mine, stage in zip(logits, phase.cascade.stages, strict=True):
        maps, pooled = stage.embedding.trunk(phase._seen_at(torch.from_numpy(data.images[places]), stage.embedding.px))
        seen = TrunkOutput([each.half().float() for each in maps], pooled.half().float())
        output = stage.classify(stage.embedding.embed(seen), state)
        torch.testing.assert_close(mine, output.logits, rtol=1e-2, atol=2e-2)
        state = output.state
    assert labels.tolist() == data.labels[places].tolist()


def test_stage_images_limit_what_is_kept() -> None:
    phase = StagesPhase(*phase_arguments(looking(), replace(QUICK, stage_images=10)), 0)
    phase.prepare(silent)
    assert [len(kept.pooled) for kept in phase._kept_looks] == [20, 20, 20]
    assert phase.total_steps == 2
    phase.release()
    assert phase._kept_looks == []
