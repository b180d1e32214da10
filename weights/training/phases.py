"""The phases of a training run: the looks one by one, then the Transformers; without trunks, a single phase."""

import torch
from torch import Tensor

from models.cascade import Cascade
from models.config import TrunkEmbeddingConfig
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing
from weights.training.look_phase import LookPhase, look_of
from weights.training.phase import Phase, Places
from weights.training.recipe import Recipe
from weights.training.stages_phase import StagesPhase


class WholePhase(Phase):
    """Trains a whole cascade without trunks."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.epochs, self.rate, self.name = self.recipe.epochs, self.recipe.learning_rate, "cascade"
        self.parameters = [p for p in self.cascade.parameters() if p.requires_grad]

    def logits(self, step: int) -> tuple[list[Tensor], Tensor]:
        """See `Phase.logits`; all exits."""
        _, places = self._batch(step)
        images = self._seen_at(self._augmented(places, step), self._preprocessing.crop_px)
        return self.cascade(images), self._labels(places)


def phases_of(
    cascade: Cascade, data: LabelledImages, rows: Places, preprocessing: Preprocessing, recipe: Recipe
) -> list[Phase]:
    """The phases of a run, in order.

    Args:
        rows: row numbers of the images to train on.

    Raises:
        RecipeError: when the recipe does not fit the cascade.
    """
    common = (cascade, data, rows, preprocessing, recipe)
    embedding = cascade.config.embedding
    if not isinstance(embedding, TrunkEmbeddingConfig):
        return [WholePhase(*common, 0)]
    recipe.check_looks(embedding)
    phases: list[Phase] = []
    for stage in range(len(recipe.look_epochs)):
        goes_on = stage > 0 and recipe.look_epochs[stage] > 0 and _same_trunk(cascade, stage)
        phases.append(LookPhase(*common, stage, stage=stage, starts_from_last=goes_on))
    # The number seeds its random numbers: it must not depend on whether an earlier run tuned the looks.
    return [*phases, StagesPhase(*common, cascade.config.num_stages)]


def _same_trunk(cascade: Cascade, stage: int) -> bool:
    """Whether a stage's trunk equals that of the stage before, so that the tuned weights can be carried over."""
    mine, last = (look_of(cascade, index)[0].trunk.state_dict() for index in (stage, stage - 1))
    return mine.keys() == last.keys() and all(
        value.shape == last[key].shape and torch.equal(value, last[key]) for key, value in mine.items()
    )
