"""One training run: steps, averaged weights, evaluation and exact resumption.

Everything random is drawn from generators seeded by (seed, epoch) or (seed, step), so the state of a run is its
weights, its optimiser and its step number: a resumed run repeats an uninterrupted one bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models.cascade import Cascade
from models.layers import Block
from models.stage import Stage
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing, normalise
from weights.training.augment import augment, erase, mix
from weights.training.optimizers import build_optimizers
from weights.training.recipe import Recipe

Tensors = tuple[Tensor, ...] | list[Tensor]

_ORDER, _AUGMENTATION = 0, 1  # streams of random numbers that must not coincide


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Attributes:
        loss: weighted sum of the exits' cross-entropies.
        exit_accuracy: share of the augmented batch each exit in training got right; see `share_right`.
    """

    step: int
    epoch: int
    loss: float
    exit_accuracy: tuple[float, ...]


class Trainer:
    """Trains one cascade on images held on its device."""

    def __init__(
        self,
        cascade: Cascade,
        data: LabelledImages,
        preprocessing: Preprocessing,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        if len(data) < recipe.batch_size:
            raise ValueError(f"{len(data)} training images do not fill one batch of {recipe.batch_size}")
        stages = cascade.config.num_stages
        if len(recipe.growth) >= stages:
            raise ValueError(f"growth {recipe.growth} is for a cascade of more stages than {stages}")
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.device = device
        self.cascade = cascade.to(device).train()
        set_drop_path(self.cascade, recipe.drop_path)
        self.averaged = AveragedModel(self.cascade, multi_avg_fn=self._average, use_buffers=True)
        self.optimizers = build_optimizers(self.cascade, recipe)
        self.images = torch.from_numpy(data.images).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        self.steps_per_epoch = len(data) // recipe.batch_size
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.step = 0

    def run(self) -> Iterator[StepReport]:
        """Train to the end, yielding after every step; stop iterating to interrupt."""
        while self.step < self.total_steps:
            yield self._train_step()

    @property
    def averaged_cascade(self) -> Cascade:
        """The averaged weights: what is evaluated and shipped."""
        module = self.averaged.module
        assert isinstance(module, Cascade)
        return module

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on."""
        return {
            "step": self.step,
            "cascade": self.cascade.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.step = state["step"]
        self.cascade.load_state_dict(state["cascade"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _train_step(self) -> StepReport:
        recipe, step = self.recipe, self.step
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((_ORDER, recipe.seed, epoch)).permutation(len(self.labels))
        rows = torch.from_numpy(order[position * recipe.batch_size : (position + 1) * recipe.batch_size])
        rows = rows.to(self.device)
        draw = int(np.random.default_rng((_AUGMENTATION, recipe.seed, step)).integers(2**63))
        generator = torch.Generator(self.device).manual_seed(draw)
        torch.manual_seed(draw)  # stochastic depth draws from the global generators
        images = augment(self.images[rows], self.preprocessing.crop_px, recipe.augmentation, generator)
        images = erase(self._normalised(images), recipe.augmentation, generator)
        targets = F.one_hot(self.labels[rows], self.cascade.config.num_classes).float()
        images, targets = mix(images, targets, recipe.augmentation, generator)

        phase = recipe.phase_at(epoch)
        begun = step - phase.start * self.steps_per_epoch
        falls = phase.stages is None
        rate = recipe.learning_rate_at(begun, phase.epochs * self.steps_per_epoch, falls=falls)
        with self._autocast():
            logits = [exit_logits.float() for exit_logits in self.cascade(images, phase.stages)]
        loss = exit_loss(logits, targets, recipe)
        self.cascade.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.cascade.parameters(), recipe.grad_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.averaged.update_parameters(self.cascade)
        self.step += 1

        with torch.no_grad():
            report = torch.cat([loss.detach()[None], share_right(logits, targets)]).tolist()
        if not np.isfinite(report[0]):
            raise FloatingPointError(f"the loss became {report[0]} at step {step}; try a lower learning rate")
        return StepReport(step, epoch, report[0], tuple(report[1:]))

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self.preprocessing.mean, self.preprocessing.std)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _average(self, averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        torch._foreach_lerp_(averaged, current, 1 - self.recipe.ema_decay_at(int(updates)))


def set_drop_path(cascade: Cascade, rate: float) -> None:
    """Let the rate of stochastic depth rise linearly from 0 at each stage's first block to `rate` at its last."""
    for stage in cascade.stages:
        assert isinstance(stage, Stage)
        for index, block in enumerate(stage.blocks):
            assert isinstance(block, Block)
            block.drop_path = rate * index / max(1, len(stage.blocks) - 1)


def share_right(logits: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Share of a batch each exit got right; of a mixed image, the class it has most of.

    Shape: logits one [B, K] per exit, targets [B, K] -> [E]
    """
    largest = targets.argmax(dim=1)
    return torch.stack([(exit_logits.argmax(dim=1) == largest).float().mean() for exit_logits in logits])


def exit_loss(logits: Sequence[Tensor], targets: Tensor, recipe: Recipe) -> Tensor:
    """Weighted cross-entropies of all exits, and of the earlier ones against the last when distilling.

    Shape: logits one [B, K] per exit, targets [B, K] -> []

    Source: the plain sum is arXiv 2105.15075, section 3.3; self-distillation of exits is arXiv 1905.08094.
    """
    weights = (recipe.exit_weights or (1.0,) * len(logits))[: len(logits)]
    loss = torch.zeros((), device=targets.device)
    for weight, exit_logits in zip(weights, logits, strict=True):
        loss = loss + weight * F.cross_entropy(exit_logits, targets, label_smoothing=recipe.label_smoothing)
    if recipe.distillation > 0:
        teacher = logits[-1].detach().softmax(dim=-1)
        for weight, exit_logits in zip(weights[:-1], logits[:-1], strict=True):
            loss = loss + weight * recipe.distillation * F.cross_entropy(exit_logits, teacher)
    return loss
