"""ViViT: one transformer over all tubelets of a clip.

Arnab, Dehghani, Heigold, Sun, Lucic & Schmid, "ViViT: A Video Vision Transformer", ICCV 2021
(2103.15691), figure 1 and section 3.3, model 1.

ViViT-B/16x2, 32 x 224 x 224:

    stem        2 x 16 x 16 convolution of the same stride -> 16 x 14 x 14 = 3136 tokens of 768
    positions   a class token, then a learned table over all 3137
    12 blocks   x + attention(norm(x)), then x + MLP(norm(x)); GELU by its tanh form
    grid        the normed patch tokens; pool: the normed class token; classifier

The layer behind the class token that some libraries have (a linear layer and tanh) is in no
released classifier, so that it would be random: it is left out.

Axes: B batch, N tokens, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
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
from tubelet.models.blocks.vit import SelfAttention
from tubelet.types import ClipSpec

TUBELET = (2, 16, 16)
EPS = 1e-6
HALF = (0.5, 0.5, 0.5)  # pixels in [0, 1] go to [-1, 1]
CLIP = ClipSpec(32, 2, 256, 224, mean=HALF, std=HALF)


@dataclass(frozen=True)
class Config:
    clip: ClipSpec = CLIP
    width: int = 768
    depth: int = 12
    heads: int = 12
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


class Block(nn.Module):
    """x [B, N, C] to the same."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=EPS)
        self.attention = SelfAttention(width, heads=heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = GeluMlp(width, 4 * width, tanh=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class ViViT(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T', H', W'], "block0_tokens" ... all tokens
    [B, N, C], the class token first, then time slowest.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.width
        self.taps = block_taps(config.depth, tokens=True)
        clip = config.clip
        self.grid = (clip.frames // 2, clip.crop // 16, clip.crop // 16)
        count = self.grid[0] * self.grid[1] * self.grid[2]
        self.patch_embed = nn.Conv3d(clip.channels, self.width, TUBELET, stride=TUBELET)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + count, self.width))
        self.blocks = nn.ModuleList(
            Block(self.width, heads=config.heads) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPS)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_exact_size(clip, self.clip, self.class_token)
        stem = self.patch_embed(clip)
        found = {"stem": stem}
        patches = stem.flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(clip), -1, -1), patches], dim=1)
        x = x + self.positions
        for i, block in enumerate(self.blocks):
            x = block(x)
            if f"block{i}" in taps:
                found[f"block{i}"] = self._map(x)
            if f"block{i}_tokens" in taps:
                found[f"block{i}_tokens"] = x
        x = self.norm(x)
        found |= {"grid": self._map(x), "pool": x[:, 0]}
        return with_logits(found, self.classifier, taps)

    def _map(self, x: Tensor) -> Tensor:
        """Tokens [B, 1 + N, C] to the patches' map [B, C, T', H', W']."""
        return channels_first(x[:, 1:].unflatten(1, self.grid))

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


VARIANTS: dict[str, Config] = {"vivit_b_32x2": Config()}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    return ViViT(config)
