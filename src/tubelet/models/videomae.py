"""VideoMAE, versions 1 and 2: a plain Vision Transformer, taught to fill in hidden tubelets.

v1: Tong et al., "VideoMAE", NeurIPS 2022, arXiv 2203.12602.
v2: Wang et al., "VideoMAE V2", CVPR 2023, arXiv 2303.16727.

ViT-B, 16 x 224 x 224 (v1, appendix table 9):

    tubelets   2x16x16 convolution, stride 2,16,16  ->  8 x 14 x 14 = 1568 tokens, 768 channels
    positions  + a fixed table of sines, one running index over all tokens
    12 blocks  attention of 12 heads between all tokens; MLP 768 -> 3072 -> 768
    pool       fine-tuned: norm of the mean token, then the classifier
               pre-trained: mean of the normed tokens; there are no classes

Pre-training hides nine tokens of ten and fills them in with a decoder; here every token is seen and
the decoder is left out. Keys have no bias: softmax would cancel it.

Axes: B batch, N tokens, C channels, T time, H height, W width.
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
    normed_mean,
    resized_clip,
    scores,
    transformer_taps,
)
from tubelet.models.blocks.mvit_schedule import Grid
from tubelet.models.blocks.pooling_attention import init_weights
from tubelet.models.blocks.positions import rebuilt, to_map, to_tokens
from tubelet.models.blocks.vit import (
    Block,
    Sizes,
    layer_norm,
    patch_embedding,
    patch_grid,
    run_blocks,
)
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class Config:
    """norm_eps: 1e-6 in the authors' code, 1e-12 in transformers' published folders.

    fine_tuned: the norm follows the mean over the tokens, otherwise it precedes it. table_crop:
    side of the pictures whose table of positions the network was trained with.
    """

    clip: ClipSpec
    num_classes: int
    sizes: Sizes
    patch: int = 16
    tubelet: int = 2
    norm_eps: float = 1e-6
    fine_tuned: bool = True
    table_crop: int = 224
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def sine_table(grid: Grid, width: int) -> Tensor:
    """[1, N, C]: sines in even and cosines in odd columns, of position / 10000^(2i / C)."""
    t, h, w = grid
    position = torch.arange(t * h * w, dtype=torch.float64)
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = position[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[None].float()


def position_table(config: Config) -> Tensor:
    """The table for the network's clips.

    Another number of frames counts on; another crop has the square of every time resized
    bicubically, as the fine-tuning scripts of this family do with tables.
    """
    patch, width = config.patch, config.sizes.width
    t, h, w = patch_grid(config.clip, tubelet=config.tubelet, patch=patch)
    side = config.table_crop // patch
    table = sine_table((t, side, side), width)
    if (h, w) == (side, side):
        return table
    squares = table.reshape(t, side, side, width).permute(0, 3, 1, 2)
    squares = F.interpolate(squares, size=(h, w), mode="bicubic", align_corners=False)
    return squares.permute(0, 2, 3, 1).reshape(1, t * h * w, width)


class VideoMAE(nn.Module):
    """Both versions. Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T', H', W'], "block0_tokens" ... tokens
    [B, N, C], "grid" the normed map whose mean is "pool".
    """

    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.sizes.width
        self.grid = patch_grid(config.clip, tubelet=config.tubelet, patch=config.patch)
        self.taps = transformer_taps(config.sizes.depth)
        norm = layer_norm(config.norm_eps)
        self.patch_embed = patch_embedding(
            config.clip.channels, self.width, tubelet=config.tubelet, patch=config.patch
        )
        self.register_buffer("positions", position_table(config), persistent=False)
        self.blocks = nn.ModuleList(
            Block(config.sizes, norm=norm) for _ in range(config.sizes.depth)
        )
        self.pool_norm = norm(self.width) if config.fine_tuned else None
        self.token_norm = None if config.fine_tuned else norm(self.width)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_size(clip, self.clip)
        stem = self.patch_embed(clip)
        tokens = to_tokens(stem) + self.positions
        tokens, found = run_blocks(self.blocks, tokens, grid=self.grid, taps=taps)
        pool, cells = self._pool(tokens)
        found |= {"stem": stem, "pool": pool}
        if "grid" in taps:
            found["grid"] = to_map(cells, self.grid)
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(pool)
        return {name: found[name] for name in taps}

    def _pool(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, C] to the feature [B, C] and the normed tokens it is the mean of."""
        if self.pool_norm is not None:
            return normed_mean(tokens, self.pool_norm)
        assert self.token_norm is not None
        tokens = self.token_norm(tokens)
        return tokens.mean(dim=1), tokens

    def adapt_to(self, names: Collection[str]) -> None:
        """Take the form of a pre-trained file, known by the norm of its tokens: no classes."""
        if self.pool_norm is not None and "token_norm.weight" in names:
            self.token_norm, self.pool_norm = self.pool_norm, None
            self.classifier, self.num_classes = NoClassifier(), 0
            self.config = replace(self.config, fine_tuned=False, num_classes=0)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def resized(self, *, frames: int | None = None, crop: int | None = None) -> VideoMAE:
        """The same weights for another size of clip, see `position_table`. Raises ClipError."""
        clip = resized_clip(self.clip, frames=frames, crop=crop)
        return rebuilt(self, VideoMAE(replace(self.config, clip=clip)))

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


# Variants.

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP_16X4 = ClipSpec(16, 4, 224, 224, mean=IMAGENET["mean"], std=IMAGENET["std"])

SMALL = Sizes(384, 12, 6, 1536)
BASE = Sizes(768, 12, 12, 3072)
LARGE = Sizes(1024, 24, 16, 4096)
HUGE = Sizes(1280, 32, 16, 5120)
GIANT = Sizes(1408, 40, 16, 6144)  # heads of 88 numbers, and an MLP of 48 / 11

VARIANTS: dict[str, Config] = {
    "videomae_s_16x4": Config(CLIP_16X4, 400, SMALL),
    "videomae_b_16x4": Config(CLIP_16X4, 400, BASE),
    "videomae_l_16x4": Config(CLIP_16X4, 400, LARGE),
    "videomae_h_16x4": Config(CLIP_16X4, 400, HUGE),
    # Version 2 changed how the networks are trained, and added the giant.
    "videomae_v2_s_16x4": Config(CLIP_16X4, 710, SMALL),
    "videomae_v2_b_16x4": Config(CLIP_16X4, 710, BASE),
    "videomae_v2_g_16x4": Config(CLIP_16X4, 710, GIANT, patch=14),
}


def build(config: Config) -> VideoMAE:
    """A network with random weights."""
    return VideoMAE(config)
