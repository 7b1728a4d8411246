"""VideoPrism: a transformer over the places of a frame, then one over the frames of a place.

Zhao et al., "VideoPrism: A Foundational Visual Encoder for Video Understanding", ICML 2024
(2402.13217), section 3; the factorised encoder is model 2 of ViViT (2103.15691, figure 4).

VideoPrism-B, 16 x 288 x 288:

    stem       18 x 18 patches of every frame -> 16 x 16 x 16 tokens, 768 channels; + places
    spatial    12 blocks over the 256 tokens of a frame, norm
    temporal   + times; 4 blocks over the 16 frames of a place, norm  = grid;  pool: its mean
    L          8 frames, 1024 channels, 24 + 4 blocks

    a block    x + attention(norm(x)), then x + MLP(norm(x)), scores capped at 50 * tanh(s / 50)
    a norm     multiplies by 1 + weight: the files keep how much it differs from one

The networks with text (LVT) go on:

    auxiliary  2 blocks over all tokens
    head       one learned query attends to all tokens, with heads of 4 C / heads numbers, each
               number scaled by itself and no cap; norm; divided by its length  = pool

Pixels in [0, 1], no mean and standard deviation. Other sizes and numbers of frames: the tables of
places and times are resized bilinearly with antialiasing.

Axes: B batch, T time, H height, W width, N = H W places, C channels, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.biased_attention import (
    BiasedAttention,
    GeluMlp,
    channels_first,
    check_patches,
    with_logits,
)
from tubelet.models.blocks.layers import check_clip, check_taps, classifier, scores
from tubelet.models.blocks.pooling_attention import init_weights
from tubelet.types import ClipSpec

PATCH = 18
CAP = 50.0
SOFTPLUS_AT_ZERO = 1.442695041
"""1 / log 2: the softplus of a scale that was not trained is log 2."""
CLIP = ClipSpec(16, 2, 288, 288, mean=(0.0,) * 3, std=(1.0,) * 3)


@dataclass(frozen=True)
class Config:
    """spatial, temporal, auxiliary: numbers of blocks. head: with the head of LVT."""

    clip: ClipSpec = CLIP
    width: int = 768
    heads: int = 12
    spatial: int = 12
    temporal: int = 4
    auxiliary: int = 0
    head: bool = False
    num_classes: int = 0
    activation: Literal["softmax", "sigmoid", "none"] = "none"


class OffsetNorm(nn.Module):
    """A layer norm whose stored weight is what is added to one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight + 1, self.bias, 1e-6)


class Block(nn.Module):
    """x [B, N, C] to the same."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.norm_attention = OffsetNorm(width)
        self.attention = BiasedAttention(width, heads=heads, cap=CAP)
        self.norm_mlp = OffsetNorm(width)
        self.mlp = GeluMlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class QueryHead(nn.Module):
    """x [B, N, C] to [B, C] of length one: what a learned query finds."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, 4 * width
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.scale = nn.Parameter(torch.zeros(inner // heads))
        self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)
        self.norm = OffsetNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query.expand(len(x), -1, -1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(query), self.k(x), self.v(x))
        )
        q = q * F.softplus(self.scale) * (SOFTPLUS_AT_ZERO * q.shape[-1] ** -0.5)
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        y = self.norm(self.out(y.transpose(1, 2).flatten(2)))[:, 0]
        return y * ((y * y).sum(dim=-1, keepdim=True) + 1e-6).rsqrt()


class VideoPrism(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`.

    Taps: "stem", "spatial0" ..., "temporal0" ..., "auxiliary0" ... and "grid" are maps
    [B, C, T, H', W'].
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.width
        parts = {name: getattr(config, name) for name in ("spatial", "temporal", "auxiliary")}
        names = [f"{part}{i}" for part, depth in parts.items() for i in range(depth)]
        self.taps = ("stem", *names, "grid", "dense_logits", "pool")
        side, kernel = config.clip.crop // PATCH, (1, PATCH, PATCH)
        self.patch_embed = nn.Conv3d(config.clip.channels, self.width, kernel, stride=kernel)
        self.position_space = nn.Parameter(torch.zeros(1, side * side, self.width))
        self.position_time = nn.Parameter(torch.zeros(1, config.clip.frames, self.width))
        self.spatial, self.temporal, self.auxiliary = (
            nn.ModuleList(Block(self.width, heads=config.heads) for _ in range(depth))
            for depth in parts.values()
        )
        self.norm_space = OffsetNorm(self.width)
        self.norm_time = OffsetNorm(self.width)
        self.head = QueryHead(self.width, heads=config.heads) if config.head else None
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] to the named taps. Raises ClipError, UnknownName.

        "pool" [B, C] is the mean of "grid", or what the head of LVT makes of it.
        """
        check_taps(taps, self.taps)
        check_clip(clip, channels=self.clip.channels, weights=self.position_time)
        check_patches(clip, patch=PATCH)
        stem = self.patch_embed(clip)
        batch, frames, *grid = (stem.shape[i] for i in (0, 2, 3, 4))
        space, time = self.positions(frames, grid)
        found = {"stem": stem}

        def run(blocks: nn.ModuleList, name: str, x: Tensor, order: str) -> Tensor:
            for i, block in enumerate(blocks):
                x = block(x)
                if f"{name}{i}" in taps:
                    found[f"{name}{i}"] = channels_first(
                        to_places(x, order, batch).unflatten(2, grid)
                    )
            return x

        x = stem.flatten(3).movedim(1, -1)  # [B, T, N, C]
        x = run(self.spatial, "spatial", x.flatten(0, 1) + space, "frames")
        x = to_places(self.norm_space(x), "frames", batch).transpose(1, 2).flatten(0, 1)
        x = self.norm_time(run(self.temporal, "temporal", x + time, "places"))
        x = to_places(x, "places", batch)
        found["grid"] = channels_first(x.unflatten(2, grid))
        if self.head is None:
            found["pool"] = x.mean(dim=(1, 2))
        else:
            found["pool"] = self.head(
                run(self.auxiliary, "auxiliary", x.flatten(1, 2), str(frames))
            )
        return with_logits(found, self.classifier, taps)

    def positions(self, frames: int, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The tables [1, N, C] and [1, T, C] for this size of clip."""
        space, time = self.position_space, self.position_time
        side = self.clip.crop // PATCH
        if tuple(grid) != (side, side):
            squares = space.transpose(1, 2).unflatten(2, (side, side))
            squares = F.interpolate(squares, size=tuple(grid), mode="bilinear", antialias=True)
            space = squares.flatten(2).transpose(1, 2)
        if frames != time.shape[1]:
            size = (frames, self.width)
            time = F.interpolate(time[:, None], size=size, mode="bilinear", antialias=True)[:, 0]
        return space, time

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


def to_places(x: Tensor, order: str, batch: int) -> Tensor:
    """[B, T, N, C] of rows per frame [B T, N, C], per place [B N, T, C], or of all tokens
    [B, T N, C], where `order` is the number of frames."""
    if order == "frames":
        return x.unflatten(0, (batch, -1))
    if order == "places":
        return x.unflatten(0, (batch, -1)).transpose(1, 2)
    return x.unflatten(1, (int(order), -1))


LARGE = Config(replace(CLIP, frames=8), width=1024, heads=16, spatial=24)

VARIANTS: dict[str, Config] = {
    "videoprism_b_16": Config(),
    "videoprism_l_8": LARGE,
    "videoprism_lvt_b_16": replace(Config(), auxiliary=2, head=True),
    "videoprism_lvt_l_8": replace(LARGE, auxiliary=2, head=True),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    return VideoPrism(config)
