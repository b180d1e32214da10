"""Steps of a training run through its phases, with exact resumption.

Random generators are seeded by the recipe's seed and the step, so the state of a run is its weights, its optimiser and
its step. A resumed run equals an uninterrupted one bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cascade import Cascade
from models.layers import Block
from models.stage import Stage
from weights.data import LabelledImages
from weights.preprocessing import Preprocessing
from weights.training.phase import Phase, Places, Report
from weights.training.phases import phases_of
from weights.training.recipe import Recipe

_DROP_PATH = 3  # seed of a random stream; the phases have others


@dataclass(frozen=True, slots=True)
class StepReport:
    """The result of one step.

    Attributes:
        phase: its number.
        step: number of steps done in this phase.
        loss: sum of the cross-entropies of the trained exits.
        exit_accuracy: accuracy of each trained exit on the augmented batch.
        images: size of the batch.
    """

    phase: int
    step: int
    loss: float
    exit_accuracy: tuple[float, ...]
    images: int


class Trainer:
    """Trains one cascade, phase by phase.

    Args:
        rows: row numbers of the images to train on.
        report: receives the progress of preparations. An exception it raises ends `run`; the run can continue,
            and repeats the interrupted preparation.

    Raises:
        RecipeError: when the recipe does not fit the cascade.
    """

    def __init__(
        self,
        cascade: Cascade,
        data: LabelledImages,
        rows: Places,
        preprocessing: Preprocessing,
        recipe: Recipe,
        device: torch.device,
        report: Report,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.cascade = cascade.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        set_drop_path(self.cascade, recipe.drop_path)
        self.phases = phases_of(self.cascade, data, rows, preprocessing, recipe)
        self.phase, self.step = 0, 0
        self._report = report
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def current(self) -> Phase:
        """The current phase."""
        return self.phases[self.phase]

    @property
    def finished(self) -> bool:
        """Whether all phases are complete."""
        return self.phase == len(self.phases)

    def run(self) -> Iterator[StepReport]:
        """Train to the end, yielding after every step; stop iterating to interrupt."""
        while not self.finished:
            phase = self.current
            # The optimiser is created after `begin`, so without one `begin` must run (again).
            if self._optimizer is None:
                phase.begin(self._report)
                self._optimizer = self._new_optimizer(phase)
            if phase.total_steps == 0:
                self.phase, self._optimizer = self.phase + 1, None
                continue
            phase.prepare(self._report)
            for _ in range(self.step, phase.total_steps):
                report = self._train_step(phase)
                if self.step == phase.total_steps:
                    phase.release()
                    self.phase, self.step, self._optimizer = self.phase + 1, 0, None
                yield report

    def state_dict(self) -> dict[str, Any]:
        """The state that a run needs to continue."""
        return {
            "phase": self.phase,
            "step": self.step,
            "cascade": self.cascade.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a trainer with the same arguments; this one has not run yet."""
        self.phase, self.step = state["phase"], state["step"]
        self.cascade.load_state_dict(state["cascade"])
        if state["optimizer"] is not None:
            self._optimizer = self._new_optimizer(self.current)
            self._optimizer.load_state_dict(state["optimizer"])

    def _new_optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        matrices = [p for p in phase.parameters if p.ndim >= 2 and p.shape[0] > 1]
        rest = [p for p in phase.parameters if not (p.ndim >= 2 and p.shape[0] > 1)]
        groups = [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=phase.rate)

    def _train_step(self, phase: Phase) -> StepReport:
        assert self._optimizer is not None
        step = self.step
        # Stochastic depth uses the global generators.
        torch.manual_seed(int(np.random.default_rng((_DROP_PATH, self.recipe.seed, self.phase, step)).integers(2**63)))
        for parameter in self.cascade.parameters():
            parameter.grad = None
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            logits, labels = phase.logits(step)
        logits = [exit_logits.float() for exit_logits in logits]
        loss = exit_loss(logits, labels)
        loss.backward(inputs=phase.parameters)  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(phase.parameters, self.recipe.grad_clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(step, phase.total_steps, phase.rate)
        self._optimizer.step()
        self.step += 1
        with torch.no_grad():
            right = torch.stack([(exit_logits.argmax(dim=1) == labels).float().mean() for exit_logits in logits])
            values = torch.cat([loss.detach()[None], right]).tolist()
        if not np.isfinite(values[0]):
            raise FloatingPointError(
                f"{phase.name}: the loss became {values[0]} at step {step + 1}; try a smaller "
                "--recipe look_rate or learning_rate"
            )
        return StepReport(self.phase, self.step, values[0], tuple(values[1:]), len(labels))


def set_drop_path(cascade: Cascade, rate: float) -> None:
    """Let the rate of stochastic depth rise linearly from 0 at each stage's first block to `rate` at its last."""
    for stage in cascade.stages:
        assert isinstance(stage, Stage)
        for index, block in enumerate(stage.blocks):
            assert isinstance(block, Block)
            block.drop_path = rate * index / max(1, len(stage.blocks) - 1)


def exit_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Sum of the exits' cross-entropies.

    Shape: logits one [B, K] per exit, labels [B] -> []

    Source: arXiv 2105.15075, section 3.3.
    """
    return torch.stack([F.cross_entropy(exit_logits, labels) for exit_logits in logits]).sum()
