"""The cascade: stages of growing grids over one set of classes, run one at a time or all at once.

Shapes: B batch, S image side in pixels, K classes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.config import CascadeConfig
from models.embedding import build_deepening, build_stem, sinusoid_positions
from models.layers import FoldableConv
from models.reuse import ReuseState
from models.stage import Stage, StageOutput
from models.t2t import PerformerLayer


class Cascade(nn.Module):
    """A cascade of Vision Transformers with an exit after every stage.

    Source: arXiv 2105.15075. Deviation: the early exit is real. `forward_stage` runs one stage for the images that
    need it and returns what the next one reuses as a value; nothing of a later stage is computed before that.
    """

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = build_stem(config)
        self.deepening = build_deepening(config)
        self.stages = nn.ModuleList(Stage(config, index) for index in range(config.num_stages))
        self.apply(_initialise)

    def reads_images(self, stage: int) -> bool:
        """Whether a stage reads the images in addition to the state of the stage before."""
        return self.stem is None or stage == 0

    def forward_stage(self, stage: int, images: Tensor | None, state: ReuseState | None = None) -> StageOutput:
        """Run one stage for a batch.

        Args:
            images: normalised images, at full size or already at the stage's own `config.side_px(stage)`; may be None
                where `reads_images(stage)` is false.
            state: the state the stage before returned for the same rows; None for stage 0.

        Shape: images [B, 3, S, S] -> logits [B, K]

        Raises:
            ValueError: when the images, the state or a part of it are missing, or the images' shape is wrong.
            IndexError: when there is no such stage.
        """
        if not 0 <= stage < self.config.num_stages:
            raise IndexError(f"stage {stage} is not one of the {self.config.num_stages} stages")
        if self.reads_images(stage):
            source = self._checked(images, stage)
            if self.stem is not None:
                source = self.stem(source)
        else:
            if state is None or state.feature_map is None:
                raise ValueError(f"stage {stage} reads the stem's feature map, and no state with one was given")
            source = state.feature_map
        if self.stem is not None:
            source = self.deepening[stage](source)
        output: StageOutput = self.stages[stage](source, state)
        if output.state is not None and self.stem is not None:
            return StageOutput(output.logits, replace(output.state, feature_map=source))
        return output

    def forward(self, images: Tensor, stages: int | None = None) -> list[Tensor]:
        """Run all stages, or the first `stages`, on all images, as training does.

        Shape: [B, 3, S, S] -> one [B, K] per exit
        """
        logits, state = [], None
        for stage in range(self.config.num_stages if stages is None else stages):
            output = self.forward_stage(stage, images, state)
            logits.append(output.logits)
            state = output.state
        return logits

    def fold_batch_norms(self) -> None:
        """Merge batch norms into their convolutions, in place. For inference: the model must be in eval mode.

        Raises:
            RuntimeError: in training mode, where the statistics still change.
        """
        if self.training:
            raise RuntimeError("fold_batch_norms needs eval mode")
        for module in self.modules():
            if isinstance(module, FoldableConv):
                module.fold()

    def _checked(self, images: Tensor | None, stage: int) -> Tensor:
        full, own = self.config.image_size, self.config.side_px(stage)
        if images is None or tuple(images.shape[1:]) not in ((3, full, full), (3, own, own)):
            found = None if images is None else tuple(images.shape)
            sides = f"[B, 3, {full}, {full}]" + (f" or [B, 3, {own}, {own}]" if own != full else "")
            raise ValueError(f"expected images of shape {sides}, got {found}")
        return images


def _initialise(module: nn.Module) -> None:
    """Truncated normal with std 0.02 for linear layers and tokens, zero biases; convolutions keep torch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Stage):
        nn.init.trunc_normal_(module.cls_token, std=0.02)
        if module.pos_embed.requires_grad:
            nn.init.trunc_normal_(module.pos_embed, std=0.02)
        else:
            with torch.no_grad():
                module.pos_embed.copy_(sinusoid_positions(*module.pos_embed.shape[1:]))
        if module.pooled_head is not None:
            # The Transformer's part of the logits starts at zero, so a new stage is as accurate as its trunk.
            nn.init.zeros_(module.head.weight)
        if module.relation_reuse is not None:
            # The reused bias starts at zero, so a new stage computes what a plain ViT does.
            nn.init.zeros_(module.relation_reuse.fc2.weight)
            assert module.relation_reuse.fc2.bias is not None
            nn.init.zeros_(module.relation_reuse.fc2.bias)
    elif isinstance(module, PerformerLayer):
        nn.init.orthogonal_(module.w, gain=module.w.shape[0] ** 0.5)
