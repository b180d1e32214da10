from dataclasses import replace
from itertools import pairwise

import pytest
from cascades import TINY

from models.config import VARIANTS
from weights.training.recipe import Recipe, RecipeError, recipe_for

LOOKS_224 = VARIANTS["looks_224"]


def test_rate_at_rises_linearly_then_falls_to_zero() -> None:
    recipe = Recipe(warmup_fraction=0.1)
    rates = [recipe.rate_at(step, 100, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_with_values_texts_become_numbers_of_the_recipe_and_its_augmentation() -> None:
    texts = {"epochs": "5", "look_epochs": "2,1,0.5,0", "batch_size": "32", "flip": "no", "min_scale": "0.5"}
    recipe = Recipe().with_values(texts)
    assert (recipe.epochs, recipe.look_epochs, recipe.batch_size) == (5.0, (2.0, 1.0, 0.5, 0.0), 32)
    assert (recipe.augmentation.flip, recipe.augmentation.min_scale) == (False, 0.5)
    assert replace(recipe, epochs=10.0, look_epochs=(), batch_size=64, augmentation=Recipe().augmentation) == Recipe()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("speed", "1", r"a recipe has no 'speed'; it has look_epochs, .*, min_scale"),
        ("epochs", "many", r"epochs must be a value such as 10\.0, got 'many'"),
        ("epochs", "0", r"epochs must be positive, got 0\.0"),
        ("epochs", "nan", r"epochs must be finite, got nan"),
        ("flip", "perhaps", r"flip must be a value such as True, got 'perhaps'"),
        ("look_epochs", "2;1", r"look_epochs must be numbers with commas between, got '2;1'"),
        ("look_epochs", "2,-1", r"look_epochs must not be negative, got \(2\.0, -1\.0\)"),
        ("drop_path", "1", r"drop_path must be in \[0, 1\), got 1\.0"),
        ("frozen_blocks", "-1", r"frozen_blocks must not be negative"),
        ("colour", "2", r"colour must be in \[0, 1\], got 2\.0"),
    ],
)
def test_with_values_wrong_raises_naming_value_and_rule(name: str, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe().with_values({name: text})


def test_recipe_for_few_images_sees_each_more_often_in_smaller_batches() -> None:
    few, many = recipe_for(LOOKS_224, 40, 200), recipe_for(LOOKS_224, 1_000_000, 200)
    assert all(a > b > 0 for a, b in zip(few.look_epochs[:2], many.look_epochs[:2], strict=True))
    assert all(a >= b for recipe in (few, many) for a, b in pairwise(recipe.look_epochs))
    assert 1_000_000 * sum(many.look_epochs) < 200_000
    assert few.epochs > many.epochs
    assert few.batch_size == 8 < many.batch_size
    few, many = recipe_for(TINY, 100, 32), recipe_for(TINY, 1_000_000, 32)
    assert few.look_epochs == many.look_epochs == ()
    assert few.epochs > many.epochs >= 20


def test_recipe_for_photographs_cuts_them_and_leaves_large_looks_and_for_small_images_shifts_them() -> None:
    small, large = (recipe_for(LOOKS_224, 4_000, px, seed=7) for px in (32, 300))
    assert large.look_epochs[2:] == (0.0, 0.0)
    assert min(small.look_epochs) > 0
    assert (small.augmentation.padding_px, small.augmentation.min_scale) == (28, 1.0)
    assert (large.augmentation.padding_px, large.augmentation.min_scale) == (0, 0.4)
    assert small.seed == large.seed == 7
