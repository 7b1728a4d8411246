"""One ResNet pathway, stem to res5: what C2D, I3D, Slow and both pathways of SlowFast are made of.

    ResNetLayout, trunk()       the layers as numbers, in the papers' terms
    Stem                 t x 7 x 7, norm, ReLU, max pool
    Bottleneck, Basic    a block; `stage` stacks them, with non-local blocks behind some

The tables of the papers and their networks are in `resnet3d` and `slowfast`. Axes: B batch,
C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.models.blocks.nonlocal_block import NonLocal, NonLocals

STAGES = ("stem", "res2", "res3", "res4", "res5")
NO_NONLOCALS = (NonLocals(),) * 4

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of res2 to res5."""

C2D = (1, (1,), (1,), (1,), (1,))
I3D = (5, (3,), (3, 1), (3, 1), (1, 3))
I3D_HEAVY = (5, (3,), (3,), (3,), (3,))
SLOW = (1, (1,), (1,), (3,), (3,))
"""Kernels in time: of the stem, then of the blocks of res2 to res5, repeated as often as needed."""

Times = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class ResNetLayout:
    """The layers of one pathway, stem to res5.

    stem: channels behind the stem. stem_stride: its stride in time. stem_pool: window and stride
    in time, padding in space, of the max pool behind it; None: no pool. widths, inner: channels
    that a block of res2 to res5 puts out, and those of its 3 x 3 convolution. times: kernel in
    time of every block. strides and dilations are in space, of a stage's first block and of all
    its blocks.
    stride_in_1x1: the stride sits in the first convolution of a block, not in the 3 x 3 one.
    groups > 1 is a ResNeXt.
    """

    stem: int
    stem_time: int
    widths: tuple[int, ...]
    inner: tuple[int, ...]
    times: tuple[tuple[int, ...], ...]
    stem_stride: int = 1
    stem_pool: tuple[int, int, int] | None = (1, 1, 1)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    groups: int = 1
    block: Literal["bottleneck", "basic"] = "bottleneck"
    stride_in_1x1: bool = False
    nonlocals: tuple[NonLocals, ...] = NO_NONLOCALS


def trunk(
    times: Times,
    *,
    depth: int = 50,
    temporal_blocks: Sequence[int] | None = None,
    width: int = 64,
    groups: int = 1,
    beta_inv: int = 1,
) -> ResNetLayout:
    """A trunk in the papers' terms. Raises UsageError for an unknown depth.

    Only the first `temporal_blocks` of each stage convolve in time (all, where None). `width` is
    that of one group. beta_inv: 1 / beta of the Fast pathway (1812.03982, section 3.2).
    """
    if depth not in DEPTHS:
        raise UsageError(f"no ResNet of depth {depth}; there are: {', '.join(map(str, DEPTHS))}")
    kernels: list[tuple[int, ...]] = []
    for stage, blocks in enumerate(DEPTHS[depth]):
        temporal = blocks if temporal_blocks is None else temporal_blocks[stage]
        if not 0 <= temporal <= blocks:
            raise UsageError(
                f"res{stage + 2} has {blocks} blocks; {temporal} of them cannot convolve in time"
            )
        pattern = times[1 + stage]
        assert isinstance(pattern, tuple)
        kernels.append((pattern * blocks)[:temporal] + (1,) * (blocks - temporal))
    return ResNetLayout(
        stem=width // beta_inv,
        stem_time=times[0],
        widths=tuple(width * 4 * 2**i // beta_inv for i in range(4)),
        inner=tuple(groups * width * 2**i // beta_inv for i in range(4)),
        times=tuple(kernels),
        groups=groups,
    )


class Stem(nn.Module):
    """t x 7 x 7, norm, ReLU, 1 x 3 x 3 max pool: [B, 3, T, H, W] to [B, C, T, H/4, W/4]."""

    def __init__(self, inputs: int, spec: ResNetLayout) -> None:
        super().__init__()
        time = spec.stem_time
        self.conv = nn.Conv3d(
            inputs, spec.stem, (time, 7, 7), stride=(spec.stem_stride, 2, 2),
            padding=(time // 2, 3, 3), bias=False,
        )  # fmt: skip
        self.bn = nn.BatchNorm3d(spec.stem)
        self.pool = nn.Identity()
        if spec.stem_pool is not None:
            window, stride, padding = spec.stem_pool
            self.pool = nn.MaxPool3d(
                (window, 3, 3), stride=(stride, 2, 2), padding=(0, padding, padding)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.bn(self.conv(x)), inplace=True))


class Bottleneck(nn.Module):
    """ReLU(shortcut(x) + c(b(a(x)))): t x 1 x 1, 1 x 3 x 3, 1 x 1 x 1. channels: in, inner, out."""

    def __init__(
        self,
        channels: tuple[int, int, int],
        *,
        time: int,
        stride: int,
        dilation: int,
        groups: int,
        stride_in_1x1: bool,
    ) -> None:
        super().__init__()
        inputs, inner, outputs = channels
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False)
            self.shortcut_bn = nn.BatchNorm3d(outputs)
        self.conv_a = nn.Conv3d(
            inputs, inner, (time, 1, 1), stride=(1, first, first), padding=(time // 2, 0, 0),
            bias=False,
        )  # fmt: skip
        self.bn_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(
            inner, inner, (1, 3, 3), stride=(1, second, second), padding=(0, dilation, dilation),
            dilation=(1, dilation, dilation), groups=groups, bias=False,
        )  # fmt: skip
        self.bn_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, outputs, 1, bias=False)
        self.bn_c = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn_a(self.conv_a(x)), inplace=True)
        y = F.relu(self.bn_b(self.conv_b(y)), inplace=True)
        y = self.bn_c(self.conv_c(y))
        if self.shortcut is not None:
            x = self.shortcut_bn(self.shortcut(x))
        return F.relu(x + y, inplace=True)


class Basic(nn.Module):
    """ReLU(shortcut(x) + b(a(x))): t x 3 x 3, 1 x 3 x 3; the block of a ResNet-18."""

    def __init__(self, channels: tuple[int, int], *, time: int, stride: int, dilation: int) -> None:
        super().__init__()
        inputs, outputs = channels
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False)
            self.shortcut_bn = nn.BatchNorm3d(outputs)
        self.conv_a = nn.Conv3d(
            inputs, outputs, (time, 3, 3), stride=(1, stride, stride), padding=(time // 2, 1, 1),
            bias=False,
        )  # fmt: skip
        self.bn_a = nn.BatchNorm3d(outputs)
        self.conv_b = nn.Conv3d(
            outputs, outputs, (1, 3, 3), padding=(0, dilation, dilation),
            dilation=(1, dilation, dilation), bias=False,
        )  # fmt: skip
        self.bn_b = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn_a(self.conv_a(x)), inplace=True)
        y = self.bn_b(self.conv_b(y))
        if self.shortcut is not None:
            x = self.shortcut_bn(self.shortcut(x))
        return F.relu(x + y, inplace=True)


def stage(spec: ResNetLayout, index: int, *, inputs: int) -> nn.Sequential:
    """res2 (index 0) to res5 (3): blocks "0", "1", ..., with "nonlocal1" behind block 1."""
    width, inner, dilation = spec.widths[index], spec.inner[index], spec.dilations[index]
    nonlocals = spec.nonlocals[index]
    blocks = nn.Sequential()
    for i, time in enumerate(spec.times[index]):
        stride = spec.strides[index] if i == 0 else 1
        if spec.block == "basic":
            block = Basic((inputs, width), time=time, stride=stride, dilation=dilation)
        else:
            block = Bottleneck(
                (inputs, inner, width), time=time, stride=stride, dilation=dilation,
                groups=spec.groups, stride_in_1x1=spec.stride_in_1x1,
            )  # fmt: skip
        blocks.add_module(str(i), block)
        if i in nonlocals.after:
            blocks.add_module(f"nonlocal{i}", NonLocal.of(nonlocals, width))
        inputs = width
    return blocks
