from dataclasses import replace

import numpy as np
import pytest
import torch
from cascades import TINY_CONFIGS, randomised

from models.cascade import Cascade
from weights.calibration.calibrate import calibrate_and_judge, held_out_logits
from weights.calibration.logit_reuse import fit_shares, set_shares, shares_of, with_shares
from weights.calibration.table import negative_log_likelihood
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing

CONFIG = TINY_CONFIGS["looks"]


def noisy_exits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two exits that are equally good and err independently, of five classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, count)
    logits = generator.normal(size=(2, count, 5)) + 1.5 * np.eye(5)[labels]
    return logits, labels


def test_fit_shares_independent_exits_add_up_and_are_better_together() -> None:
    logits, labels = noisy_exits(1_000)
    shares, mixed = fit_shares(logits, labels, (0.0, 0.0))
    assert shares[1] == pytest.approx(1.0, abs=0.15)
    assert negative_log_likelihood(mixed[1], labels, 1.0) < negative_log_likelihood(logits[1], labels, 1.0) - 0.1


def test_fit_shares_exit_that_knows_nothing_gets_nothing() -> None:
    logits, labels = noisy_exits(1_000)
    logits[0] = np.random.default_rng(1).normal(size=logits[0].shape)
    assert fit_shares(logits, labels, (0.0, 0.0))[0] == (0.0, 0.0)


def test_fit_shares_of_few_images_stay_near_the_usual_one() -> None:
    logits, labels = noisy_exits(3)
    assert fit_shares(logits, labels, (0.0, 0.0))[0][1] == pytest.approx(0.4, abs=0.2)


def _logits(cascade: Cascade, images: torch.Tensor) -> np.ndarray:
    data = LabelledImages(images.numpy(), np.zeros(len(images), dtype=np.int64), ("a",))
    side = cascade.config.image_size
    return held_out_logits(cascade, data, Preprocessing(resize_px=side, crop_px=side))


def test_with_shares_are_the_logits_the_cascade_computes_with_them() -> None:
    cascade = randomised(CONFIG)
    images = torch.randint(0, 256, (6, 3, 63, 63), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    old, new = shares_of(cascade), (0.0, 0.25, 0.75)
    assert old[0] == 0.0
    assert old[1] != 0.0
    expected = with_shares(_logits(cascade, images), old, new)
    set_shares(cascade, new)
    assert shares_of(cascade) == new
    np.testing.assert_allclose(_logits(cascade, images), expected, atol=1e-4)


def test_calibrate_and_judge_sets_the_shares_only_where_logits_are_reused() -> None:
    logits, labels = noisy_exits(200)
    logits = np.concatenate([logits, logits[:1]])
    for reuse in (True, False):
        cascade = Cascade(replace(CONFIG, logit_reuse=reuse))
        fitted, judged = calibrate_and_judge(cascade, (logits, labels), (logits, labels))
        assert (max(shares_of(cascade)) > 0) == reuse
        assert len(fitted.temperatures) == len(judged.exit_accuracy) == 3
