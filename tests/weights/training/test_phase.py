from dataclasses import replace

import numpy as np
import pytest
import torch
from cascades import TINY, randomised
from training import QUICK, coloured, phase_arguments, silent

from weights.training.augment import Augmentation
from weights.training.phase import Phase
from weights.training.phases import WholePhase
from weights.training.recipe import Recipe

CONFIG = replace(TINY, num_classes=2)


def _phase(recipe: Recipe = QUICK, count: int = 24) -> Phase:
    return WholePhase(*phase_arguments(randomised(CONFIG), recipe, coloured(count, side=28)), 0)


def test_batch_an_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    phase = _phase()
    assert phase.steps_per_epoch == 3
    epochs = [[phase._batch(step) for step in range(first, first + 3)] for first in (0, 3)]
    orders = [np.concatenate([places for _, places in batches]) for batches in epochs]
    assert [[epoch for epoch, _ in batches] for batches in epochs] == [[0] * 3, [1] * 3]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert list(orders[0]) != list(orders[1])


@pytest.mark.parametrize(
    ("count", "epochs", "batch_size", "steps"), [(24, 2.0, 8, 6), (20, 2.0, 8, 4), (5, 3.0, 5, 3), (24, 0.5, 8, 2)]
)
def test_total_steps_are_full_batches_of_the_epochs(count: int, epochs: float, batch_size: int, steps: int) -> None:
    phase = _phase(replace(QUICK, epochs=epochs), count)
    assert phase.batch_size == batch_size
    assert phase.total_steps == steps


def test_views_are_all_images_augmented_otherwise_each_time() -> None:
    recipe = replace(QUICK, augmentation=Augmentation(padding_px=8))
    views, again = (list(_phase(recipe)._views(2, silent)) for _ in range(2))
    assert [rows for rows, _ in views] == [slice(0, 24), slice(24, 48)]
    assert views[0][1].dtype == torch.uint8
    assert not torch.equal(views[0][1], views[1][1])
    assert all(torch.equal(mine, other) for (_, mine), (_, other) in zip(views, again, strict=True))


def test_views_come_in_pieces_that_fill_what_is_kept_and_are_reported() -> None:
    reported: list[int] = []
    phase = _phase(replace(QUICK, augmentation=Augmentation(flip=False)), count=70)
    views = list(phase._views(2, lambda what, done, total: reported.append(done)))
    assert [len(images) for _, images in views] == [32, 32, 6] * 2
    assert np.concatenate([np.arange(rows.start, rows.stop) for rows, _ in views]).tolist() == list(range(140))
    seen = torch.cat([images for _, images in views[:3]]).numpy()
    assert np.array_equal(seen, phase._data.images[:, :, : seen.shape[2], : seen.shape[3]])
    assert reported == [32, 64, 70, 102, 134, 140]
