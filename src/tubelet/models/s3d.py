"""S3D: Inception over space and time with separable kernels, as trained on Kinetics and by MIL-NCE.

Xie, Sun, Huang, Tu & Murphy, "Rethinking Spatiotemporal Feature Learning", ECCV 2018 (1712.04851),
figure 1(d) and section 4; with gates (S3D-G) section 5. The second network is that of Miech et al.,
"End-to-End Learning of Visual Representations from Uncurated Instructional Videos", CVPR 2020
(1912.06430).

    clip [B, 3, T, H, W]                      Kinetics              MIL-NCE          T     H     C
    stem     7x7x7 / 2                        1x7x7 - 7x1x1         see below       T/2   H/2    64
    pool2a   1x3x3 / 1,2,2                                                          T/2   H/4    64
    conv2b 1x1x1   conv2c 3x3x3                                     gate            T/2   H/4   192
    pool3a   1x3x3 / 1,2,2   mixed3b mixed3c                        gates           T/2   H/8  480
    pool4a   3x3x3 / 2       mixed4b ... mixed4f                    gates           T/4   H/16 832
    pool5a   2x2x2 / 2       mixed5b mixed5c                        gates          T/8   H/32 1024
    grid     Kinetics: average over 2x7x7, stride 1; MIL-NCE: = mixed5c
    pool     mean of grid [1024]; classifier: 1024 -> 400, or to the 512 of MIL-NCE's text space

    an inception block: `i3d`'s, with every 3x3x3 as 1x3x3 - 3x1x1 (norm and ReLU behind both)
    gate:  x * sigmoid(linear(mean of x over time and space))
    MIL-NCE's stem: pixels of 2x2x2 cells become 24 channels (t, h, w, colour; colour changes
    fastest), a 2x4x4 convolution follows, and the first cell of each axis goes.

Kinetics: at least 14 frames of 224 x 224. MIL-NCE: RGB in [0, 1] without mean and standard
deviation; T, H and W even.

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError
from tubelet.models.blocks.conv_norm import ConvNorm, StagedNetwork
from tubelet.models.i3d import MIXED
from tubelet.models.r2plus1d import MEAN, STD
from tubelet.types import ClipSpec

KINETICS = ClipSpec(128, 2, 256, 224, mean=MEAN, std=STD, long_side=256)
"""15 frames per second, squashed to 256 x 256: torchvision's test."""
RAW = ClipSpec(32, 2, 224, 224, mean=(0.0,) * 3, std=(1.0,) * 3)


@dataclass(frozen=True)
class Config:
    """milnce: gates, the stem of cells, TensorFlow's pools, epsilon 1e-5, no window in the head."""

    clip: ClipSpec = KINETICS
    milnce: bool = False
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"

    @property
    def eps(self) -> float:
        return 1e-5 if self.milnce else 1e-3


class Gate(nn.Module):
    """Weights of the channels from their means (1712.04851, section 5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean(dim=(2, 3, 4))).sigmoid()[:, :, None, None, None]


class Cells(nn.Module):
    """[B, C, T, H, W] to [B, 8 C, T/2, H/2, W/2]: a 2 x 2 x 2 cell becomes channels."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, time, height, width = x.shape
        x = x.view(batch, channels, time // 2, 2, height // 2, 2, width // 2, 2)
        x = x.permute(0, 3, 5, 7, 1, 2, 4, 6)
        return x.reshape(batch, 8 * channels, time // 2, height // 2, width // 2)


class DropFirst(nn.Module):
    """Leave out the first cell of each axis: the padding that TensorFlow's SAME does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:, 1:, 1:]


class PoolAtEnd(nn.Module):
    """Max pool padded by kernel - stride zeros, the odd one behind, partial windows included.

    The padding does not depend on the size, unlike SAME: the authors' port has it so.
    """

    def __init__(self, kernel: tuple[int, ...], *, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.pads = [
            pad
            for k, s in zip(reversed(kernel), reversed(stride), strict=True)
            for pad in ((k - s) // 2, k - s - (k - s) // 2)
        ]

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(F.pad(x, self.pads), self.kernel, self.stride, ceil_mode=True)


class SeparableInception(nn.Module):
    """Four branches, joined along the channels; `gate0` ... where the network has gates."""

    def __init__(self, inputs: int, widths: tuple[int, ...], *, config: Config) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        eps = config.eps
        self.branch0 = ConvNorm(inputs, one, eps=eps)
        self.branch1 = nn.Sequential(
            ConvNorm(inputs, reduce3, eps=eps), *separable(reduce3, three, side=3, eps=eps)
        )
        self.branch2 = nn.Sequential(
            ConvNorm(inputs, reduce5, eps=eps), *separable(reduce5, five, side=3, eps=eps)
        )
        pool = nn.MaxPool3d((3, 3, 3), stride=1, padding=1)
        self.branch3 = nn.Sequential(pool, ConvNorm(inputs, pooled, eps=eps))
        outputs = (one, three, five, pooled)
        self.gates = nn.ModuleList(Gate(width) for width in outputs if config.milnce)

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        found = [branch(x) for branch in branches]
        if self.gates:
            found = [gate(y) for gate, y in zip(self.gates, found, strict=True)]
        return torch.cat(found, dim=1)


def separable(
    inputs: int, outputs: int, *, side: int, eps: float, stride: int = 1
) -> list[ConvNorm]:
    """Space, then time, both with norm and ReLU."""
    return [
        ConvNorm(inputs, outputs, kernel=(1, side, side), stride=(1, stride, stride), eps=eps),
        ConvNorm(outputs, outputs, kernel=(side, 1, 1), stride=(stride, 1, 1), eps=eps),
    ]


def max_pool(
    config: Config, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> nn.Module:
    """torchvision pads odd kernels by half; 2 x 2 x 2 not at all."""
    if config.milnce:
        return PoolAtEnd(kernel, stride=stride)
    time, height, width = (k // 2 if k == 3 else 0 for k in kernel)
    return nn.MaxPool3d(kernel, stride=stride, padding=(time, height, width))


def stem(config: Config) -> nn.Sequential:
    channels = config.clip.channels
    if not config.milnce:
        return nn.Sequential(*separable(channels, 64, side=7, eps=config.eps, stride=2))
    cells = ConvNorm(8 * channels, 64, kernel=(2, 4, 4), padding=(1, 2, 2), eps=config.eps)
    return nn.Sequential(Cells(), cells, DropFirst())


def even(clip: Tensor) -> None:
    """Raises ClipError where a 2 x 2 x 2 cell would not be whole."""
    if any(n % 2 for n in clip.shape[2:]):
        raise ClipError(
            f"this network takes even numbers of frames, rows and columns; the clip has "
            f"{' x '.join(map(str, clip.shape[2:]))}: change --window or --crop"
        )


def build(config: Config) -> nn.Module:
    """A randomly initialised network; width 1024."""
    conv2c = nn.Sequential(*separable(64, 192, side=3, eps=config.eps))
    if config.milnce:
        conv2c.append(Gate(192))
    stages: dict[str, nn.Module] = {
        "stem": stem(config),
        "pool2a": max_pool(config, (1, 3, 3), (1, 2, 2)),
        "conv2b": ConvNorm(64, 64, eps=config.eps),
        "conv2c": conv2c,
        "pool3a": max_pool(config, (1, 3, 3), (1, 2, 2)),
    }
    pools = {"mixed4b": ((3, 3, 3), "pool4a"), "mixed5b": ((2, 2, 2), "pool5a")}
    for name, (inputs, widths) in MIXED.items():
        if name in pools:
            kernel, pool = pools[name]
            stages[pool] = max_pool(config, kernel, (2, 2, 2))
        stages[name] = SeparableInception(inputs, widths, config=config)
    if config.milnce:
        # Smaller maps would vanish in the pools.
        return StagedNetwork(config, stages, width=1024, least=(2, 32), check=even)
    return StagedNetwork(config, stages, width=1024, window=(2, 7, 7), least=(14, 224))


VARIANTS: dict[str, Config] = {
    "s3d": Config(),
    "s3d_milnce": Config(clip=RAW, milnce=True, num_classes=512, activation="none"),
}
