"""ResNets over space and time: C2D, I3D-ResNet, Slow, each with or without non-local blocks.

C2D and I3D: Wang, Girshick, Gupta & He, "Non-local Neural Networks", CVPR 2018 (1711.07971), table
1 and section 4; the inflated network is Carreira & Zisserman's idea (1705.07750) on a ResNet.
Slow: Feichtenhofer, Fan, Malik & He, "SlowFast Networks", ICCV 2019 (1812.03982), table 1.

    clip [B, 3, T, H, W]                    kernels in time of      stride in
                                            C2D     I3D     Slow    space    channels
    stem    t x 7 x 7, max pool 1 x 3 x 3    1       5       1        4         64
    res2    3 blocks                         1       3       1        4        256
            max pool 2 x 1 x 1              yes     yes      no
    res3    4 blocks                         1      3,1      1        8        512
    res4    6 blocks (R101: 23)              1      3,1      3       16       1024
    res5    3 blocks                         1      1,3      3       32       2048
    grid    = res5; pool: its mean over time and space; classifier: 2048 -> classes

    a bottleneck block:  t x 1 x 1 - 1 x 3 x 3 - 1 x 1 x 1, each with a norm, plus the shortcut

"C2D without pooling" leaves the 2 x 1 x 1 pool out: time then enters in the last mean only.

`predict` is the reference's test head: it averages windows of the training crop's size, so that a
larger test crop gives several predictions, and averages the class scores of those.

RGB in, always. Some PySlowFast configurations (Something-Something, Charades) set
DATA.REVERSE_INPUT_CHANNEL, because their loader reads images as BGR and the flag turns those into
RGB. Our decoders deliver RGB: reversing it would feed BGR to a network trained on RGB.

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.models.layers import (
    check_clip,
    check_taps,
    classifier,
    he_init,
    keep,
    scores,
    windows,
)
from tubelet.models.nonlocal_block import Form, NonLocal, NonLocals
from tubelet.types import ClipSpec

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
class Trunk:
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
) -> Trunk:
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
    return Trunk(
        stem=width // beta_inv,
        stem_time=times[0],
        widths=tuple(width * 4 * 2**i // beta_inv for i in range(4)),
        inner=tuple(groups * width * 2**i // beta_inv for i in range(4)),
        times=tuple(kernels),
        groups=groups,
    )


@dataclass(frozen=True)
class Config:
    """time_pool: max pool over so many time steps behind res2; 1 is none.

    head: cells (time, height, width) of the windows that `predict` averages; None is the whole
    grid, as in networks trained with short cycles (1912.00998). hidden: units of a normalised,
    rectified layer before the classes (mmaction2's network for pictures and videos).
    """

    clip: ClipSpec
    trunk: Trunk
    time_pool: int = 1
    head: tuple[int, int, int] | None = None
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    hidden: int = 0


class Stem(nn.Module):
    """t x 7 x 7, norm, ReLU, 1 x 3 x 3 max pool: [B, 3, T, H, W] to [B, C, T, H/4, W/4]."""

    def __init__(self, inputs: int, spec: Trunk) -> None:
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


def stage(spec: Trunk, index: int, *, inputs: int) -> nn.Sequential:
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


class ResNet3D(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip, self.activation = config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.trunk.widths[-1]
        self.taps = (*STAGES, "grid", "dense_logits", "pool")

        spec = config.trunk
        self.stem = Stem(config.clip.channels, spec)
        self.res2 = stage(spec, 0, inputs=spec.stem)
        self.time_pool = nn.MaxPool3d((config.time_pool, 1, 1))
        self.res3 = stage(spec, 1, inputs=spec.widths[0])
        self.res4 = stage(spec, 2, inputs=spec.widths[1])
        self.res5 = stage(spec, 3, inputs=spec.widths[2])
        self.classifier = classifier(self.width, config.num_classes, hidden=config.hidden)

    def maps(self, clip: Tensor, after: str | None = None) -> Iterator[tuple[str, Tensor]]:
        """The stages' outputs, in order; of those behind `after`, where clip is its output."""
        x = clip
        for name in STAGES[0 if after is None else STAGES.index(after) + 1 :]:
            if name == "res3":
                x = self.time_pool(x)
            x = getattr(self, name)(x)
            yield name, x
        yield "grid", x

    def frame_wise(self) -> list[tuple[str, int]]:
        """(stage, frames that make one of its steps in time): the stages up to the first one that
        mixes frames in another way than in groups that follow each other."""
        spec, group, found = self.config.trunk, 1, list[tuple[str, int]]()
        pool = (1, 1) if spec.stem_pool is None else spec.stem_pool[:2]
        if (spec.stem_time, spec.stem_stride, pool) != (1, 1, (1, 1)):
            return found
        found.append(("stem", group))
        for i, name in enumerate(STAGES[1:]):
            group *= self.config.time_pool if name == "res3" else 1
            if any(time != 1 for time in spec.times[i]) or spec.nonlocals[i].after:
                break
            found.append((name, group))
        return found

    def stages_until(self, clip: Tensor, stage: str) -> Tensor:
        """The output of one stage; nothing behind it is computed. Raises ClipError."""
        self._check(clip)
        return keep(self.maps(clip), [stage])[stage]

    def features_after(self, x: Tensor, stage: str, taps: Sequence[str]) -> dict[str, Tensor]:
        """`features` from the output of a stage; taps before it cannot be had."""
        wanted = {tap if tap in STAGES else "grid" for tap in taps}
        before = {stage: x} if stage in wanted else {}
        found = before | keep(self.maps(x, stage), wanted - {stage})
        return self._with_head(found, taps)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, C, T, H, W] to the named taps. Raises ClipError, UnknownName.

        Stages and "grid" are maps [B, D, T', H', W'], "pool" [B, D] is the mean of "grid",
        "dense_logits" [B, t, h, w, classes] the classifier at every window of the test head.
        """
        check_taps(taps, self.taps)
        spec = self.config.trunk
        pool_stride = spec.stem_pool[1] if spec.stem_pool else 1
        least = spec.stem_stride * pool_stride * self.config.time_pool
        self._check(clip, frames=self.clip.frames if self.config.head else least)
        found = keep(self.maps(clip), {tap if tap in STAGES else "grid" for tap in taps})
        return self._with_head(found, taps)

    def _check(self, clip: Tensor, *, frames: int = 1) -> None:
        spec = self.config.trunk
        check_clip(
            clip, channels=self.clip.channels, min_frames=frames,
            min_side=(4 if spec.stem_pool else 2) * prod(spec.strides),
            weights=next(self.parameters()),
        )  # fmt: skip

    def _with_head(self, found: dict[str, Tensor], taps: Sequence[str]) -> dict[str, Tensor]:
        if "pool" in taps:
            found["pool"] = found["grid"].mean(dim=(2, 3, 4))
        if "dense_logits" in taps:
            cells = windows(found["grid"], self.config.head)
            found["dense_logits"] = self.classifier(cells.movedim(1, -1))
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


def five_nonlocals(form: Form) -> tuple[NonLocals, ...]:
    """The paper's five blocks: behind every other block of res3 and res4 (section 4.1)."""
    return (NonLocals(), NonLocals((1, 3), form), NonLocals((1, 3, 5), form), NonLocals())


def c2d(
    depth: int = 50, *, pool: bool = True, nonlocals: tuple[NonLocals, ...] = NO_NONLOCALS
) -> Config:
    spec = replace(trunk(C2D, depth=depth), nonlocals=nonlocals)
    time_pool, frames = (2, 4) if pool else (1, 8)
    return Config(ClipSpec(8, 8, 256, 256), spec, time_pool=time_pool, head=(frames, 7, 7))


def i3d(
    depth: int = 50, *, times: Times = I3D, nonlocals: tuple[NonLocals, ...] = NO_NONLOCALS
) -> Config:
    spec = replace(trunk(times, depth=depth), nonlocals=nonlocals)
    return Config(ClipSpec(8, 8, 256, 256), spec, time_pool=2, head=(4, 7, 7))


def slow(
    frames: int,
    interval: int,
    *,
    depth: int = 50,
    nonlocals: tuple[NonLocals, ...] = NO_NONLOCALS,
) -> Config:
    spec = replace(trunk(SLOW, depth=depth), nonlocals=nonlocals)
    return Config(ClipSpec(frames, interval, 256, 256), spec, head=(frames, 7, 7))


def detection(config: Config, *, classes: int = 80) -> Config:
    """As trained on AVA: res5 keeps its resolution, its kernels are dilated (1812.03982, 5)."""
    spec = replace(config.trunk, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    return replace(config, trunk=spec, num_classes=classes, activation="sigmoid")


IMAGENET = ClipSpec(1, 1, 256, 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# A key with a dot holds what one tag changes.
VARIANTS: dict[str, Config] = {
    "c2d_r50_8x8": c2d(),
    "c2d_nopool_r50_8x8": c2d(pool=False),
    "c2d_nopool_r101_8x8": c2d(101, pool=False),
    "c2d_nln_r50_8x8": c2d(nonlocals=five_nonlocals("softmax")),
    "i3d_r50_8x8": i3d(),
    "i3d_r50_heavy_8x8": i3d(times=I3D_HEAVY),
    "i3d_r101_8x8": i3d(101),
    "i3d_nln_r50_8x8": i3d(nonlocals=five_nonlocals("softmax")),
    "i3d_nln_r101_8x8": i3d(101, nonlocals=five_nonlocals("softmax")),
    "slow_r50_4x16": slow(4, 16),
    "slow_r50_4x16.ava22": detection(slow(4, 16)),
    "slow_r50_8x8": slow(8, 8),
    "slow_r50_16x4": slow(16, 4),
    "slow_r101_8x8": slow(8, 8, depth=101),
    "slow_nln_r50_4x16": slow(4, 16, nonlocals=five_nonlocals("dot_product")),
    "slow_nln_r50_8x8": slow(8, 8, nonlocals=five_nonlocals("dot_product")),
    "resnet_r50": Config(IMAGENET, trunk(C2D), head=(1, 7, 7), num_classes=1000),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    model = ResNet3D(config)
    he_init(model)
    return model
