"""X3D: Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020.

arXiv 2004.04730. A tiny 2D network is expanded along time, space, width, depth and bottleneck
width (section 3, table 1); what comes out is a ResNet of channelwise 3 x 3 x 3 convolutions.

    clip [B, 3, T, H, W]                                            stride in
                                                       blocks       space    channels (XS to L)
    stem    1 x 3 x 3, then channelwise 5 x 1 x 1                      2          24
    res2                                               1 x depth       4          24
    res3                                               2 x depth       8          48
    res4                                               5 x depth      16          96
    res5                                               3 x depth      32         192
    conv5   1 x 1 x 1, norm, ReLU                                     32         432
    grid    average over windows of the training clip's size, lin5 1 x 1 x 1, ReLU:      2048
    pool    mean of grid; classifier: 2048 -> classes

    a block:  1 x 1 x 1 - channelwise 3 x 3 x 3 - (squeeze-excitation) - swish - 1 x 1 x 1, each
              convolution with a norm, plus the shortcut; squeeze-excitation in blocks 0, 2, 4, ...

RGB in, always (see resnet3d). Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.layers import (
    check_clip,
    check_taps,
    classifier,
    he_init,
    keep,
    scores,
    windows,
)
from tubelet.types import ClipSpec

STAGES = ("stem", "res2", "res3", "res4", "res5", "conv5")
BLOCKS = (1, 2, 5, 3)  # of X2D, the network before the expansion (table 1)
STAGE_GROWTH = 2.0
SQUEEZE = 1 / 16


@dataclass(frozen=True)
class Config:
    """The expansion factors, by their symbols in the paper (section 3.1).

    width: gamma_w, widths are rounded to multiples of `width_divisor`. depth: gamma_d. bottleneck:
    gamma_b. clip.frames and clip.interval stand for gamma_t and gamma_tau, train_crop for gamma_s:
    the test head averages windows of that size. stem: channels before widening. lin5: the width
    of "pool"; lin5_norm puts a norm before its ReLU. grow_res2: res2 has twice as many channels
    as the stem. channelwise: the 3 x 3 x 3 convolution sees one channel, else it has `groups`.
    dilations: in space, of res2 to res5. global_pool: the mean over the whole grid instead of
    windows, for networks trained with several sizes of clip (1912.00998).
    """

    clip: ClipSpec
    train_crop: int
    width: float = 2.0
    width_divisor: int = 1
    depth: float = 2.2
    bottleneck: float = 2.25
    stem: int = 12
    lin5: int = 2048
    lin5_norm: bool = False
    grow_res2: bool = False
    channelwise: bool = True
    groups: int = 1
    stride_in_1x1: bool = False
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1)
    global_pool: bool = False
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def round_width(width: int, factor: float, *, divisor: int = 1, least: int = 1) -> int:
    """`width` x `factor`, rounded to a multiple of `divisor`, never more than a tenth below."""
    exact = width * factor
    rounded = max(least, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * exact else rounded


def widen(config: Config, channels: int) -> int:
    divisor = config.width_divisor
    return round_width(channels, config.width, divisor=divisor, least=divisor)


def stage_widths(config: Config) -> tuple[int, ...]:
    """Channels of res2 to res5."""
    base = config.stem
    if config.grow_res2:
        base = round_width(base, STAGE_GROWTH, divisor=8)
    widths = [base]
    for _ in range(3):
        widths.append(round_width(widths[-1], STAGE_GROWTH, divisor=8))
    return tuple(widen(config, n) for n in widths)


class Stem(nn.Module):
    """1 x 3 x 3, then channelwise 5 x 1 x 1, norm, ReLU: [B, 3, T, H, W] to [B, C, T, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_space = nn.Conv3d(
            inputs, outputs, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        self.conv_time = nn.Conv3d(
            outputs, outputs, (5, 1, 1), padding=(2, 0, 0), groups=outputs, bias=False
        )
        self.bn = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv_time(self.conv_space(x))), inplace=True)


class SqueezeExcitation(nn.Module):
    """Each channel times a weight in (0, 1) that the means of all channels give (1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_width(channels, SQUEEZE, divisor=8, least=8)
        self.reduce = nn.Conv3d(channels, squeezed, 1)
        self.expand = nn.Conv3d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean(dim=(2, 3, 4), keepdim=True)
        return x * self.expand(F.relu(self.reduce(y))).sigmoid()


class Block(nn.Module):
    """The block of the table above. channels: in, inner, out."""

    def __init__(
        self,
        channels: tuple[int, int, int],
        *,
        stride: int,
        dilation: int,
        groups: int,
        stride_in_1x1: bool,
        squeeze: bool,
    ) -> None:
        super().__init__()
        inputs, inner, outputs = channels
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False)
            self.shortcut_bn = nn.BatchNorm3d(outputs)
        self.conv_a = nn.Conv3d(inputs, inner, 1, stride=(1, first, first), bias=False)
        self.bn_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(
            inner, inner, 3, stride=(1, second, second), padding=(1, dilation, dilation),
            dilation=(1, dilation, dilation), groups=groups, bias=False,
        )  # fmt: skip
        self.bn_b = nn.BatchNorm3d(inner)
        self.se = SqueezeExcitation(inner) if squeeze else nn.Identity()
        self.conv_c = nn.Conv3d(inner, outputs, 1, bias=False)
        self.bn_c = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn_a(self.conv_a(x)), inplace=True)
        y = F.silu(self.se(self.bn_b(self.conv_b(y))))  # swish is SiLU
        y = self.bn_c(self.conv_c(y))
        if self.shortcut is not None:
            x = self.shortcut_bn(self.shortcut(x))
        return F.relu(x + y, inplace=True)


def stage(config: Config, index: int, *, inputs: int) -> nn.Sequential:
    """res2 (index 0) to res5 (3): blocks "0", "1", ..."""
    width = stage_widths(config)[index]
    inner = int(config.bottleneck * width)
    blocks = nn.Sequential()
    for i in range(ceil(config.depth * BLOCKS[index])):
        block = Block(
            (inputs if i == 0 else width, inner, width),
            stride=2 if i == 0 else 1,
            dilation=config.dilations[index],
            groups=inner if config.channelwise else config.groups,
            stride_in_1x1=config.stride_in_1x1,
            squeeze=i % 2 == 0,
        )
        blocks.add_module(str(i), block)
    return blocks


class X3D(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip, self.activation = config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.lin5
        self.taps = (*STAGES, "grid", "dense_logits", "pool")
        side = ceil(config.train_crop / 32)
        self.window = None if config.global_pool else (config.clip.frames, side, side)

        stem = widen(config, config.stem)
        widths = stage_widths(config)
        inner = int(config.bottleneck * widths[-1])
        self.stem = Stem(config.clip.channels, stem)
        self.res2 = stage(config, 0, inputs=stem)
        self.res3 = stage(config, 1, inputs=widths[0])
        self.res4 = stage(config, 2, inputs=widths[1])
        self.res5 = stage(config, 3, inputs=widths[2])
        self.conv5 = nn.Conv3d(widths[-1], inner, 1, bias=False)
        self.conv5_bn = nn.BatchNorm3d(inner)
        self.lin5 = nn.Conv3d(inner, config.lin5, 1, bias=False)
        self.lin5_bn = nn.BatchNorm3d(config.lin5) if config.lin5_norm else nn.Identity()
        self.classifier = classifier(config.lin5, config.num_classes)

    def maps(self, clip: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The stages' outputs, in order."""
        x = self.stem(clip)
        yield "stem", x
        x = self.res2(x)
        yield "res2", x
        x = self.res3(x)
        yield "res3", x
        x = self.res4(x)
        yield "res4", x
        x = self.res5(x)
        yield "res5", x
        x = F.relu(self.conv5_bn(self.conv5(x)), inplace=True)
        yield "conv5", x
        x = F.relu(self.lin5_bn(self.lin5(windows(x, self.window))), inplace=True)
        yield "grid", x

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, C, T, H, W] to the named taps. Raises ClipError, UnknownName.

        Stages are maps [B, D, T, H', W']; "grid" [B, 2048, t, h, w] has one position per window
        of the training clip's size, "pool" [B, 2048] is its mean, "dense_logits"
        [B, t, h, w, classes] the classifier at every position.
        """
        check_taps(taps, self.taps)
        check_clip(
            clip, channels=self.clip.channels,
            min_frames=self.clip.frames if self.window else 1, min_side=32,
            weights=next(self.parameters()),
        )  # fmt: skip
        found = keep(self.maps(clip), {tap if tap in STAGES else "grid" for tap in taps})
        if "pool" in taps:
            found["pool"] = found["grid"].mean(dim=(2, 3, 4))
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["grid"].movedim(1, -1))
        return {tap: found[tap] for tap in taps}

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]: the classifier on "pool"."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes] of the reference's test head: activation per window, then mean."""
        return scores(self.features(clip, ("dense_logits",))["dense_logits"], self.activation)


# Tables 3 and 4. Crops are those of one centre view; the reference's three views take
# squares of the short side instead. XL has no released weights.
VARIANTS: dict[str, Config] = {
    "x3d_xs": Config(ClipSpec(4, 12, 182, 160), 160),
    "x3d_s": Config(ClipSpec(13, 6, 182, 160), 160),
    "x3d_m": Config(ClipSpec(16, 5, 256, 224), 224),
    "x3d_l": Config(ClipSpec(16, 5, 356, 312), 312, depth=5.0),
    "x3d_xl": Config(ClipSpec(16, 5, 356, 312), 312, width=2.9, width_divisor=8, depth=5.0),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    model = X3D(config)
    he_init(model)
    return model
