"""Trains all Transformers together behind frozen trunks.

Shapes: B batch, V views, N images.
"""

from math import ceil

import torch
from torch import Tensor

from models.reuse import ReuseState
from models.stage import Stage
from models.trunk import TrunkOutput
from weights.training.look_phase import look_of
from weights.training.phase import Phase, Report


class StagesPhase(Phase):
    """Trains all Transformers together behind trunks that stay as they are."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._use(self.recipe.stage_images)
        self.epochs, self.rate, self.name = self.recipe.epochs, self.recipe.learning_rate, "Transformers"
        self._looks = [look_of(self.cascade, stage) for stage in range(self.cascade.config.num_stages)]
        settled = {id(p) for look, head in self._looks for p in (*look.trunk.parameters(), *head.parameters())}
        self.parameters = [p for p in self.cascade.parameters() if p.requires_grad and id(p) not in settled]
        self._num_views = min(self.recipe.views, ceil(self.epochs))
        self._kept_looks: list[TrunkOutput] = []

    def prepare(self, report: Report) -> None:
        """Cache every trunk's output for all views."""
        kept: list[list[Tensor]] = []
        with torch.no_grad():
            for rows, images in self._views(self._num_views, report):
                for index, (look, _) in enumerate(self._looks):
                    maps, pooled = look.trunk(self._seen_at(images, look.px))
                    values = [*maps, pooled]
                    if rows.start == 0:
                        total = self._num_views * len(self._rows)
                        kept.append([torch.empty((total, *v.shape[1:]), dtype=torch.float16) for v in values])
                    for tensor, value in zip(kept[index], values, strict=True):
                        tensor[rows] = value.half()
        self._kept_looks = [TrunkOutput(values[:-1], values[-1]) for values in kept]

    def release(self) -> None:
        """See `Phase.release`."""
        self._kept_looks = []

    def logits(self, step: int) -> tuple[list[Tensor], Tensor]:
        """See `Phase.logits`; all exits."""
        epoch, places = self._batch(step)
        rows = self._kept(epoch, self._num_views, places)
        logits: list[Tensor] = []
        state: ReuseState | None = None
        for stage, (look, _), kept in zip(self.cascade.stages, self._looks, self._kept_looks, strict=True):
            assert isinstance(stage, Stage)
            seen = TrunkOutput([self._fetched(m, rows) for m in kept.maps], self._fetched(kept.pooled, rows))
            output = stage.classify(look.embed(seen), state)
            logits.append(output.logits)
            state = output.state
        return logits, self._labels(places)

    def _fetched(self, kept: Tensor, rows: Tensor) -> Tensor:
        return kept[rows].to(self._device).float()
