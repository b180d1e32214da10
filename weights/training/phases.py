"""What a training run consists of: the looks one after the other, then the Transformers; or a whole model at once."""

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
    """Trains a cascade without trunks, all of it at once."""

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
    """What a run consists of, in order.

    Args:
        rows: of the data, to train on.

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
    # Its number, which its random numbers hang on, is the same where the looks were tuned in a run before.
    return [*phases, StagesPhase(*common, cascade.config.num_stages)]


def _same_trunk(cascade: Cascade, stage: int) -> bool:
    """Whether a stage's trunk starts as that of the stage before: what one learns is then a start for the other."""
    mine, last = (look_of(cascade, index)[0].trunk.state_dict() for index in (stage, stage - 1))
    return mine.keys() == last.keys() and all(
        value.shape == last[key].shape and torch.equal(value, last[key]) for key, value in mine.items()
    )
