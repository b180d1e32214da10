from dataclasses import replace

import pytest
from cascades import randomised
from training import LOOKS, QUICK, SMALL, looking, phase_arguments

from models.cascade import Cascade
from weights.training.phases import phases_of
from weights.training.recipe import Recipe, RecipeError


def _names(cascade: Cascade, recipe: Recipe = QUICK) -> list[str]:
    return [phase.name for phase in phases_of(*phase_arguments(cascade, recipe))]


def test_phases_of_a_cascade_with_trunks_are_its_looks_then_the_transformers() -> None:
    assert _names(looking()) == ["look of 32 px", "look of 49 px", "look of 63 px", "Transformers"]
    assert _names(randomised(LOOKS.plain(3)), replace(QUICK, look_epochs=(1.0,))) == ["look of 49 px", "Transformers"]
    assert _names(looking(), replace(QUICK, look_epochs=())) == ["Transformers"]


def test_phases_of_a_cascade_without_trunks_is_one() -> None:
    cascade = randomised(SMALL)
    (phase,) = phases_of(*phase_arguments(cascade))
    assert (phase.name, phase.epochs, phase.rate) == ("cascade", QUICK.epochs, QUICK.learning_rate)
    assert len(phase.parameters) == len(list(cascade.parameters()))


def test_phases_of_only_a_trunk_that_starts_like_the_one_before_and_is_trained_goes_on_from_it() -> None:
    for epochs, starts in ((QUICK.look_epochs, [False, True, False]), ((1.0, 0.0, 0.0), [False] * 3)):
        phases = phases_of(*phase_arguments(looking(), replace(QUICK, look_epochs=epochs)))
        assert [phase._starts_from_last for phase in phases[:3]] == starts


def test_phases_of_a_recipe_for_other_looks_raises() -> None:
    with pytest.raises(RecipeError, match="look_epochs needs a number for each of the 3 looks"):
        _names(looking(), replace(QUICK, look_epochs=(1.0,)))
