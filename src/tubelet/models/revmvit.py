"""Reversible Vision Transformers: Rev-ViT and Rev-MViT.

Mangalam et al., "Reversible Vision Transformers", CVPR 2022. Figure 2 and section 3.2: two streams
of tokens, x1 and x2, and a block that can be undone, so that training need not keep activations:

    y1 = x1 + F(x2)          F: norm, attention              x2 = y2 - G(y1)
    y2 = x2 + G(y1)          G: norm, MLP                    x1 = y1 - F(x2)

Both streams start as copies of the tokens. Where the grid or the channels change (section 3.3.1,
a stage transition; Rev-ViT has none) the streams are fused, one ordinary block with a pooled skip
path follows, and its output starts both streams again:

    tokens -+-> x1 -[ block ]--...--[ block ]-> x1 -+-> fuse -> transition -+-> x1 ...
            '-> x2 -[       ]--...--[       ]-> x2 -'                       '-> x2 ...

The feature is the mean over the tokens of (x1, x2) side by side, normed: twice the channels. There
is no class token. Between transitions the gradient comes from `reversible.ReversibleBlocks`, which
recomputes every input from the outputs; `model.recompute = False` is plain autograd.

Axes: B batch, N tokens, C channels of one stream, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.models.blocks.layers import (
    check_size,
    check_taps,
    classifier,
    normed_mean,
    resized_clip,
    scores,
    transformer_taps,
)
from tubelet.models.blocks.mvit_schedule import (
    Kernel,
    MViTSchedule,
    Pooling,
    Widths,
    drop_path_schedule,
    image,
    patch_grid,
    pooling_schedule,
    staged,
    width_schedule,
)
from tubelet.models.blocks.pooling_attention import (
    Drop,
    Mlp,
    PoolingAttention,
    init_weights,
    layer_norm,
)
from tubelet.models.blocks.positions import Tokens, rebuilt, to_map
from tubelet.models.blocks.reversible import Seeds, draw_seeds, run_plain, run_reversible
from tubelet.models.mvit import CLIP_16X4, IMAGE, Activation, patch_embedding
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class Config:
    """transitions: the blocks that change the grid or the channels.

    fusion: what a transition makes of the two streams: their mean; the two side by side; or that
    plus an MLP on it, `fusion_ratio` times as wide inside.
    mean_pooling: the norm follows the mean over the tokens.
    """

    clip: ClipSpec
    num_classes: int
    trunk: MViTSchedule
    activation: Activation = "softmax"
    transitions: tuple[int, ...] = ()
    fusion: Literal["average", "concat", "mlp"] = "average"
    fusion_ratio: float = 1.0
    mean_pooling: bool = False


class AttentionBranch(nn.Module):
    """F: x [B, N, C] to [B, Nq, C']."""

    def __init__(
        self, dim: int, dim_out: int, *, heads: int, pooling: Pooling, qkv_bias: bool
    ) -> None:
        super().__init__()
        self.norm = layer_norm(dim)
        self.attention = PoolingAttention(
            dim, dim_out, heads=heads, pooling=pooling, qkv_bias=qkv_bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.norm(x))


class MlpBranch(nn.Module):
    """G: x [B, N, C] to the same shape."""

    def __init__(self, dim: int, *, ratio: float) -> None:
        super().__init__()
        self.norm = layer_norm(dim)
        self.mlp = Mlp(dim, int(dim * ratio), dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x))


class ReversibleBlock(nn.Module):
    """Section 3.2: (x1, x2), each [B, N, C], to (y1, y2), and back.

    `seeds`, one for F and one for G, decide what stochastic depth and dropout remove; the same
    seeds remove the same again. Without seeds nothing is removed.
    """

    def __init__(
        self, widths: Widths, *, pooling: Pooling, trunk: MViTSchedule, drop: Drop
    ) -> None:
        super().__init__()
        self.f = AttentionBranch(
            widths.dim, widths.dim, heads=widths.heads, pooling=pooling, qkv_bias=trunk.qkv_bias
        )
        self.g = MlpBranch(widths.dim, ratio=trunk.mlp_ratio)
        self.drop = drop

    @property
    def active(self) -> bool:
        """Whether something is dropped now."""
        return self.drop.active

    def f_dropped(self, x2: Tensor, seeds: Seeds) -> Tensor:
        return self.drop(self.f(x2), seed=seeds and seeds[0])

    def g_dropped(self, y1: Tensor, seeds: Seeds) -> Tensor:
        return self.drop(self.g(y1), seed=seeds and seeds[1])

    def forward(self, x1: Tensor, x2: Tensor, seeds: Seeds = None) -> tuple[Tensor, Tensor]:
        y1 = x1 + self.f_dropped(x2, seeds)
        y2 = x2 + self.g_dropped(y1, seeds)
        return y1, y2

    def inverse(self, y1: Tensor, y2: Tensor, seeds: Seeds = None) -> tuple[Tensor, Tensor]:
        x2 = y2 - self.g_dropped(y1, seeds)
        x1 = y1 - self.f_dropped(x2, seeds)
        return x1, x2


class Fusion(nn.Module):
    """Two streams [B, N, C] to one: C channels for the mean, 2C otherwise."""

    def __init__(self, dim: int, *, config: Config) -> None:
        super().__init__()
        self.average = config.fusion == "average"
        self.width = dim if self.average else 2 * dim
        hidden = int(self.width * config.fusion_ratio)
        self.mlp = Mlp(self.width, hidden, self.width) if config.fusion == "mlp" else None

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        if self.average:
            return (x1 + x2) / 2
        x = torch.cat([x1, x2], dim=-1)
        return x if self.mlp is None else x + self.mlp(x)


class Transition(nn.Module):
    """Section 3.3.1: two streams [B, N, C] to one [B, N', C'], as an ordinary block.

    The skip path is pooled by the attention's own query pooling, head by head. Not reversible.
    The output has the precision of the streams.
    """

    def __init__(self, widths: Widths, *, pooling: Pooling, config: Config, drop: Drop) -> None:
        super().__init__()
        trunk = config.trunk
        self.fuse = Fusion(widths.dim, config=config)
        self.f = AttentionBranch(
            self.fuse.width,
            widths.dim_out,
            heads=widths.heads,
            pooling=pooling,
            qkv_bias=trunk.qkv_bias,
        )
        self.g = MlpBranch(widths.dim_out, ratio=trunk.mlp_ratio)
        grows = self.fuse.width != widths.dim_out
        self.widen = nn.Linear(self.fuse.width, widths.dim_out) if grows else nn.Identity()
        self.drop = drop

    @property
    def active(self) -> bool:
        """Whether something is dropped now."""
        return self.drop.active

    def forward(self, x1: Tensor, x2: Tensor, seeds: Seeds = None) -> Tensor:
        x = self.fuse(x1, x2)
        x = self._skip(x).to(x1.dtype) + self.drop(self.f(x), seed=seeds and seeds[0])
        return x + self.drop(self.g(x), seed=seeds and seeds[1])

    def _skip(self, x: Tensor) -> Tensor:
        attention = self.f.attention
        heads = self.widen(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        return attention.pool_q(heads).transpose(1, 2).flatten(2)


class RevMViT(nn.Module):
    """Rev-ViT and Rev-MViT. Satisfies `types.VideoModel`.

    Taps: "stem"; "block0" ... maps [B, 2C, T', H', W'], stream 1 before stream 2 (C channels, one
    stream, after a transition); "block0_tokens" ... the same as tokens; "grid" the normed tokens.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip = config.clip
        self.num_classes = config.num_classes
        self.activation: Activation = config.activation
        self.recompute = True
        trunk = config.trunk
        grid = patch_grid(trunk, config.clip)
        schedule = pooling_schedule(trunk, grid)
        widths = width_schedule(trunk, in_attention=True)
        check_transitions(config, widths, schedule)
        self.grids = [pooling.q_grid for pooling in schedule]
        self.width = 2 * widths[-1].dim_out
        self.taps = transformer_taps(trunk.depth)

        self.patch_embed = patch_embedding(trunk, config.clip.channels)
        self.tokens = Tokens(trunk, grid=grid, class_token=False)
        self.blocks = nn.ModuleList()
        for i, path in enumerate(drop_path_schedule(trunk)):
            drop = Drop(path=path, rate=trunk.dropout)
            if i in config.transitions:
                block = Transition(widths[i], pooling=schedule[i], config=config, drop=drop)
            else:
                block = ReversibleBlock(widths[i], pooling=schedule[i], trunk=trunk, drop=drop)
            self.blocks.append(block)
        self.norm = layer_norm(self.width)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        "pool" [B, width] is the mean of "grid" [B, width, T', H', W']. A tap of a block ends a run
        of blocks whose inputs are recomputed: its outputs are kept. Raises
        ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_size(clip, self.clip)
        found: dict[str, Tensor] = {"stem": self.patch_embed(clip)}
        # Under autocast too the streams keep the precision of the parameters: sums in bfloat16
        # could not be undone.
        x1 = x2 = self.tokens(found["stem"]).to(self.norm.weight.dtype)
        tapped = {i for i in range(len(self.blocks)) if {f"block{i}", f"block{i}_tokens"} & {*taps}}
        for run in self._runs(tapped):
            first = self.blocks[run[0]]
            if isinstance(first, Transition):
                x1 = x2 = joined = first(x1, x2, draw_seeds([first])[0])
            else:
                blocks = [cast(ReversibleBlock, self.blocks[i]) for i in run]
                execute = run_reversible if self.recompute else run_plain
                x1, x2 = execute(blocks, x1, x2, draw_seeds(blocks))
                joined = torch.cat([x1, x2], dim=-1) if run[-1] in tapped else x1
            if run[-1] in tapped:
                found[f"block{run[-1]}_tokens"] = joined
                found[f"block{run[-1]}"] = to_map(joined, self.grids[run[-1]])
        found["pool"], cells = self._pool(torch.cat([x1, x2], dim=-1))
        if "grid" in taps:
            found["grid"] = to_map(cells, self.grids[-1])
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["pool"])
        return {name: found[name] for name in taps}

    def _runs(self, tapped: set[int]) -> list[list[int]]:
        """Blocks in runs: a transition alone, reversible ones together up to a tap."""
        runs: list[list[int]] = []
        fresh = True
        for i, block in enumerate(self.blocks):
            alone = isinstance(block, Transition)
            if fresh or alone:
                runs.append([i])
            else:
                runs[-1].append(i)
            fresh = alone or i in tapped
        return runs

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams [B, N, 2C] to the feature [B, 2C] and the normed tokens."""
        if self.config.mean_pooling:
            return normed_mean(x, self.norm)
        x = self.norm(x)
        return x.mean(dim=1), x

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, width]."""
        return self.classifier(pool)

    def resized(self, *, frames: int | None = None, crop: int | None = None) -> RevMViT:
        """The same weights for another size of clip; None keeps one. Raises UsageError."""
        return rebuilt(self, RevMViT(resized(self.config, frames=frames, crop=crop)))

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


def check_transitions(
    config: Config, widths: Sequence[Widths], schedule: Sequence[Pooling]
) -> None:
    """A reversible block keeps its shape, and the streams exist between transitions only."""
    last = config.trunk.depth - 1
    for i, (width, pooling) in enumerate(zip(widths, schedule, strict=True)):
        changes = width.dim != width.dim_out or pooling.q_grid != pooling.grid
        if changes and i not in config.transitions:
            raise UsageError(
                f"block {i} changes the channels or the grid, which a reversible block cannot: "
                f"name it among the transitions (they are {list(config.transitions)})"
            )
    for i in config.transitions:
        if not 0 < i < last or i + 1 in config.transitions:
            raise UsageError(
                f"block {i} cannot be a transition: a reversible block has to come before and "
                f"after it, and this network has blocks 0 to {last} and transitions "
                f"{list(config.transitions)}"
            )


def resized(config: Config, *, frames: int | None = None, crop: int | None = None) -> Config:
    """The same network built for another size of clip."""
    return replace(config, clip=resized_clip(config.clip, frames=frames, crop=crop))


# Variants.


def vit(dim: int, heads: int) -> MViTSchedule:
    """Table 1: a plain ViT of 12 blocks on patches of 16 x 16."""
    return MViTSchedule(
        depth=12,
        embed_dim=dim,
        num_heads=heads,
        patch=Kernel((1, 16, 16), (1, 16, 16)),
        patch_padding=(0, 0, 0),
        pool_kernel=None,
        position="joint",
    )


STARTS = (1, 3, 14)
MVIT_IMAGE = replace(image(staged((1, 2, 11, 2), kv=(1, 4, 4))), position="joint")
MVIT_VIDEO = replace(staged((1, 2, 11, 2), kv=(1, 8, 8)), position="separate", qkv_bias=False)

VARIANTS: dict[str, Config] = {
    "rev_vit_s": Config(IMAGE, 1000, vit(384, 6)),
    "rev_vit_b": Config(IMAGE, 1000, vit(768, 12)),
    "rev_mvit_b": Config(
        IMAGE, 1000, MVIT_IMAGE, transitions=STARTS, fusion="mlp", fusion_ratio=2.0
    ),
    "rev_mvit_b_16x4": Config(CLIP_16X4, 400, MVIT_VIDEO, transitions=STARTS),
}


def build(config: Config) -> nn.Module:
    return RevMViT(config)
