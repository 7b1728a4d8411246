"""TimeSformer: attention over time and attention over space, one after the other.

Bertasius, Wang & Torresani, "Is Space-Time Attention All You Need for Video Understanding?", ICML
2021 (2102.05095), figure 2 and section 3.

TimeSformer-B, 8 x 224 x 224:

    stem        16 x 16 convolution of the same stride -> 8 x 14 x 14 tokens, 768 channels
    positions   + a learned table of places and one of times; the class token has a place of its own
    12 blocks   time:   every token with those at its place in other frames (not the class token),
                        then one more linear layer
                space:  every token with those of its frame and the class token; what the frames
                        say for the class token is averaged
                MLP 768 -> 3072 -> 768
    grid        the normed patch tokens; pool: the normed class token; classifier

    each of the three is added to its input, and looks at the norm of it

Any number of frames and any multiple of 16 pixels: as in the authors' code, both tables are read
at the nearest place of their own.

Axes: B batch, T time, H height, W width, N = H W places, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.biased_attention import (
    GeluMlp,
    block_taps,
    channels_first,
    check_patches,
    with_logits,
)
from tubelet.models.blocks.layers import check_clip, check_taps, classifier, scores
from tubelet.models.blocks.pooling_attention import init_weights
from tubelet.models.blocks.vit import SelfAttention
from tubelet.types import ClipSpec

PATCH = 16
EPS = 1e-6
CLIP = ClipSpec(8, 32, 224, 224)


@dataclass(frozen=True)
class Config:
    clip: ClipSpec = CLIP
    width: int = 768
    depth: int = 12
    heads: int = 12
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


class Block(nn.Module):
    """(class token [B, 1, C], patches [B, T, N, C]) to the same."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.norm_time = nn.LayerNorm(width, eps=EPS)
        self.time = SelfAttention(width, heads=heads)
        self.time_out = nn.Linear(width, width)
        self.norm_space = nn.LayerNorm(width, eps=EPS)
        self.space = SelfAttention(width, heads=heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPS)
        self.mlp = GeluMlp(width, 4 * width)

    def forward(self, first: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames, _, _ = patches.shape
        places = self.norm_time(patches).transpose(1, 2)  # [B, N, T, C]
        along = self.time(places.flatten(0, 1)).view_as(places)
        patches = patches + self.time_out(along.transpose(1, 2))
        both = torch.cat([first[:, None].expand(-1, frames, -1, -1), patches], dim=2)
        across = self.space(self.norm_space(both).flatten(0, 1)).unflatten(0, (batch, frames))
        first = first + across[:, :, :1].mean(dim=1)
        patches = patches + across[:, :, 1:]
        return first + self.mlp(self.norm_mlp(first)), patches + self.mlp(self.norm_mlp(patches))


class TimeSformer(nn.Module):
    """Divided space-time attention. Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T, H', W'], "block0_tokens" ... all tokens
    [B, 1 + T H' W', C], the class token first, then time slowest.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.width
        self.taps = block_taps(config.depth, tokens=True)
        side = config.clip.crop // PATCH
        kernel = (1, PATCH, PATCH)
        self.patch_embed = nn.Conv3d(config.clip.channels, self.width, kernel, stride=kernel)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.position_space = nn.Parameter(torch.zeros(1, 1 + side * side, self.width))
        self.position_time = nn.Parameter(torch.zeros(1, config.clip.frames, self.width))
        self.blocks = nn.ModuleList(
            Block(self.width, heads=config.heads) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPS)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] to the named taps. Raises ClipError, UnknownName."""
        check_taps(taps, self.taps)
        check_clip(clip, channels=self.clip.channels, weights=self.class_token)
        check_patches(clip, patch=PATCH)
        stem = self.patch_embed(clip)
        grid = stem.shape[2:]
        first, patches = self.tokens(stem)
        found = {"stem": stem}
        for i, block in enumerate(self.blocks):
            first, patches = block(first, patches)
            if f"block{i}" in taps:
                found[f"block{i}"] = channels_first(patches.flatten(1, 2).unflatten(1, grid))
            if f"block{i}_tokens" in taps:
                found[f"block{i}_tokens"] = torch.cat([first, patches.flatten(1, 2)], dim=1)
        found["pool"] = self.norm(first)[:, 0]
        if "grid" in taps:
            cells = self.norm(patches).flatten(1, 2)
            found["grid"] = channels_first(cells.unflatten(1, grid))
        return with_logits(found, self.classifier, taps)

    def tokens(self, stem: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, T, H', W'] to the class token and the patches, with their positions."""
        batch, _, frames, height, width = stem.shape
        side = self.clip.crop // PATCH
        space = self.position_space[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        space = F.interpolate(space, size=(height, width), mode="nearest")  # of the same size: it
        time = F.interpolate(self.position_time.transpose(1, 2), size=frames, mode="nearest")
        patches = stem + space[:, :, None] + time[..., None, None]
        first = (self.class_token + self.position_space[:, :1]).expand(batch, -1, -1)
        return first, patches.flatten(3).movedim(1, -1)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


VARIANTS: dict[str, Config] = {
    "timesformer_b_8x32": Config(),
    "timesformer_hr_16x16": Config(ClipSpec(16, 16, 448, 448)),
    "timesformer_l_96x4": Config(ClipSpec(96, 4, 224, 224)),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    return TimeSformer(config)
