"""Video Swin: attention inside windows of space and time that shift from block to block.

Liu, Ning, Cao, Wei, Zhang, Lin & Hu, "Video Swin Transformer", CVPR 2022 (2106.13230), figures 1 to
3, equations 2 to 4.

Swin-T, 32 x 224 x 224:

    stem      2 x 4 x 4 convolution of the same stride, norm  ->  16 x 56 x 56 tokens, 96 channels
    stage 1   2 blocks (S, B, L: 2)     16 x 56 x 56     96      3 heads
    stage 2   2 (2)                     16 x 28 x 28    192      6
    stage 3   6 (18)                    16 x 14 x 14    384     12
    stage 4   2 (2)                     16 x  7 x  7    768     24
    grid      norm;  pool: its mean;  classifier
    S, B and L begin with 96, 128 and 192 channels; between stages 2 x 2 tokens are joined,
    normed and projected to twice the channels

    a block:  x + attention(norm(x)), then x + MLP(norm(x))
    attention: inside windows of 8 x 7 x 7 tokens, with a learned bias for every offset between two
    tokens of a window; in every second block the windows are moved by half their size, and tokens
    that the move brings together from two ends do not see each other

Any size of clip: it is padded to whole patches and windows. A window that is larger than the map
shrinks to it and does not move along that axis; it then takes the first rows and columns of the
full window's table of biases, as the authors' code does, not those of its own offsets.

Axes: B batch, T time, H height, W width, C channels, N tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.biased_attention import (
    BiasedAttention,
    GeluMlp,
    block_taps,
    channels_first,
    with_logits,
)
from tubelet.models.blocks.layers import check_clip, check_taps, classifier, scores
from tubelet.models.blocks.pooling_attention import init_weights
from tubelet.types import ClipSpec

Size3 = tuple[int, int, int]
"""Time, height, width."""
PATCH: Size3 = (2, 4, 4)
CLIP = ClipSpec(32, 2, 256, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Config:
    """width: channels of stage 1, heads: of every stage, window: in tokens."""

    clip: ClipSpec = CLIP
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: Size3 = (8, 7, 7)
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def pad_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """[B, T, H, W, C], padded at the ends to multiples of `size`."""
    t, h, w = ((-n) % s for n, s in zip(x.shape[1:4], size, strict=True))
    return F.pad(x, (0, 0, 0, w, 0, h, 0, t))


def to_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """[B, T, H, W, C] to [B, windows, N, C]."""
    b, t, h, w, c = x.shape
    dt, dh, dw = window
    x = x.view(b, t // dt, dt, h // dh, dh, w // dw, dw, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, -1, dt * dh * dw, c)


def from_windows(x: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """[B, windows, N, C] to [B, T, H, W, C] of the size [T, H, W]."""
    (t, h, w), (dt, dh, dw) = size, window
    x = x.view(x.shape[0], t // dt, h // dh, w // dw, dt, dh, dw, x.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(x.shape[0], t, h, w, -1)


def offsets(window: Size3) -> Tensor:
    """[N, N]: the row of the table of biases for every pair of tokens of a full window."""
    axes = [torch.arange(n) for n in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # [3, N]
    t, h, w = places[:, :, None] - places[:, None, :] + torch.tensor(window)[:, None, None] - 1
    _, height, width = (2 * n - 1 for n in window)
    return (t * height + h) * width + w


def apart(size: Sequence[int], window: Sequence[int], shift: Sequence[int], like: Tensor) -> Tensor:
    """[windows, 1, N, N]: -100 between tokens that a shift brought together from two ends."""
    regions = like.new_zeros(1, *size, 1)
    cuts = [
        (slice(0, -n), slice(-n, -s or None), slice(-s, None)) if s else (slice(0, None),)
        for n, s in zip(window, shift, strict=True)
    ]
    for number, (t, h, w) in enumerate(product(*cuts)):
        regions[:, t, h, w] = number
    of = to_windows(regions, window)[0, :, :, 0]  # [windows, N]
    return ((of[:, :, None] != of[:, None, :]) * -100.0).to(like.dtype)[:, None]


class WindowAttention(nn.Module):
    """x [B, T, H, W, C] to the same. shifted: the windows move by half their size."""

    rows: Tensor

    def __init__(self, width: int, *, heads: int, window: Size3, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.attention = BiasedAttention(width, heads=heads)
        table = torch.zeros((2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1), heads)
        self.bias_table = nn.Parameter(table)
        self.register_buffer("rows", offsets(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1:4]
        window = [min(n, w) for n, w in zip(size, self.window, strict=True)]
        shift = [
            w // 2 if self.shifted and n > w else 0 for n, w in zip(size, self.window, strict=True)
        ]
        padded = pad_to(x, window)
        moved = torch.roll(padded, [-s for s in shift], dims=(1, 2, 3))
        inside = to_windows(moved, window)
        count, tokens = inside.shape[1:3]
        bias = self.bias_table[self.rows[:tokens, :tokens].flatten()]
        bias = bias.view(tokens, tokens, -1).permute(2, 0, 1)[None]  # [1, heads, N, N]
        if any(shift):
            bias = bias + apart(padded.shape[1:4], window, shift, padded)
            bias = bias.repeat(len(x), 1, 1, 1)
        y = self.attention(inside.flatten(0, 1), bias).view(len(x), count, tokens, -1)
        y = torch.roll(from_windows(y, window, padded.shape[1:4]), shift, dims=(1, 2, 3))
        return y[:, : size[0], : size[1], : size[2]]


class Block(nn.Module):
    """x [B, T, H, W, C] to the same."""

    def __init__(self, width: int, *, heads: int, window: Size3, shifted: bool) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads=heads, window=window, shifted=shifted)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = GeluMlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class Merge(nn.Module):
    """Between two stages: 2 x 2 tokens become one of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to(x, (1, 2, 2))
        # columns change slowest: upper left, lower left, upper right, lower right
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class VideoSwin(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`.

    Taps: "stem", "block0" ... (counted through all stages) and "grid" are maps [B, C, T', H', W'].
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.clip, self.activation = config, config.clip, config.activation
        self.num_classes = config.num_classes
        self.width = config.width * 2 ** (len(config.depths) - 1)
        self.taps = block_taps(sum(config.depths), tokens=False)
        self.patch_embed = nn.Conv3d(config.clip.channels, config.width, PATCH, stride=PATCH)
        self.patch_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList()
        self.merges = nn.ModuleDict()
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            width = config.width * 2**stage
            if stage:
                self.merges[str(len(self.blocks))] = Merge(width // 2)
            for i in range(depth):
                self.blocks.append(
                    Block(width, heads=heads, window=config.window, shifted=i % 2 == 1)
                )
        self.norm = nn.LayerNorm(self.width)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of any size to the named taps. Raises ClipError, UnknownName."""
        check_taps(taps, self.taps)
        check_clip(clip, channels=self.clip.channels, weights=self.norm.weight)
        found: dict[str, Tensor] = {}
        x = self.patch_embed(channels_first(pad_to(clip.movedim(1, -1), PATCH)))
        x = self.patch_norm(x.movedim(1, -1))
        found["stem"] = channels_first(x)
        for i, block in enumerate(self.blocks):
            if str(i) in self.merges:
                x = self.merges[str(i)](x)
            x = block(x)
            if f"block{i}" in taps:
                found[f"block{i}"] = channels_first(x)
        x = self.norm(x)
        found |= {"grid": channels_first(x), "pool": x.mean(dim=(1, 2, 3))}
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


SMALL = Config(depths=(2, 2, 18, 2))
BASE = replace(SMALL, width=128, heads=(4, 8, 16, 32))

VARIANTS: dict[str, Config] = {
    "swin3d_t_32x2": Config(),
    "swin3d_s_32x2": SMALL,
    "swin3d_b_32x2": BASE,
    "swin3d_l_32x2": replace(SMALL, width=192, heads=(6, 12, 24, 48)),
    "swin3d_b_32x2_ssv2": replace(
        BASE, window=(16, 7, 7), num_classes=174, clip=replace(CLIP, sampling="uniform")
    ),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    return VideoSwin(config)
