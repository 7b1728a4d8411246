"""Channel-separated networks: ir-CSN and ip-CSN.

Tran, Wang, Torresani & Feiszli, "Video Classification with Channel-Separated Convolutional
Networks", ICCV 2019 (1904.02811), figures 2 and 3, table 1.

    clip [B, 3, T, H, W]                                          T      H     channels
    stem    3 x 7 x 7 / 1,2,2, max pool 1 x 3 x 3 / 1,2,2         T     H/4      64
    res2    3 blocks                                              T     H/4     256
    res3    4 blocks (R152: 8)             stride 2              T/2    H/8     512
    res4    6 blocks (R101: 23, R152: 36)  stride 2              T/4    H/16   1024
    res5    3 blocks                       stride 2              T/8    H/32   2048
    grid    = res5; pool: its mean; classifier: 2048 -> classes

    a bottleneck block, plus the shortcut; every convolution has a norm:
    interaction-reduced (ir)     1 x 1 x 1  -                 3 x 3 x 3 depthwise  -  1 x 1 x 1
    interaction-preserved (ip)   1 x 1 x 1  -  1 x 1 x 1  -   3 x 3 x 3 depthwise  -  1 x 1 x 1

Channels mix in the 1 x 1 x 1 only, space and time in the depthwise ones only. The additional
1 x 1 x 1 of ip has no ReLU behind its norm.

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from tubelet.models.blocks.conv_norm import ConvNorm, ShortcutBlock, Size3, StagedNetwork, cube
from tubelet.models.blocks.resnet import DEPTHS, STAGES
from tubelet.types import ClipSpec

IMAGENET = ClipSpec(32, 2, 256, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Config:
    """preserve: the interaction-preserved block. width: channels of the stem; stages put out 4, 8,
    16 and 32 times as many. eps: of the batch norms. head: cells (time, height, width) of the
    windows whose mean is the row; None: all of them."""

    clip: ClipSpec = IMAGENET
    blocks: tuple[int, ...] = DEPTHS[152]
    preserve: bool = False
    eps: float = 1e-3
    width: int = 64
    head: Size3 | None = None
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def block(config: Config, channels: Size3, *, stride: int) -> ShortcutBlock:
    """channels: in, inner, out."""
    inputs, inner, outputs = channels
    strides, eps = cube(stride), config.eps
    branch = nn.Sequential(ConvNorm(inputs, inner, eps=eps))
    if config.preserve:
        branch.append(ConvNorm(inner, inner, eps=eps, relu=False))
    branch.append(ConvNorm(inner, inner, kernel=(3, 3, 3), stride=strides, groups=inner, eps=eps))
    branch.append(ConvNorm(inner, outputs, eps=eps, relu=False))
    if stride == 1 and inputs == outputs:
        return ShortcutBlock(branch, None)
    skip = ConvNorm(inputs, outputs, stride=strides, eps=eps, relu=False)
    return ShortcutBlock(branch, nn.Sequential(skip))


def build(config: Config) -> nn.Module:
    """A randomly initialised network; width 2048."""
    inputs = config.width
    stem = nn.Sequential(
        ConvNorm(config.clip.channels, inputs, kernel=(3, 7, 7), stride=(1, 2, 2), eps=config.eps),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )
    stages: dict[str, nn.Module] = {"stem": stem}
    for i, name in enumerate(STAGES[1:]):
        blocks = nn.Sequential()
        inner = config.width * 2**i
        for j in range(config.blocks[i]):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(block(config, (inputs, inner, 4 * inner), stride=stride))
            inputs = 4 * inner
        stages[name] = blocks
    return StagedNetwork(config, stages, width=inputs, window=config.head)


PYTORCHVIDEO = ClipSpec(32, 2, 256, 256)

VARIANTS: dict[str, Config] = {
    "ir_csn_r152_32x2": Config(),
    "ip_csn_r152_32x2": Config(preserve=True),
    "ir_csn_r50_32x2": Config(blocks=DEPTHS[50]),
    # PyTorchVideo: another epsilon and head; mean and deviation are those of its recipe, as the
    # source names none.
    "ir_csn_r101_32x2": Config(PYTORCHVIDEO, blocks=DEPTHS[101], eps=1e-5, head=(4, 7, 7)),
}
