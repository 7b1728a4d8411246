"""SlowFast: Feichtenhofer, Fan, Malik & He, "SlowFast Networks for Video Recognition", ICCV 2019.

arXiv 1812.03982. Two ResNets over the same seconds (section 3, figure 1, table 1): the Slow pathway
sees every alpha-th frame, the Fast pathway all of them with beta = 1/8 of the channels. Lateral
connections carry Fast into Slow behind each stage (section 3.4, "time-strided convolution").

    clip [B, 3, T, H, W]        slow: T / alpha frames           fast: T frames
    stem                        1 x 7 x 7           64           5 x 7 x 7           8
    lateral                     + 16    <------  k x 1 x 1, stride alpha, norm, ReLU
    res2                        1               256              3                  32
    lateral                     + 64    <------
    res3                        1               512              3                  64
    lateral                     + 128   <------
    res4                        3              1024              3                 128
    lateral                     + 256   <------
    res5                        3              2048              3                 256
    pool    mean over time and space of each, joined: slow 2048, fast 256; classifier

Tap "res3_slow" is the Slow pathway's map before the lateral joins it, "res3_fast" the Fast one's;
"res3" is both along the channels, Fast averaged over every alpha frames so that the times match.

The Slow frames are floor(linspace(0, T - 1, T / alpha)), as in the reference: of 32 frames and
alpha 8 that is 0, 10, 20, 31, not every eighth. RGB in, always (see resnet3d).

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError, UsageError
from tubelet.models.blocks.layers import (
    check_clip,
    check_taps,
    classifier,
    he_init,
    head_taps,
    keep,
    scores,
    windows,
)
from tubelet.models.blocks.nonlocal_block import NonLocals
from tubelet.models.blocks.resnet import (
    DEPTHS,
    NO_NONLOCALS,
    SLOW,
    STAGES,
    ResNetLayout,
    Stem,
    Times,
    stage,
    trunk,
)
from tubelet.models.resnet3d import five_nonlocals
from tubelet.types import ClipSpec

FAST: Times = (5, (3,), (3,), (3,), (3,))
JOINED = STAGES[:-1]  # the stages that a lateral connection follows


@dataclass(frozen=True)
class Config:
    """`clip.alpha` is the ratio of frame rates (section 3.2).

    lateral_kernel: frames that a lateral connection sees; odd. lateral_ratio: its output channels
    as a multiple of the Fast pathway's. head: rows and columns of the windows that `predict`
    averages (they span all frames of the clip); None is the whole grid. lateral_norm: a lateral
    connection has a norm and a ReLU. slow_frames: which frames the Slow pathway sees, "linspace"
    as above or "strided", every alpha-th from the first.
    """

    clip: ClipSpec
    slow: ResNetLayout
    fast: ResNetLayout
    lateral_kernel: int = 7
    lateral_ratio: int = 2
    lateral_norm: bool = True
    slow_frames: Literal["linspace", "strided"] = "linspace"
    head: tuple[int, int] | None = (7, 7)
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"


class Lateral(nn.Module):
    """Fast to Slow: [B, C, T, H, W] to [B, ratio C, T / alpha, H, W]."""

    def __init__(self, inputs: int, *, ratio: int, kernel: int, alpha: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            inputs, inputs * ratio, (kernel, 1, 1), stride=(alpha, 1, 1),
            padding=(kernel // 2, 0, 0), bias=False,
        )  # fmt: skip
        self.bn = nn.BatchNorm3d(inputs * ratio) if norm else None

    def forward(self, fast: Tensor) -> Tensor:
        x = self.conv(fast)
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


def pathway(spec: ResNetLayout, *, channels: int, joined: Sequence[int]) -> nn.ModuleDict:
    """Stem and stages; `joined` channels of the laterals come on top of each stage's input."""
    inputs = [spec.stem, *spec.widths[:-1]]
    layers: dict[str, nn.Module] = {"stem": Stem(channels, spec)}
    for i, name in enumerate(STAGES[1:]):
        layers[name] = stage(spec, i, inputs=inputs[i] + joined[i])
    return nn.ModuleDict(layers)


def slow_frames(frames: int, *, alpha: int, rule: str = "linspace") -> Tensor:
    """Indices of the frames that the Slow pathway sees; float32 on the CPU, as the reference."""
    if rule == "strided":
        return torch.arange(0, frames - alpha + 1, alpha)
    return torch.linspace(0, frames - 1, frames // alpha).long()


class SlowFast(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`; takes one clip, splits it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.clip.alpha is None:
            raise UsageError("a SlowFast network needs clip.alpha, the ratio of its frame rates")
        if config.lateral_kernel % 2 == 0:
            raise UsageError(
                f"a lateral kernel of {config.lateral_kernel} frames puts one more time step out "
                "than the Slow pathway has; it must be odd"
            )
        if config.slow.strides != config.fast.strides:
            raise UsageError(
                f"strides {config.slow.strides} and {config.fast.strides}: maps of both pathways "
                "must have the same size for the lateral connections"
            )
        self.config = config
        self.clip, self.activation = config.clip, config.activation
        self.alpha, self.num_classes = config.clip.alpha, config.num_classes
        self.width = config.slow.widths[-1] + config.fast.widths[-1]
        self.taps = (
            *(f"{name}{end}" for name in STAGES for end in ("", "_slow", "_fast")),
            "grid", "head_pool", "dense_logits", "pool",
        )  # fmt: skip

        carried = [config.fast.stem, *config.fast.widths[:-1]]
        joined = [n * config.lateral_ratio for n in carried]
        channels = config.clip.channels
        self.slow = pathway(config.slow, channels=channels, joined=joined)
        self.fast = pathway(config.fast, channels=channels, joined=[0, 0, 0, 0])
        self.lateral = nn.ModuleDict(
            {
                name: Lateral(
                    n,
                    ratio=config.lateral_ratio,
                    kernel=config.lateral_kernel,
                    alpha=self.alpha,
                    norm=config.lateral_norm,
                )
                for name, n in zip(JOINED, carried, strict=True)
            }
        )
        self.classifier = classifier(self.width, config.num_classes)

    def maps(self, clip: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Both pathways' stages, in order, before the laterals join them."""
        fast = clip
        seen = slow_frames(clip.shape[2], alpha=self.alpha, rule=self.config.slow_frames)
        slow = clip[:, :, seen.to(clip.device)]
        for name in STAGES:
            slow, fast = self.slow[name](slow), self.fast[name](fast)
            yield f"{name}_slow", slow
            yield f"{name}_fast", fast
            if name in JOINED:
                slow = torch.cat([slow, self.lateral[name](fast)], dim=1)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, C, T, H, W], T a multiple of alpha, to the named taps.

        "grid" [B, D, T / alpha, H', W'] is "res5", "pool" [B, D] the mean over time and space of
        each pathway, slow first, "head_pool" [B, D] the mean over the windows of the test head,
        which overlap: the middle counts more. "dense_logits" [B, 1, h, w, classes] is the
        classifier at every one of them. Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        self.check(clip)
        wanted: set[str] = set()
        for tap in taps:
            name = tap if tap.startswith(STAGES) else "res5"
            wanted |= {name} if "_" in name else {f"{name}_slow", f"{name}_fast"}
        found = keep(self.maps(clip), wanted)
        if "head_pool" in taps or "dense_logits" in taps:
            cells = self.head_windows(found["res5_slow"], found["res5_fast"])
            found |= head_taps(cells, self.classifier, taps)
        for tap in taps:
            if tap == "pool":
                last = (found["res5_slow"], found["res5_fast"])
                found[tap] = torch.cat([x.mean(dim=(2, 3, 4)) for x in last], dim=1)
            elif tap not in found:
                name = "res5" if tap == "grid" else tap
                found[tap] = self.join(found[f"{name}_slow"], found[f"{name}_fast"])
        return {tap: found[tap] for tap in taps}

    def check(self, clip: Tensor) -> None:
        """Refuse a clip that the two pathways cannot share. Raises ClipError."""
        least = self.clip.frames if self.config.head else self.alpha
        side = 4 * prod(self.config.slow.strides)
        check_clip(
            clip, channels=self.clip.channels, min_frames=least, min_side=side,
            weights=next(self.parameters()),
        )  # fmt: skip
        if clip.shape[2] % self.alpha:
            raise ClipError(
                f"a clip of {clip.shape[2]} frames: the Slow pathway sees one frame in "
                f"{self.alpha}, so the number of frames must be a multiple of {self.alpha}"
            )

    def join(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Along the channels, Fast averaged over alpha frames: [B, Cs + Cf, T / alpha, H, W]."""
        return torch.cat([slow, fast.unflatten(2, (-1, self.alpha)).mean(dim=3)], dim=1)

    def head_windows(self, slow: Tensor, fast: Tensor) -> Tensor:
        """[B, D, 1, h, w]: both pathways' means over every window, which spans all frames."""
        head, frames = self.config.head, self.clip.frames
        if head and fast.shape[2] != frames:
            raise ClipError(
                f"the two pathways of this network are averaged over {frames} frames; the test "
                f"head cannot match them in a clip of {fast.shape[2]}"
            )
        pooled = [
            windows(slow, head and (frames // self.alpha, *head)),
            windows(fast, head and (frames, *head)),
        ]
        return torch.cat(pooled, dim=1)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]: the classifier on "pool"."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes] of the reference's test head: activation per window, then mean."""
        return scores(self.features(clip, ("dense_logits",))["dense_logits"], self.activation)


def slowfast(
    frames: int,
    alpha: int,
    *,
    depth: int = 50,
    fast_depth: int | None = None,
    temporal_blocks: tuple[int, int] | None = None,
    lateral_kernel: int = 7,
    nonlocals: tuple[NonLocals, ...] = NO_NONLOCALS,
) -> Config:
    """A network of the paper: `frames` are those of the Fast pathway, taken every 2nd.

    temporal_blocks: how many blocks of res4 convolve in time, slow and fast (all, where None): the
    released R101 networks differ in that.
    """
    depths = (depth, fast_depth or depth)
    blocks = temporal_blocks or tuple(DEPTHS[d][2] for d in depths)
    slow, fast = (
        trunk(
            times, depth=d, beta_inv=beta_inv, temporal_blocks=(*DEPTHS[d][:2], res4, DEPTHS[d][3])
        )
        for times, d, beta_inv, res4 in zip((SLOW, FAST), depths, (1, 8), blocks, strict=True)
    )
    slow = replace(slow, nonlocals=nonlocals)
    clip = ClipSpec(frames, 2, 256, 256, alpha=alpha)
    return Config(clip, slow, fast, lateral_kernel=lateral_kernel)


def short_cycle(config: Config) -> Config:
    """As trained with multigrid short cycles (1912.00998): the head averages the whole grid."""
    return replace(config, head=None)


def crop(config: Config, size: int) -> Config:
    return replace(config, clip=replace(config.clip, short_side=size, crop=size))


def ssv2(config: Config) -> Config:
    """Something-Something V2: frames spread over the whole video."""
    clip = replace(config.clip, sampling="uniform")
    return replace(config, clip=clip, num_classes=174)


def charades(config: Config) -> Config:
    """Charades: 157 classes that exclude nothing; the middle crop of short side 256."""
    return replace(config, num_classes=157, activation="sigmoid")


def with_nonlocals(config: Config, nonlocals: tuple[NonLocals, ...]) -> Config:
    """Non-local blocks in the Slow pathway."""
    return replace(config, slow=replace(config.slow, nonlocals=nonlocals))


def detection(config: Config) -> Config:
    """As trained on AVA: res5 keeps its resolution, with dilated kernels (section 5)."""
    slow, fast = (
        replace(spec, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
        for spec in (config.slow, config.fast)
    )
    return replace(config, slow=slow, fast=fast, num_classes=80, activation="sigmoid")


DOT_PRODUCT = five_nonlocals("dot_product")
THREE = NonLocals((6, 13, 20), "dot_product")
R101_NLN = (NonLocals(), NonLocals(), THREE, NonLocals())
R101_NLN_AVA = (NonLocals(), NonLocals(), replace(THREE, pool=(2, 2, 2)), NonLocals())


R50_4X16 = slowfast(32, 8, lateral_kernel=5)
R50_8X8 = slowfast(32, 4)
R50_16X8 = slowfast(64, 4)
R50_16X8_MULTIGRID = short_cycle(R50_16X8)
R101_8X8 = slowfast(32, 4, depth=101, lateral_kernel=5)
R101_50_101_8X8 = slowfast(32, 4, depth=101, lateral_kernel=5, temporal_blocks=(6, 23))
R101_50_50_8X8 = slowfast(32, 4, depth=101, lateral_kernel=5, temporal_blocks=(6, 6))
R101_50_50_16X8 = slowfast(64, 4, depth=101, lateral_kernel=5, temporal_blocks=(6, 6))

# A key with a dot holds what one tag changes. "r101_50_50": the blocks of res4 that convolve in
# time are those of a ResNet-50, in the slow and in the fast pathway.
VARIANTS: dict[str, Config] = {
    "slowfast_r50_4x16": R50_4X16,
    "slowfast_r50_8x8": R50_8X8,
    "slowfast_r50_8x8.ssv2": ssv2(R50_8X8),
    "slowfast_r50_8x8.charades": charades(R50_8X8),
    "slowfast_r50_8x8.ava22": crop(detection(R50_8X8), 224),
    "slowfast_r50_8x8.ava22_c2": detection(R50_8X8),
    "slowfast_r50_8x8_stepwise": R50_8X8,
    "slowfast_r50_8x8_stepwise_multigrid": crop(short_cycle(R50_8X8), 224),
    "slowfast_r50_16x8": R50_16X8,
    "slowfast_r50_16x8.ssv2": ssv2(R50_16X8),
    "slowfast_r50_16x8.charades": charades(R50_16X8),
    "slowfast_r50_16x8_multigrid": R50_16X8_MULTIGRID,
    "slowfast_r50_16x8_multigrid.ssv2": crop(ssv2(R50_16X8_MULTIGRID), 224),
    "slowfast_r50_16x8_multigrid.charades": charades(R50_16X8_MULTIGRID),
    "slowfast_nln_r50_4x16": slowfast(32, 8, lateral_kernel=5, nonlocals=DOT_PRODUCT),
    "slowfast_nln_r50_8x8": slowfast(32, 4, lateral_kernel=5, nonlocals=DOT_PRODUCT),
    "slowfast_r101_8x8": R101_8X8,
    "slowfast_r101_4x16": slowfast(32, 8, depth=101, lateral_kernel=5),
    "slowfast_r101_r50_4x16": slowfast(32, 8, depth=101, fast_depth=50, lateral_kernel=5),
    "slowfast_r152_r50_4x16": slowfast(32, 8, depth=152, fast_depth=50, lateral_kernel=5),
    "slowfast_r101_101_101_8x8": R101_8X8,
    "slowfast_r101_50_101_8x8": R101_50_101_8X8,
    "slowfast_r101_50_50_8x8": R101_50_50_8X8,
    "slowfast_r101_50_50_16x8": R101_50_50_16X8,
    "slowfast_nln_r101_50_50_16x8": with_nonlocals(R101_50_50_16X8, R101_NLN),
    "slowfast_r101_nln_8x8": detection(with_nonlocals(R101_50_50_8X8, R101_NLN_AVA)),
    "slowfast_r101_nln_16x8": detection(with_nonlocals(R101_50_50_16X8, R101_NLN_AVA)),
}


def build(config: Config) -> nn.Module:
    """A randomly initialised network."""
    model = SlowFast(config)
    he_init(model)
    return model
