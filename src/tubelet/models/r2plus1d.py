"""Residual networks over space and time, with whole or factored kernels: R3D, MC3, R(2+1)D.

Tran, Wang, Torresani, Ray, LeCun & Paluri, "A Closer Look at Spatiotemporal Convolutions for Action
Recognition", CVPR 2018 (1711.11248), figure 1 and table 1. R(2+1)D-34 is also the network of TSP:
Alwassel, Giancola & Ghanem, "TSP: Temporally-Sensitive Pretraining", ICCVW 2021 (2011.11479).

    clip [B, 3, T, H, W]                     R3D         MC3        R(2+1)D           T     H    C
    stem   3 x 7 x 7 / 1,2,2                 whole       whole      1x7x7 - 3x1x1     T    H/2   64
    res2   2 basic blocks (34: 3)            3x3x3       3x3x3      1x3x3 - 3x1x1     T    H/2   64
    res3   2 (4), stride 2                   3x3x3       1x3x3      1x3x3 - 3x1x1    T/2   H/4  128
    res4   2 (6), stride 2                   3x3x3       1x3x3      1x3x3 - 3x1x1    T/4   H/8  256
    res5   2 (3), stride 2                   3x3x3       1x3x3      1x3x3 - 3x1x1    T/8   H/16 512
    grid   = res5; pool: its mean; classifier: 512 -> classes    (MC3 keeps its T throughout)

    a basic block: two such kernels, each with a norm, plus the shortcut (1x1x1 where it strides)

A factored kernel has M = floor(27 N' N / (9 N' + 3 N)) channels between space and time, N' in and N
out, so that it has as many weights as the whole one. Three readings of that exist in released
files: torchvision takes M of a block's first kernel for both ("block"), TSP, VMZ and ig65m that of
each kernel ("kernel"); mmaction2 factors the stem and the shortcuts by it too, and pools behind the
stem. Batch norm has epsilon 1e-5 at depth 18 and 1e-3 in the other two; mmaction2's norms between
space and time have 1e-5 all the same, since its configuration does not reach them.

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from tubelet.models.blocks.conv_norm import ConvNorm, ShortcutBlock, Size3, StagedNetwork, cube
from tubelet.models.blocks.resnet import STAGES
from tubelet.types import ClipSpec

Kernel = Literal["whole", "space", "factored"]
"""3 x 3 x 3, or 1 x 3 x 3, or 1 x 3 x 3 then 3 x 1 x 1."""

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
CLIP = ClipSpec(16, 2, 128, 112, mean=MEAN, std=STD, long_side=171)
"""15 frames per second, 128 x 171 whatever the aspect ratio: torchvision's and TSP's own tests."""

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Config:
    """kernels: of the stem, then of res2 to res5. middle: where a factored kernel's inner width
    comes from. mmaction2: its stem, pool and shortcuts. widths: of res2 to res5; the first is the
    stem's."""

    clip: ClipSpec = CLIP
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    kernels: tuple[Kernel, ...] = ("factored",) * 5
    middle: Literal["block", "kernel"] = "block"
    mmaction2: bool = False
    eps: float = 1e-5
    widths: tuple[int, ...] = WIDTHS
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def middle_width(inputs: int, outputs: int, *, side: int = 3) -> int:
    """Channels between a kernel's 1 x side x side and 3 x 1 x 1 (1711.11248, section 3.5)."""
    return 3 * side * side * inputs * outputs // (side * side * inputs + 3 * outputs)


def factored(
    config: Config, inputs: int, outputs: int, *, middle: int, stride: Size3, side: int, relu: bool
) -> list[ConvNorm]:
    """Space, then time; side 1 is a point in both."""
    time, inner = 3 if side > 1 else 1, 1e-5 if config.mmaction2 else config.eps
    return [
        ConvNorm(inputs, middle, kernel=(1, side, side), stride=(1, *stride[1:]), eps=inner),
        ConvNorm(
            middle, outputs, kernel=(time, 1, 1), stride=(stride[0], 1, 1), eps=config.eps,
            relu=relu,
        ),
    ]  # fmt: skip


def kernel(
    config: Config, kind: Kernel, inputs: int, outputs: int, *, middle: int, stride: int, relu: bool
) -> list[ConvNorm]:
    """One 3 x 3 x 3 of a block, or what stands for it."""
    if kind == "factored":
        return factored(
            config, inputs, outputs, middle=middle, stride=cube(stride), side=3, relu=relu
        )
    size, strides = (
        ((3, 3, 3), cube(stride)) if kind == "whole" else ((1, 3, 3), (1, stride, stride))
    )
    return [ConvNorm(inputs, outputs, kernel=size, stride=strides, eps=config.eps, relu=relu)]


def block(config: Config, kind: Kernel, inputs: int, outputs: int, *, stride: int) -> ShortcutBlock:
    """Two kernels and the shortcut."""
    first = middle_width(inputs, outputs)
    second = first if config.middle == "block" else middle_width(outputs, outputs)
    branch = nn.Sequential(
        *kernel(config, kind, inputs, outputs, middle=first, stride=stride, relu=True),
        *kernel(config, kind, outputs, outputs, middle=second, stride=1, relu=False),
    )
    if stride == 1 and inputs == outputs:
        return ShortcutBlock(branch, None)
    strides = (1, stride, stride) if kind == "space" else cube(stride)
    if config.mmaction2:
        middle = middle_width(inputs, outputs, side=1)
        skip = factored(config, inputs, outputs, middle=middle, stride=strides, side=1, relu=False)
    else:
        skip = [ConvNorm(inputs, outputs, stride=strides, eps=config.eps, relu=False)]
    return ShortcutBlock(branch, nn.Sequential(*skip))


def stem(config: Config) -> nn.Sequential:
    """3 x 7 x 7, stride 1,2,2; the factored one has 45 channels between (mmaction2: 83)."""
    width, channels = config.widths[0], config.clip.channels
    if config.kernels[0] == "whole":
        return nn.Sequential(
            ConvNorm(channels, width, kernel=(3, 7, 7), stride=(1, 2, 2), eps=config.eps)
        )
    middle = middle_width(channels, width, side=7) if config.mmaction2 else 45
    steps = factored(config, channels, width, middle=middle, stride=(1, 2, 2), side=7, relu=True)
    pool = (
        [nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))] if config.mmaction2 else []
    )
    return nn.Sequential(*steps, *pool)


def build(config: Config) -> nn.Module:
    """A randomly initialised network; width 512."""
    stages: dict[str, nn.Module] = {"stem": stem(config)}
    inputs = config.widths[0]
    for i, name in enumerate(STAGES[1:]):
        blocks = nn.Sequential()
        for j in range(config.blocks[i]):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(
                block(config, config.kernels[i + 1], inputs, config.widths[i], stride=stride)
            )
            inputs = config.widths[i]
        stages[name] = blocks
    return StagedNetwork(config, stages, width=inputs)


R34 = Config(blocks=(3, 4, 6, 3), middle="kernel", eps=1e-3)
MM_CLIP = ClipSpec(8, 8, 256, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

VARIANTS: dict[str, Config] = {
    "r3d_18": Config(kernels=("whole",) * 5),
    "mc3_18": Config(kernels=("whole", "whole", "space", "space", "space")),
    "r2plus1d_18": Config(),
    "r2plus1d_34": R34,
    "r2plus1d_34_mm_8x8": replace(R34, mmaction2=True, clip=MM_CLIP),
    "r2plus1d_34_mm_32x2": replace(
        R34, mmaction2=True, clip=replace(MM_CLIP, frames=32, interval=2)
    ),
}
