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

from torch import Tensor, nn

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
from tubelet.models.blocks.nonlocal_block import Form, NonLocals
from tubelet.models.blocks.resnet import (
    C2D,
    I3D,
    I3D_HEAVY,
    NO_NONLOCALS,
    SLOW,
    STAGES,
    ResNetLayout,
    Stem,
    Times,
    stage,
    trunk,
)
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class Config:
    """time_pool: max pool over so many time steps behind res2; 1 is none.

    head: cells (time, height, width) of the windows that `predict` averages; None is the whole
    grid, as in networks trained with short cycles (1912.00998). hidden: units of a normalised,
    rectified layer before the classes (mmaction2's network for pictures and videos).
    """

    clip: ClipSpec
    trunk: ResNetLayout
    time_pool: int = 1
    head: tuple[int, int, int] | None = None
    num_classes: int = 400
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    hidden: int = 0


class ResNet3D(nn.Module):
    """The network of the table above. Satisfies `types.VideoModel`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip, self.activation = config.clip, config.activation
        self.num_classes, self.width = config.num_classes, config.trunk.widths[-1]
        self.taps = (*STAGES, "grid", "head_pool", "dense_logits", "pool")

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
        "head_pool" [B, D] the mean over the windows of the test head, which overlap: the middle
        counts more. "dense_logits" [B, t, h, w, classes] is the classifier at every one of them.
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
        if "head_pool" in taps or "dense_logits" in taps:
            cells = windows(found["grid"], self.config.head)
            found |= head_taps(cells, self.classifier, taps)
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
