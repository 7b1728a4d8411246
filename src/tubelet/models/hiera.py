"""Hiera: a hierarchical vision transformer of plain parts.

Ryali, Hu, Bolya, Wei, Fan, Huang, Aggarwal, Chowdhury, Poursaeed, Hoffman, Malik, Li &
Feichtenhofer, "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", ICML 2023
(2306.00989), figure 2 and table 1.

Hiera-B, 16 x 224 x 224:

    stem       3 x 7 x 7 convolution, stride 2,4,4, plus learned positions -> 8 x 56 x 56 tokens
    stage 1     2 blocks     8 x 56 x 56     96 channels    1 head     attention inside mask units
    stage 2     3            8 x 28 x 28    192             2          inside mask units
    stage 3    16            8 x 14 x 14    384             4          of all tokens
    stage 4     3            8 x  7 x  7    768             8          of all tokens
    grid       = stage 4;  pool: norm of its mean;  classifier
    B+, L and H begin with 112, 144 and 256 channels and 2, 2 and 4 heads; L and H have 2, 6, 36, 4
    blocks

    a block:   x + attention(norm(x)), then x + MLP(norm(x))
    the first block of stages 2 to 4 widens: queries, and the projected x, are the maximum of 2 x 2
    tokens; time is never pooled. It still attends as the stage before it does
    mask unit: 8 x 8 tokens of one step of time in stage 1, what became of them (4 x 4) in stage 2

Axes: B batch, T time, H height, W width, C channels, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.biased_attention import (
    GeluMlp,
    block_taps,
    channels_first,
    check_exact_size,
    with_logits,
)
from tubelet.models.blocks.layers import check_taps, classifier, scores
from tubelet.models.blocks.pooling_attention import init_weights
from tubelet.models.swin3d import from_windows, to_windows
from tubelet.types import ClipSpec

CLIP = ClipSpec(16, 4, 256, 224)
EPS = 1e-6
UNIT = 8
"""Side of a mask unit in tokens of stage 1."""
GLOBAL = 2
"""The first stage (from 0) whose blocks attend to all tokens."""


@dataclass(frozen=True)
class Config:
    """width, heads: of stage 1; every stage doubles both. pretrained: a network of masked
    pre-training, which has neither the last norm nor classes; its row is the plain mean."""

    clip: ClipSpec = CLIP
    width: int = 96
    heads: int = 1
    depths: tuple[int, ...] = (2, 3, 16, 3)
    pretrained: bool = False
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def pooled(x: Tensor) -> Tensor:
    """The maximum of 2 x 2 tokens: [B, T, H, W, C] to [B, T, H/2, W/2, C]."""
    return x.unflatten(3, (-1, 2)).amax(4).unflatten(2, (-1, 2)).amax(3)


class UnitAttention(nn.Module):
    """x [B, T, H, W, C] to [B, T, H', W', C'].

    unit: side of the windows of x; None: all tokens together. pool: the queries are pooled.
    """

    def __init__(
        self, inputs: int, outputs: int, *, heads: int, unit: int | None, pool: bool
    ) -> None:
        super().__init__()
        self.heads, self.unit, self.pool = heads, unit, pool
        self.qkv = nn.Linear(inputs, 3 * outputs)
        self.out = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool:
            q = pooled(q)
        size = q.shape[1:4]
        window = (1, self.unit, self.unit) if self.unit else x.shape[1:4]
        shrink = 2 if self.pool else 1
        after = (window[0], window[1] // shrink, window[2] // shrink)
        q, k, v = to_windows(q, after), to_windows(k, window), to_windows(v, window)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)  # [B, windows, heads, N, d]
        return self.out(from_windows(y.transpose(2, 3).flatten(3), after, size))


class Block(nn.Module):
    """x [B, T, H, W, C] to [B, T, H', W', C']."""

    def __init__(self, inputs: int, outputs: int, *, heads: int, unit: int | None) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(inputs, eps=EPS)
        starts = inputs != outputs
        self.attention = UnitAttention(inputs, outputs, heads=heads, unit=unit, pool=starts)
        self.norm_mlp = nn.LayerNorm(outputs, eps=EPS)
        self.mlp = GeluMlp(outputs, 4 * outputs)
        self.widen = nn.Linear(inputs, outputs) if starts else None

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        if self.widen is not None:
            x = pooled(self.widen(normed))
        x = x + self.attention(normed)
        return x + self.mlp(self.norm_mlp(x))


class Hiera(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`.

    Taps: "stem", "block0" ... and "grid" are maps [B, C, T', H', W'].
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes = config.num_classes
        self.width = config.width * 2 ** (len(config.depths) - 1)
        self.taps = block_taps(sum(config.depths), tokens=False)
        self.patch_embed = nn.Conv3d(
            config.clip.channels, config.width, (3, 7, 7), stride=(2, 4, 4), padding=(1, 3, 3)
        )
        side, frames = config.clip.crop // 4, config.clip.frames // 2
        self.position_space = nn.Parameter(torch.zeros(1, side * side, config.width))
        self.position_time = nn.Parameter(torch.zeros(1, frames, config.width))
        self.blocks = nn.ModuleList()
        width, before = config.width, 0
        for stage, depth in enumerate(config.depths):
            for i in range(depth):
                kind = before if i == 0 else stage  # the first block attends as the stage before
                unit = UNIT >> kind if kind < GLOBAL else None
                outputs = config.width * 2**stage
                heads = config.heads * 2**stage
                self.blocks.append(Block(width, outputs, heads=heads, unit=unit))
                width, before = outputs, stage
        self.norm = nn.Identity() if config.pretrained else nn.LayerNorm(self.width, eps=EPS)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        "grid" is not normed, "pool" is the norm of its mean. Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_exact_size(clip, self.clip, self.position_time)
        x = self.patch_embed(clip).movedim(1, -1)
        place = self.position_space.view(1, 1, *x.shape[2:])
        x = x + place + self.position_time[:, :, None, None]
        found = {"stem": channels_first(x)}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if f"block{i}" in taps:
                found[f"block{i}"] = channels_first(x)
        found |= {"grid": channels_first(x), "pool": self.norm(x.mean(dim=(1, 2, 3)))}
        return with_logits(found, self.classifier, taps)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


LARGE = Config(width=144, heads=2, depths=(2, 6, 36, 4))


def masked(config: Config) -> Config:
    """Masked pre-training without fine-tuning: the encoder alone."""
    return replace(config, pretrained=True, num_classes=0)


VARIANTS: dict[str, Config] = {
    "hiera_b_16x4": Config(),
    "hiera_bplus_16x4": Config(width=112, heads=2),
    "hiera_l_16x4": LARGE,
    "hiera_h_16x4": replace(LARGE, width=256, heads=4),
    "hiera_b_16x4_mae": masked(Config()),
    "hiera_bplus_16x4_mae": masked(Config(width=112, heads=2)),
    "hiera_l_16x4_mae": masked(LARGE),
    "hiera_h_16x4_mae": masked(replace(LARGE, width=256, heads=4)),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    return Hiera(config)
