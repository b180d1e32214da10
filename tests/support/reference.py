"""The same model written a second time, plainly: every bias as an [N, N] tensor, resampling by repeat and pooling.

It reads a state dict and a configuration and shares no code with the models package but the configuration.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import (
    CascadeConfig,
    HybridEmbeddingConfig,
    LookConfig,
    TokensToTokenConfig,
    TrunkEmbeddingConfig,
)


@dataclass
class ReferenceStage:
    """`steps` are intermediates on the way, by name and, where there is one for each, layer."""

    logits: Tensor
    tokens: Tensor
    relations: Tensor
    biases: Tensor | None
    steps: dict[str, Tensor] = field(default_factory=dict)


def resample_cells(cells: Tensor, source: int, target: int) -> Tensor:
    """[..., source², C] -> [..., target², C] by repeating each cell 2x2 and adaptive average pooling."""
    lead, channels = cells.shape[:-2], cells.shape[-1]
    maps = cells.reshape(-1, source, source, channels).permute(0, 3, 1, 2)
    doubled = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    pooled = F.adaptive_avg_pool2d(doubled, target)
    return pooled.permute(0, 2, 3, 1).reshape(*lead, target * target, channels)


def resample_tokens(tokens: Tensor, source: int, target: int) -> Tensor:
    """[..., source² + 1, C] -> [..., target² + 1, C], the first token carried over."""
    return torch.cat([tokens[..., :1, :], resample_cells(tokens[..., 1:, :], source, target)], dim=-2)


def reference_forward(state: dict[str, Tensor], config: CascadeConfig, images: Tensor) -> list[ReferenceStage]:
    """All stages on all images."""
    source = images
    if isinstance(config.embedding, HybridEmbeddingConfig):
        source = _stem(state, config.embedding, images)
    stages: list[ReferenceStage] = []
    for index, grid in enumerate(config.grids):
        if isinstance(config.embedding, HybridEmbeddingConfig):
            source = _deepened(state, config.embedding, index, source)
        weights = {key.removeprefix(f"stages.{index}."): value for key, value in state.items()}
        upstream = stages[-1] if stages else None
        stages.append(_stage(weights, config, index, grid, source, upstream))
    return stages


def _stem(state: dict[str, Tensor], embedding: HybridEmbeddingConfig, x: Tensor) -> Tensor:
    layer = 0
    for index, stride in enumerate(embedding.strides):
        x = _gelu(_conv_norm(state, f"stem.{layer}.", x, stride))
        layer += 1
        for _ in range(embedding.blocks[index] if embedding.blocks else 0):
            x = _residual(state, f"stem.{layer}.", x)
            layer += 1
    return x


def _deepened(state: dict[str, Tensor], embedding: HybridEmbeddingConfig, stage: int, x: Tensor) -> Tensor:
    batch, channels, side, _ = x.shape
    u = embedding.unshuffle
    squares = x.view(batch, channels, side // u, u, side // u, u).permute(0, 3, 5, 1, 2, 4)
    cells = squares.reshape(batch, u * u * channels, side // u, side // u)
    for block in range(embedding.deepened_by(stage)):
        cells = _residual(state, f"deepening.{stage}.{block}.", cells)
    squares = cells.view(batch, u, u, channels, side // u, side // u).permute(0, 3, 4, 1, 5, 2)
    return squares.reshape(batch, channels, side, side)


def _residual(state: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    inner = _gelu(_conv_norm(state, f"{at}first.", x, 1))
    return _gelu(x + _conv_norm(state, f"{at}second.", inner, 1))


def _conv_norm(state: dict[str, Tensor], at: str, x: Tensor, stride: int) -> Tensor:
    x = F.conv2d(x, state[f"{at}conv.weight"], stride=stride, padding=1)
    mean, var = state[f"{at}norm.running_mean"], state[f"{at}norm.running_var"]
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x * state[f"{at}norm.weight"][:, None, None] + state[f"{at}norm.bias"][:, None, None]


def _patches(w: dict[str, Tensor], source: Tensor, grid: int, image: bool) -> Tensor:
    side, kernel = source.shape[-1], w["embedding.proj.weight"].shape[-1]
    if image:
        stride, padding = -(-side // grid), (-(-side // grid) * grid - side) // 2
    else:
        stride, padding = side // grid, 0
    patches = F.unfold(source, kernel, stride=stride, padding=padding).transpose(1, 2)
    return patches @ w["embedding.proj.weight"].flatten(1).T + w["embedding.proj.bias"]


def _tokens_to_token(
    w: dict[str, Tensor], embedding: TokensToTokenConfig, images: Tensor, grid: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    kernel, stride, padding = next(split[1:] for split in embedding.first_splits if split[0] == grid)
    first = _performer(w, "embedding.attention1", _gathered(images, kernel, stride, padding), eps)
    second = _performer(w, "embedding.attention2", _gathered(_as_map(first), 3, 2, 1), eps)
    return first, second, _linear(w, "embedding.project", _gathered(_as_map(second), 3, 2, 1))


def _gathered(maps: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Zero-padded patches by explicit indices: [B, C, side, side] -> [B, T, C x kernel x kernel]."""
    padded = F.pad(maps, (padding,) * 4)
    places = torch.arange((padded.shape[-1] - kernel) // stride + 1) * stride
    pixels = (places[:, None] + torch.arange(kernel)).flatten()
    windows = padded[:, :, pixels][:, :, :, pixels]
    count = len(places)
    windows = windows.reshape(len(maps), -1, count, kernel, count, kernel)
    return windows.permute(0, 2, 4, 1, 3, 5).reshape(len(maps), count * count, -1)


def _as_map(tokens: Tensor) -> Tensor:
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def _performer(w: dict[str, Tensor], at: str, x: Tensor, eps: float) -> Tensor:
    """With the whole [T, T] kernel matrix, one image at a time."""
    kqv = _linear(w, f"{at}.kqv", _norm(w, f"{at}.norm1", x, eps))
    outputs = []
    for k, q, v in zip(*kqv.chunk(3, dim=-1), strict=True):
        kernel = _random_features(q, w[f"{at}.w"]) @ _random_features(k, w[f"{at}.w"]).T
        y = v + _linear(w, f"{at}.proj", kernel @ v / (kernel.sum(dim=1, keepdim=True) + 1e-8))
        z = _gelu(_linear(w, f"{at}.mlp.fc1", _norm(w, f"{at}.norm2", y, eps)))
        outputs.append(y + _linear(w, f"{at}.mlp.fc2", z))
    return torch.stack(outputs)


def _random_features(x: Tensor, w: Tensor) -> Tensor:
    return torch.exp(x @ w.T - (x * x).sum(dim=1, keepdim=True) / 2) / len(w) ** 0.5


def reduced(images: Tensor, px: int) -> Tensor:
    """[B, C, S, S] -> [B, C, P, P] by a triangle filter as wide as two pixels of the result, cut at the border."""
    side = images.shape[-1]
    if side == px:
        return images
    scale = side / px
    centres = (torch.arange(px, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(side, dtype=torch.float64) + 0.5
    weights = (1 - (places - centres[:, None]).abs() / scale).clamp(min=0)
    axis = (weights / weights.sum(dim=1, keepdim=True)).to(images.dtype)
    return axis @ images @ axis.T


def _look(w: dict[str, Tensor], look: LookConfig, images: Tensor, grid: int, eps: float) -> tuple[Tensor, Tensor]:
    """Tokens of the grid and pooled features."""
    at = "embedding.trunk."
    x = F.relu6(_trunk_conv(w, f"{at}stem.", reduced(images, look.px), 2))
    stride, maps = 2, {}
    for index, block in enumerate(look.trunk.blocks()):
        stride, y = stride * block.stride, x
        last = 1 if block.expansion == 1 else 2
        for layer in range(last):
            step = block.stride if layer == last - 1 else 1
            y = F.relu6(_trunk_conv(w, f"{at}blocks.{index}.layers.{layer}.", y, step))
        y = _trunk_conv(w, f"{at}blocks.{index}.layers.{last}.", y, 1)
        x = x + y if x.shape == y.shape else y
        maps[stride] = x
    pooled = F.relu6(_trunk_conv(w, f"{at}head.", x, 1)).flatten(2).sum(dim=2) / x[0, 0].numel()
    tokens = torch.zeros((), dtype=x.dtype)
    for index, stride in enumerate(look.strides):
        cells = _norm(w, f"embedding.tokens.{index}.norm", maps[stride].flatten(2).transpose(1, 2), eps)
        cells = _linear(w, f"embedding.tokens.{index}.proj", cells)
        tokens = tokens + resample_cells(cells, maps[stride].shape[-1], grid)
    return tokens, pooled


def _trunk_conv(w: dict[str, Tensor], at: str, x: Tensor, stride: int) -> Tensor:
    """Zeros all around the map, so that the kernel fits at ceil(side / stride) places, the odd row and column last."""
    kernel, side = w[f"{at}conv.weight"].shape[-1], x.shape[-1]
    places = -(-side // stride)
    zeros = max(0, (places - 1) * stride + kernel - side)
    canvas = x.new_zeros(*x.shape[:2], side + zeros, side + zeros)
    first = zeros // 2
    canvas[:, :, first : first + side, first : first + side] = x
    y = F.conv2d(canvas, w[f"{at}conv.weight"], stride=stride, groups=x.shape[1] // w[f"{at}conv.weight"].shape[1])
    mean, var = w[f"{at}norm.running_mean"], w[f"{at}norm.running_var"]
    return F.batch_norm(y, mean, var, w[f"{at}norm.weight"], w[f"{at}norm.bias"], eps=1e-3)


def _stage(
    w: dict[str, Tensor],
    config: CascadeConfig,
    index: int,
    grid: int,
    source: Tensor,
    upstream: ReferenceStage | None,
) -> ReferenceStage:
    eps, heads, depth = config.norm_eps, config.num_heads, config.depth
    pooled: Tensor | None = None
    steps: dict[str, Tensor] = {}
    if isinstance(config.embedding, TokensToTokenConfig):
        steps["t2t_perf1"], steps["t2t_perf2"], x = _tokens_to_token(w, config.embedding, source, grid, eps)
    elif isinstance(config.embedding, TrunkEmbeddingConfig):
        x, pooled = _look(w, config.embedding.looks[index], source, grid, eps)
    else:
        x = _patches(w, source, grid, image=not isinstance(config.embedding, HybridEmbeddingConfig))
    steps["embed"] = x
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    steps["block_in"] = x

    biases = None
    if upstream is not None and config.relation_reuse is not None:
        mixed = upstream.relations.permute(0, 2, 3, 1)
        mixed = mixed @ w["relation_reuse.fc1.weight"][:, :, 0, 0].T + w["relation_reuse.fc1.bias"]
        mixed = _gelu(mixed) @ w["relation_reuse.fc2.weight"][:, :, 0, 0].T + w["relation_reuse.fc2.bias"]
        steps["relation_conv_out"] = mixed.permute(0, 3, 1, 2)
        by_key = resample_tokens(mixed, config.grids[index - 1], grid)
        by_both = resample_tokens(by_key.transpose(1, 2), config.grids[index - 1], grid).transpose(1, 2)
        biases = by_both.permute(0, 3, 1, 2)

    relations = []
    for layer in range(depth):
        at = f"blocks.{layer}."
        q, k, v = _linear(w, f"{at}attn.qkv", _norm(w, f"{at}norm1", x, eps)).chunk(3, dim=-1)
        head_dim = q.shape[-1] // heads
        outputs = []
        for head in range(heads):
            part = slice(head * head_dim, (head + 1) * head_dim)
            logits = q[..., part] @ k[..., part].transpose(1, 2) / head_dim**0.5
            if biases is not None:
                logits = logits + biases[:, layer * heads + head]
            relations.append(logits)
            outputs.append(torch.softmax(logits, dim=-1) @ v[..., part])
        x = x + _linear(w, f"{at}attn.proj", torch.cat(outputs, dim=-1))
        z = x
        if upstream is not None and config.feature_reuse is not None:
            reuse = f"feature_reuse.{layer}."
            features = _norm(w, f"{reuse}norm", upstream.tokens, eps)
            features = _linear(w, f"{reuse}mlp.fc2", _gelu(_linear(w, f"{reuse}mlp.fc1", features)))
            spatial = resample_cells(features[:, 1:], config.grids[index - 1], grid)
            steps[f"reused_feature.{layer}"] = torch.cat([torch.zeros_like(spatial[:, :1]), spatial], dim=1)
            z = torch.cat([x, steps[f"reused_feature.{layer}"]], dim=-1)
        z = _gelu(_linear(w, f"{at}mlp.fc1", _norm(w, f"{at}norm2", z, eps)))
        x = x + _linear(w, f"{at}mlp.fc2", z)
        steps[f"block_out.{layer}"] = x
    logits = _linear(w, "head", _norm(w, "norm", x, eps)[:, 0])
    if pooled is not None:
        logits = logits + _linear(w, "pooled_head", pooled)
    if upstream is not None and config.logit_reuse:
        logits = logits + w["logit_share"] * upstream.logits
    return ReferenceStage(logits, x, torch.stack(relations, dim=1), biases, steps)


def _linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _norm(w: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))
