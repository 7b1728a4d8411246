"""V-JEPA 2 and 2.1: a Vision Transformer that knows places by rotating queries and keys.

2:   Assran et al., "V-JEPA 2", arXiv 2506.09985.
2.1: "V-JEPA 2.1", arXiv 2603.14482.

ViT-L of 2, 64 x 256 x 256 (any even number of frames and any multiple of 16 pixels will do):

    tubelets   2x16x16 convolution, stride 2,16,16  ->  32 x 16 x 16 = 8192 tokens, 1024 channels
    24 blocks  attention of 16 heads, whose queries and keys are rotated by time, row and column
    grid       norm of the tokens; its mean is the row of an encoder without a head
    pooler     (classifiers) 3 blocks without positions, then one learned query attends to them

Of the d numbers of a head three equal parts are turned by time, row and column; the rest is not.
Part of D numbers, position p, frequencies w_i = 10000^(-i / (D / 2)), i = 0 ... D/2 - 1:

    numbers of the head    0      1      2      3     ...
    2.1                   p w_0  p w_0  p w_1  p w_1  ...   a pair is turned by one angle
    2                     p w_0  p w_1  p w_2  p w_3  ...   a pair has two: a mistake in training,
                                                            which the weights need (vjepa2#15)

                 2                        2.1
    rows, columns as they are             scaled to 0 ... 15, the patches of 256 pixels
    one frame    shown twice              a patch embedding of its own
    kind         -                        learned embeddings of pictures and videos, added
    norms        one, behind the last     four, each behind its level's last block

Axes: B batch, N tokens, C channels, T time, H height, W width, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError
from tubelet.models.blocks.layers import (
    check_clip,
    check_taps,
    classifier,
    resized_clip,
    scores,
    transformer_taps,
)
from tubelet.models.blocks.mvit_schedule import Grid
from tubelet.models.blocks.pooling_attention import Mlp, init_weights
from tubelet.models.blocks.positions import rebuilt, to_map, to_tokens
from tubelet.models.blocks.vit import (
    Block,
    Rotation,
    Sizes,
    check_divisible,
    layer_norm,
    patch_embedding,
    run_blocks,
)
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class PoolerConfig:
    """Of the attentive pooler. Meta trained all of them with 16 heads and an epsilon of 1e-5,
    whatever the encoder has; transformers runs those of ViT-g with 22 heads and 1e-6."""

    heads: int = 16
    depth: int = 3
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class Config:
    """num_classes: 0 for an encoder; otherwise it has a pooler and a classifier.

    levels: (2.1) blocks behind which a norm of its own stands; empty in 2, which has one norm.
    joined: (2.1) levels that the tap "hierarchical" puts side by side, as distillation did.
    """

    clip: ClipSpec
    num_classes: int
    sizes: Sizes
    patch: int = 16
    tubelet: int = 2
    norm_eps: float = 1e-6
    head: PoolerConfig = PoolerConfig()
    levels: tuple[int, ...] = ()
    joined: int = 0
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def rotation(grid: Grid, width: int, *, config: Config, like: Tensor) -> Rotation:
    """Angles of every token and every number of a head `width` wide. Raises ClipError."""
    t, h, w = grid
    # In float32, step by step as the reference: a position times a rounded frequency.
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    index = torch.arange(t * h * w, device=like.device)
    time, row, column = index // (h * w), index // w % h, index % w
    places = [time.to(dtype), row.to(dtype), column.to(dtype)]
    if config.levels:
        if min(h, w) < 2:
            raise ClipError("this network needs two rows and two columns of patches or more")
        last = {14: 252, 16: 256}[config.patch] // config.patch - 1
        places[1:] = places[1] * last / (h - 1), places[2] * last / (w - 1)
    part = 2 * (width // 3 // 2)
    rate = 1.0 / 10000 ** (torch.arange(part // 2, dtype=dtype, device=like.device) / (part / 2.0))
    angles: list[Tensor] = []
    for place in places:
        angle = place[:, None] * rate
        angles.append(angle.repeat_interleave(2, -1) if config.levels else angle.repeat(1, 2))
    angles.append(torch.zeros(len(index), width - 3 * part, dtype=dtype, device=like.device))
    turned = torch.cat(angles, dim=-1)
    return turned.cos(), turned.sin()


class Pooler(nn.Module):
    """One learned query that asks all tokens: x [B, N, C] to [B, C]. It has no output layer."""

    def __init__(self, width: int, head: PoolerConfig) -> None:
        super().__init__()
        norm, self.heads = layer_norm(head.norm_eps), head.heads
        sizes = Sizes(width, head.depth, head.heads, 4 * width)
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(sizes, norm=norm) for _ in range(head.depth))
        self.norm_tokens = norm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm_mlp = norm(width)
        self.mlp = Mlp(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        query = self.query.repeat(len(x), 1, 1)
        k, v = self.kv(self.norm_tokens(x)).chunk(2, dim=-1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(query), k, v)
        )
        query = query + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return (query + self.mlp(self.norm_mlp(query)))[:, 0]


class VJEPA2(nn.Module):
    """Both versions. Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T', H', W'], "block0_tokens" ... tokens
    [B, N, C]; of 2.1 "level0" ... the normed maps of the levels and "hierarchical" several of them
    side by side; "grid" the last normed map; "pool" its mean or, with a head, what the query found.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.sizes.width
        check_divisible(
            (max(config.clip.frames, 2), config.clip.crop, config.clip.crop),
            tubelet=config.tubelet, patch=config.patch,
        )  # fmt: skip
        blocks = transformer_taps(config.sizes.depth)
        levels = [f"level{i}" for i in range(len(config.levels))]
        self.taps = (*blocks[:-3], *levels, *(["hierarchical"] if levels else []), *blocks[-3:])
        norm = layer_norm(config.norm_eps)
        self.patch_embed = patch_embedding(
            config.clip.channels, self.width, tubelet=config.tubelet, patch=config.patch
        )
        self.patch_embed_image = None
        if config.levels:
            self.patch_embed_image = patch_embedding(
                config.clip.channels, self.width, tubelet=1, patch=config.patch
            )
            self.image_embed = nn.Parameter(torch.zeros(1, 1, self.width))
            self.video_embed = nn.Parameter(torch.zeros(1, 1, self.width))
        self.blocks = nn.ModuleList(
            Block(config.sizes, norm=norm) for _ in range(config.sizes.depth)
        )
        self.norms = nn.ModuleList(norm(self.width) for _ in config.levels or (0,))
        self.pooler = Pooler(self.width, config.head) if config.num_classes else None
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def _patches(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """clip [B, 3, T, H, W] to the map of its patches and to tokens. Raises ClipError."""
        check_clip(clip, channels=self.clip.channels)
        frames, config = clip.shape[2], self.config
        size = (config.tubelet if frames == 1 else frames, *clip.shape[3:])
        check_divisible(size, tubelet=config.tubelet, patch=config.patch)
        if self.patch_embed_image is not None:
            picture = frames == 1
            patches = (self.patch_embed_image if picture else self.patch_embed)(clip)
            return patches, to_tokens(patches) + (self.image_embed if picture else self.video_embed)
        if frames == 1:
            clip = clip.repeat(1, 1, config.tubelet, 1, 1)
        patches = self.patch_embed(clip)
        return patches, to_tokens(patches)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] to the named taps; T is even, or 1 for pictures.

        Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        config = self.config
        stem, tokens = self._patches(clip)
        grid = (stem.shape[2], stem.shape[3], stem.shape[4])
        turn = rotation(grid, self.width // config.sizes.heads, config=config, like=stem)
        behind = [f"block{i}_tokens" for i in config.levels]
        tokens, found = run_blocks(
            self.blocks, tokens, grid=grid, taps=(*taps, *behind), rotation=turn
        )
        normed = self.norms[-1](tokens)
        found |= {"stem": stem, "grid": to_map(normed, grid)}
        levels = [
            to_map(norm(found[name]), grid) for norm, name in zip(self.norms, behind, strict=False)
        ]
        found |= {f"level{i}": level for i, level in enumerate(levels)}
        if levels:
            found["hierarchical"] = torch.cat(levels[-config.joined :], dim=1)
        found["pool"] = self.pooler(normed) if self.pooler is not None else normed.mean(dim=1)
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["pool"])
        return {name: found[name] for name in taps}

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def resized(self, *, frames: int | None = None, crop: int | None = None) -> VJEPA2:
        """The same weights for another size of clip; there is no table. Raises ClipError."""
        clip = resized_clip(self.clip, frames=frames, crop=crop)
        return rebuilt(self, VJEPA2(replace(self.config, clip=clip)))

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


# Variants. Clips as in Meta's evaluation: 16 frames, every 4th; training had 64 frames.


def clip_of(crop: int) -> ClipSpec:
    """The short side is 8/7 of the crop, rounded down."""
    short_side = crop * 256 // 224
    return ClipSpec(16, 4, short_side, crop, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def v2_1(sizes: Sizes, levels: tuple[int, ...], *, joined: int) -> Config:
    return Config(clip_of(384), 0, sizes, levels=levels, joined=joined)


BASE = Sizes(768, 12, 12, 3072)
LARGE = Sizes(1024, 24, 16, 4096)
HUGE = Sizes(1280, 32, 16, 5120)
GIANT = Sizes(1408, 40, 22, 6144)
GIGANTIC = Sizes(1664, 48, 26, 8192)
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}

VARIANTS: dict[str, Config] = {
    "vjepa2_l_256": Config(clip_of(256), 0, LARGE),
    "vjepa2_h_256": Config(clip_of(256), 0, HUGE),
    "vjepa2_g_256": Config(clip_of(256), 0, GIANT),
    "vjepa2_g_384": Config(clip_of(384), 0, GIANT),
    # The same tensors with 16 heads are another network. None was released; a file cannot tell.
    "vjepa2_g16_256": Config(clip_of(256), 0, replace(GIANT, heads=16)),
    "vjepa2_1_b_384": v2_1(BASE, LEVELS[12], joined=1),
    "vjepa2_1_l_384": v2_1(LARGE, LEVELS[24], joined=1),
    "vjepa2_1_g_384": v2_1(GIANT, LEVELS[40], joined=4),
    "vjepa2_1_g16_384": v2_1(replace(GIANT, heads=16), LEVELS[40], joined=4),
    # "G" in the paper; file systems that ignore case would take it for "g".
    "vjepa2_1_gigantic_384": v2_1(GIGANTIC, LEVELS[48], joined=4),
    "vjepa2_1_gigantic16_384": v2_1(replace(GIGANTIC, heads=16), LEVELS[48], joined=4),
}


def build(config: Config) -> VJEPA2:
    """A network with random weights."""
    return VJEPA2(config)
