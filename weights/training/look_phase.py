"""Fine-tunes one look: a stage's trunk with the classifier on its pooled features.

Shapes: B batch, V views, N images, C channels of a map, s its side, F features.
"""

from collections.abc import Callable
from functools import partial
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cascade import Cascade
from models.look import LookEmbedding
from models.stage import Stage
from models.trunk import TrunkOutput
from weights.data import LabelledImages
from weights.training.phase import PIECE, Phase, Report

_PROBE = 4  # a stream of random numbers
_PROBE_IMAGES = 10_000
_PROBE_STEPS, _PROBE_RATE, _PROBE_WEIGHT_DECAY = 300, 3e-3, 0.05


class LookPhase(Phase):
    """Fine-tunes one stage's trunk with the classifier on its pooled features."""

    def __init__(self, *args: object, stage: int, starts_from_last: bool) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._stage, self._starts_from_last = stage, starts_from_last
        self._look, self._head = look_of(self.cascade, stage)
        self._trunk = self._look.trunk
        epochs = self.recipe.look_epochs[stage]
        if 0 < epochs < 1:
            self._use(round(len(self._rows) * epochs))
        self.epochs = max(1.0, epochs) if epochs > 0 else 0.0
        self.name = f"look of {self._look.px} px"
        self.rate = self.recipe.look_rate
        frozen = self.recipe.frozen_blocks
        self.parameters = [*self._head.parameters(), *self._trunk.head.parameters()]
        self.parameters += [p for block in self._trunk.blocks[frozen:] for p in block.parameters()]
        self._num_views = min(self.recipe.views, ceil(self.epochs))
        self._kept_maps = torch.empty(0)

    def begin(self, report: Report) -> None:
        """Start from the weights of the look before, then fit the classifier."""
        if self._starts_from_last:
            last, _ = look_of(self.cascade, self._stage - 1)
            self._trunk.load_state_dict(last.trunk.state_dict())
        features = []
        # Files may be sorted by class: the first images would not contain all classes.
        order = np.random.default_rng((_PROBE, self.recipe.seed)).permutation(len(self._rows))
        places = np.sort(order[:_PROBE_IMAGES])
        with torch.no_grad():
            for start in range(0, len(places), PIECE):
                piece = places[start : start + PIECE]
                features.append(self._pooled(self._centre(self._data.images[self._rows[piece]])))
                report(f"{self.name}: features for the classifier", start + len(piece), len(places))
        fit_probe(
            self._head,
            torch.cat(features),
            self._labels(places),
            partial(report, f"{self.name}: fitting the classifier"),
        )

    def prepare(self, report: Report) -> None:
        """Cache the frozen blocks' maps of all views."""
        with torch.no_grad():
            for rows, images in self._views(self._num_views, report):
                maps = self._trunk.early(self._seen_at(images, self._look.px), self.recipe.frozen_blocks).half()
                if rows.start == 0:
                    shape = (self._num_views * len(self._rows), *maps.shape[1:])
                    self._kept_maps = torch.empty(shape, dtype=torch.float16, device=self._device)
                self._kept_maps[rows] = maps

    def release(self) -> None:
        """See `Phase.release`."""
        self._kept_maps = torch.empty(0)

    @torch.no_grad()
    def judge(self, data: LabelledImages, report: Report) -> list[float]:
        """See `Phase.judge`; the look's own classifier."""
        right = 0
        for start in range(0, len(data), PIECE):
            piece = data.images[start : start + PIECE]
            answers = self._head(self._pooled(self._centre(piece))).argmax(dim=1)
            right += int((answers.cpu() == torch.from_numpy(data.labels[start : start + PIECE])).sum())
            report(f"{self.name}: judging", start + len(piece), len(data))
        return [right / len(data)]

    def logits(self, step: int) -> tuple[list[Tensor], Tensor]:
        """See `Phase.logits`; one exit."""
        epoch, places = self._batch(step)
        maps = self._kept_maps[self._kept(epoch, self._num_views, places)].float()
        maps = maps.contiguous(memory_format=torch.channels_last)
        return [self._head(self._trunk.late(maps, self.recipe.frozen_blocks).pooled)], self._labels(places)

    def _pooled(self, pixels: Tensor) -> Tensor:
        seen: TrunkOutput = self._trunk(self._seen_at(pixels, self._look.px))
        return seen.pooled


def look_of(cascade: Cascade, stage: int) -> tuple[LookEmbedding, nn.Linear]:
    """A stage's embedding and the classifier on its pooled features, of a cascade whose stages look with trunks."""
    own = cascade.stages[stage]
    assert isinstance(own, Stage)
    assert isinstance(own.embedding, LookEmbedding)
    assert own.pooled_head is not None
    return own.embedding, own.pooled_head


@torch.enable_grad()
def fit_probe(head: nn.Linear, features_NF: Tensor, labels_N: Tensor, report: Callable[[int, int], None]) -> None:
    """Fit a linear classifier to fixed features: full-batch softmax regression, from zero.

    Args:
        report: receives after every step the number of steps done, and of how many.

    Shape: features [N, F], labels [N]
    """
    fitted = nn.Linear(head.in_features, head.out_features, device=features_NF.device)
    nn.init.zeros_(fitted.weight)
    nn.init.zeros_(fitted.bias)
    features_NF = features_NF.detach().float().clone()
    optimizer = torch.optim.AdamW(fitted.parameters(), lr=_PROBE_RATE, weight_decay=_PROBE_WEIGHT_DECAY)
    for step in range(_PROBE_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(fitted(features_NF), labels_N).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(step + 1, _PROBE_STEPS)
    head.load_state_dict(fitted.state_dict())
