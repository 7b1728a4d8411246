"""Inception-v1 I3D: Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017.

The paper's figure 3: Inception-v1 with every k x k kernel inflated to k x k x k, TensorFlow's SAME
padding, batch norm (epsilon 1e-3, no learned scale in the released weights) and ReLU after every
convolution but the last. Any number of frames >= 8 and any crop >= 32 pixels.

    clip [B, C, T, H, W]                                                    T     H     channels
    stem    7x7x7 / 2                                                      T/2   H/2      64
    pool2a  1x3x3 / 1,2,2   conv2b 1x1x1   conv2c 3x3x3                    T/2   H/4     192
    pool3a  1x3x3 / 1,2,2   mixed3b mixed3c                                T/2   H/8     480
    pool4a  3x3x3 / 2       mixed4b mixed4c mixed4d mixed4e mixed4f        T/4   H/16    832
    pool5a  2x2x2 / 2       mixed5b mixed5c                                T/8   H/32   1024
    grid    average over 2x7x7, stride 1, clipped to the map             T/8-1  H/32-6  1024
    pool    mean of grid; classifier: 1024 -> classes

    an inception block (mixed3b ...): four branches side by side, joined along the channels
    branch0  1x1x1
    branch1  1x1x1 (reduce)  3x3x3
    branch2  1x1x1 (reduce)  3x3x3
    branch3  max pool 3x3x3 / 1  1x1x1

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.layers import check_clip, check_taps, classifier, unrounded
from tubelet.types import ClipSpec

HALF = (0.5, 0.5, 0.5)  # pixels in [0, 1] go to [-1, 1]
RGB = ClipSpec(64, 1, 256, 224, mean=HALF, std=HALF)
MIN_FRAMES, MIN_SIDE = 8, 32

# Input channels of an inception block, then the outputs of branch 0, reduce and branch 1, reduce
# and branch 2, branch 3 (GoogLeNet, Szegedy et al. 2014, table 1).
MIXED = {
    "mixed3b": (192, (64, 96, 128, 16, 32, 32)),
    "mixed3c": (256, (128, 128, 192, 32, 96, 64)),
    "mixed4b": (480, (192, 96, 208, 16, 48, 64)),
    "mixed4c": (512, (160, 112, 224, 24, 64, 64)),
    "mixed4d": (512, (128, 128, 256, 24, 64, 64)),
    "mixed4e": (512, (112, 144, 288, 32, 64, 64)),
    "mixed4f": (528, (256, 160, 320, 32, 128, 128)),
    "mixed5b": (832, (256, 160, 320, 32, 128, 128)),
    "mixed5c": (832, (384, 192, 384, 48, 128, 128)),
}
STAGES = (
    "stem", "pool2a", "conv2b", "conv2c", "pool3a", "mixed3b", "mixed3c", "pool4a",
    "mixed4b", "mixed4c", "mixed4d", "mixed4e", "mixed4f", "pool5a", "mixed5b", "mixed5c",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """`clip.channels` is 3 for RGB and 2 for optical flow (horizontal, vertical)."""

    clip: ClipSpec = RGB
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd cell of padding at the end.

    Returned as F.pad wants it: the last axis first, before and after.
    """
    pads: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return pads


class Unit(nn.Module):
    """Convolution (SAME, no bias), batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.kernel_size != (1, 1, 1):
            x = F.pad(x, same_padding(x.shape[2:], self.conv.kernel_size, self.conv.stride))
        return F.relu(self.bn(self.conv(x)), inplace=True)


class MaxPool(nn.Module):
    """Max pool with SAME padding; padded cells never win."""

    def __init__(self, kernel: tuple[int, int, int], *, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        pads = same_padding(x.shape[2:], self.kernel, self.stride)
        return F.max_pool3d(F.pad(x, pads, value=float("-inf")), self.kernel, self.stride)


class Inception(nn.Module):
    """Four branches, joined along the channels."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.branch0 = Unit(inputs, one)
        self.branch1_reduce = Unit(inputs, reduce3)
        self.branch1 = Unit(reduce3, three, kernel=3)
        self.branch2_reduce = Unit(inputs, reduce5)
        self.branch2 = Unit(reduce5, five, kernel=3)
        self.branch3 = Unit(inputs, pooled)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool3d(x, 3, stride=1, padding=1)
        return torch.cat(
            [
                self.branch0(x),
                self.branch1(self.branch1_reduce(x)),
                self.branch2(self.branch2_reduce(x)),
                self.branch3(pooled),
            ],
            dim=1,
        )


class InceptionI3D(nn.Module):
    """The network of the paper's figure 3. Satisfies `types.VideoModel`; width 1024."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip = config.clip
        self.num_classes = config.num_classes
        self.activation = config.activation
        self.width = 1024
        self.taps = (*STAGES, "grid", "dense_logits", "pool")

        self.stem = Unit(config.clip.channels, 64, kernel=7, stride=2)
        self.pool2a = MaxPool((1, 3, 3), stride=(1, 2, 2))
        self.conv2b = Unit(64, 64)
        self.conv2c = Unit(64, 192, kernel=3)
        self.pool3a = MaxPool((1, 3, 3), stride=(1, 2, 2))
        self.pool4a = MaxPool((3, 3, 3), stride=(2, 2, 2))
        self.pool5a = MaxPool((2, 2, 2), stride=(2, 2, 2))
        for name, (inputs, widths) in MIXED.items():
            setattr(self, name, Inception(inputs, widths))
        self.classifier = classifier(self.width, config.num_classes)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, C, T >= 8, H >= 32, W >= 32] to the named taps. Raises ClipError, UnknownName.

        "grid" [B, 1024, T', H', W'] holds the positions of the head's average pool and "pool"
        [B, 1024] their mean.
        """
        check_taps(taps, self.taps)
        check_clip(
            clip, channels=self.clip.channels, min_frames=MIN_FRAMES, min_side=MIN_SIDE,
            weights=next(self.parameters()),
        )  # fmt: skip
        found: dict[str, Tensor] = {}
        x = clip
        for name in STAGES:
            x = getattr(self, name)(x)
            if name in taps:
                found[name] = x
        kernel = [min(k, n) for k, n in zip((2, 7, 7), x.shape[2:], strict=True)]
        found["grid"] = F.avg_pool3d(unrounded(x), kernel, stride=1)
        found["pool"] = found["grid"].mean(dim=(2, 3, 4))
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["grid"].movedim(1, -1))
        return {name: found[name] for name in taps}

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]: the mean over positions, since the classifier is linear."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes] of the paper's test: activation of the mean logits."""
        logits = self(clip)
        if self.activation == "softmax":
            return logits.softmax(dim=-1)
        return logits.sigmoid() if self.activation == "sigmoid" else logits


FLOW = ClipSpec(64, 1, 256, 224, mean=HALF[:2], std=HALF[:2], channels=2)

# One network; "scratch" and "imagenet" say where training started.
VARIANTS: dict[str, Config] = {
    "i3d_inception_rgb": Config(),
    "i3d_inception_rgb_scratch": Config(),
    "i3d_inception_rgb_imagenet": Config(),
    "i3d_inception_flow": Config(clip=FLOW),
    "i3d_inception_flow_scratch": Config(clip=FLOW),
    "i3d_inception_flow_imagenet": Config(clip=FLOW),
}


def build(config: Config) -> nn.Module:
    return InceptionI3D(config)
