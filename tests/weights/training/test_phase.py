from dataclasses import replace

import numpy as np
import pytest
import torch
from cascades import randomised
from training import QUICK, SMALL, STILL, coloured, phase_arguments, silent

from weights.training.augment import Augmentation
from weights.training.phase import Phase
from weights.training.phases import WholePhase
from weights.training.recipe import Recipe


def _phase(recipe: Recipe = QUICK, count: int = 24) -> Phase:
    return WholePhase(*phase_arguments(randomised(SMALL), recipe, coloured(count, side=28)), 0)


def test_batch_an_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    phase = _phase()
    assert phase.steps_per_epoch == 3
    epochs = [[phase._batch(step) for step in range(first, first + 3)] for first in (0, 3)]
    orders = [np.concatenate([places for _, places in batches]) for batches in epochs]
    assert [[epoch for epoch, _ in batches] for batches in epochs] == [[0] * 3, [1] * 3]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert list(orders[0]) != list(orders[1])


@pytest.mark.parametrize(("count", "epochs", "batch_size", "steps"), [(20, 2.0, 8, 4), (5, 3.0, 5, 3), (24, 0.5, 8, 2)])
def test_total_steps_are_full_batches_of_the_epochs(count: int, epochs: float, batch_size: int, steps: int) -> None:
    phase = _phase(replace(QUICK, epochs=epochs), count)
    assert phase.batch_size == batch_size
    assert phase.total_steps == steps


def test_views_are_all_images_in_pieces_augmented_otherwise_each_time_and_reported() -> None:
    recipe, reported = replace(QUICK, augmentation=Augmentation(padding_px=8)), []
    views = list(_phase(recipe, 70)._views(2, lambda what, done, total: reported.append(done)))
    assert [len(images) for _, images in views] == [32, 32, 6] * 2
    assert np.concatenate([np.arange(rows.start, rows.stop) for rows, _ in views]).tolist() == list(range(140))
    assert reported == [32, 64, 70, 102, 134, 140]
    assert views[0][1].dtype == torch.uint8
    assert not torch.equal(views[0][1], views[3][1])
    again = list(_phase(recipe, 70)._views(2, silent))
    assert all(torch.equal(mine, other) for (_, mine), (_, other) in zip(views, again, strict=True))
    phase = _phase(replace(QUICK, augmentation=STILL), 70)
    seen = torch.cat([images for _, images in phase._views(1, silent)])
    assert np.array_equal(seen.numpy(), phase._data.images)
