"""InternVideo2, single modality: a Vision Transformer with a class token and an asking pooler.

Wang et al., "InternVideo2", ECCV 2024, arXiv 2403.15377.

1B, 8 x 224 x 224:

    patches    14x14 of every frame  ->  8 x 16 x 16 = 2048 tokens, 1408 channels
    positions  class token first; + one learned table of all tokens
    40 blocks  RMSNorm; attention of 16 heads, q and k normed before they are split;
               MLP 1408 -> 6144 -> 1408; each branch scaled by one factor per channel
    projector  the mean of all tokens asks all tokens (attention of 16 heads)  ->  768
    pool       norm of that (fine-tuned files); then the classifier

There is no norm behind the last block: token features are as they come out of it.

Axes: B batch, N tokens (class token first), C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.layers import (
    NoClassifier,
    check_size,
    check_taps,
    classifier,
    resized_clip,
    scores,
    transformer_taps,
)
from tubelet.models.blocks.mvit_schedule import Grid
from tubelet.models.blocks.pooling_attention import Mlp, init_weights
from tubelet.models.blocks.positions import to_map, to_tokens
from tubelet.models.blocks.vit import (
    Block,
    Sizes,
    patch_embedding,
    patch_grid,
    run_blocks,
)
from tubelet.types import ClipSpec

PROJECTED = 768
"""Width behind the projector, in every size."""


@dataclass(frozen=True)
class Config:
    """probe: (attentive probes) an MLP behind the projector. fine_tuned: there is a norm behind it,
    and a classifier."""

    clip: ClipSpec
    num_classes: int
    sizes: Sizes
    patch: int = 14
    fine_tuned: bool = True
    probe: bool = False
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def rms_norm(width: int) -> nn.RMSNorm:
    return nn.RMSNorm(width, eps=1e-6)


class Projector(nn.Module):
    """x [B, N, C] to [B, 768]: the mean of all tokens, class token included, is the query."""

    def __init__(self, width: int, *, heads: int = 16) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(width, eps=1e-5) for _ in "qkv")
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in "qkv")
        self.out = nn.Linear(width, PROJECTED)

    def forward(self, x: Tensor) -> Tensor:
        query = x.mean(dim=1, keepdim=True)
        parts = self.q(self.norm_q(query)), self.k(self.norm_k(x)), self.v(self.norm_v(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).flatten(2))[:, 0]


class Probe(nn.Module):
    """norm and MLP, added to its input [B, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(PROJECTED, eps=1e-5)
        self.mlp = Mlp(PROJECTED, 4 * PROJECTED, PROJECTED)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class InternVideo2(nn.Module):
    """Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T', H', W'] without the class token,
    "block0_tokens" ... all tokens [B, N, C], "grid" the map of the last block, "pool" [B, 768]
    what the projector gives, normed where the file has that norm.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, PROJECTED
        self.taps = transformer_taps(config.sizes.depth)
        width = config.sizes.width
        t, h, w = self.grid = patch_grid(config.clip, tubelet=1, patch=config.patch)
        self.patch_embed = patch_embedding(
            config.clip.channels, width, tubelet=1, patch=config.patch
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + t * h * w, width))
        self.blocks = nn.ModuleList(
            Block(config.sizes, norm=rms_norm, qkv_bias=False, qk_norm=True, layer_scale=True)
            for _ in range(config.sizes.depth)
        )
        self.projector = Projector(width)
        self.probe = Probe() if config.probe else None
        self.norm = nn.LayerNorm(PROJECTED, eps=1e-5) if config.fine_tuned else None
        self.classifier = classifier(PROJECTED, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_size(clip, self.clip)
        stem = self.patch_embed(clip)
        first = self.class_token.repeat(len(stem), 1, 1)
        tokens = torch.cat([first, to_tokens(stem)], dim=1) + self.positions
        tokens, found = run_blocks(self.blocks, tokens, grid=self.grid, taps=taps, prefix=1)
        found |= {"stem": stem, "grid": to_map(tokens[:, 1:], self.grid)}
        if "pool" in taps or "dense_logits" in taps:
            found["pool"] = self._pool(tokens)
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["pool"])
        return {name: found[name] for name in taps}

    def _pool(self, tokens: Tensor) -> Tensor:
        x = self.projector(tokens)
        if self.probe is not None:
            x = self.probe(x)
        return x if self.norm is None else self.norm(x)

    def adapt_to(self, names: Collection[str]) -> None:
        """Take the form that a file's names ask for: with a probe, or without fine-tuning."""
        config = self.config
        if "probe.norm.weight" in names and self.probe is None:
            self.probe = Probe().to(self.class_token)
            config = replace(config, probe=True)
        if self.norm is not None and not {"norm.weight", "classifier.weight"} & set(names):
            self.norm, self.classifier, self.num_classes = None, NoClassifier(), 0
            config = replace(config, fine_tuned=False, num_classes=0)
        self.config = config

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, 768]."""
        return self.classifier(pool)

    def resized(self, *, frames: int | None = None, crop: int | None = None) -> InternVideo2:
        """The same weights for another size of clip, see `resized_positions`. Raises ClipError."""
        clip = resized_clip(self.clip, frames=frames, crop=crop)
        new = InternVideo2(replace(self.config, clip=clip)).to(self.positions)
        positions = resized_positions(self.positions.detach(), self.grid, new.grid)
        new.load_state_dict({**self.state_dict(), "positions": positions})
        for name, value in vars(self).items():  # where the weights are from
            vars(new).setdefault(name, value)
        return new.train(self.training)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


def resized_positions(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """[1, 1 + T*H*W, C] for another grid: linearly in time, then bicubically in space; the class
    token's stays. As the authors' fine-tuning does."""
    if old == new:
        return table
    width, first = table.shape[-1], table[:, :1]
    cells = table[0, 1:].reshape(old[0], -1, width).permute(1, 2, 0)
    if old[0] != new[0]:
        cells = F.interpolate(cells, size=new[0], mode="linear")
    squares = cells.permute(2, 1, 0).reshape(new[0], width, *old[1:])
    if old[1:] != new[1:]:
        squares = F.interpolate(squares, size=new[1:], mode="bicubic", align_corners=False)
    cells = squares.permute(0, 2, 3, 1).reshape(1, -1, width)
    return torch.cat([first, cells], dim=1)


# Variants. 8 frames over a window of 16, as localisation uses them; Kinetics spreads them over
# the whole video.


def clip_of(frames: int, interval: int) -> ClipSpec:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ClipSpec(frames, interval, 224, 224, mean=mean, std=std, sampling="uniform")


SMALL = Sizes(384, 12, 6, 1536)
BASE = Sizes(768, 12, 12, 3072)
LARGE = Sizes(1024, 24, 16, 4096)
BILLION = Sizes(1408, 40, 16, 6144)
SIX_BILLION = Sizes(3200, 48, 25, 12800)

VARIANTS: dict[str, Config] = {
    "internvideo2_s_8": Config(clip_of(8, 2), 400, SMALL),
    "internvideo2_b_8": Config(clip_of(8, 2), 400, BASE),
    "internvideo2_l_8": Config(clip_of(8, 2), 400, LARGE),
    "internvideo2_1b_8": Config(clip_of(8, 2), 400, BILLION),
    "internvideo2_1b_16": Config(clip_of(16, 1), 400, BILLION),
    "internvideo2_6b_8": Config(clip_of(8, 2), 400, SIX_BILLION),
}


def build(config: Config) -> InternVideo2:
    """A network with random weights."""
    return InternVideo2(config)
