from itertools import pairwise

import pytest

from weights.training.recipe import Phase, Recipe

RECIPE = Recipe(epochs=2, learning_rate=1.0, min_learning_rate=0.1, warmup_fraction=0.1, ema_decay=0.99)


def test_learning_rate_at_rises_linearly_then_falls_to_the_minimum() -> None:
    rates = [RECIPE.learning_rate_at(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_learning_rate_at_where_it_does_not_fall_stays_at_its_peak() -> None:
    rates = [RECIPE.learning_rate_at(step, 100, falls=False) for step in range(100)]
    assert rates[:9] == [RECIPE.learning_rate_at(step, 100) for step in range(9)]
    assert set(rates[9:]) == {1.0}


def test_ema_decay_at_starts_small_and_reaches_its_limit() -> None:
    assert RECIPE.ema_decay_at(0) == pytest.approx(0.1)
    assert RECIPE.ema_decay_at(10_000) == 0.99


def test_phase_at_every_epoch_names_the_stages_in_training() -> None:
    recipe = Recipe(epochs=6, growth=(2, 0, 1))
    phases = [recipe.phase_at(epoch) for epoch in range(6)]
    assert phases == [Phase(1, 0, 2)] * 2 + [Phase(3, 2, 1)] + [Phase(None, 3, 3)] * 3
    assert Recipe(epochs=2).phase_at(1) == Phase(None, 0, 2)


@pytest.mark.parametrize("growth", [(2,), (1, 1), (3, -2)])
def test_recipe_growth_without_an_epoch_for_all_stages_raises(growth: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"growth \(.*\) must leave some of the 2 epochs"):
        Recipe(epochs=2, growth=growth)


def test_recipe_unknown_optimizer_raises() -> None:
    with pytest.raises(ValueError, match="must be adamw or muon, got 'sgd'"):
        Recipe(epochs=1, optimizer="sgd")  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": -1}, {"label_smoothing": 1.0}, {"grad_clip": 0.0}])
def test_recipe_out_of_range_raises_naming_value(changes: dict[str, float]) -> None:
    (name, value), *_ = changes.items()
    with pytest.raises(ValueError, match=f"{name} must be .*got {value}"):
        Recipe(**{"epochs": 1, **changes})
