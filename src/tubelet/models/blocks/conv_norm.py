"""Parts of the convolutional families that were added later: R(2+1)D, CSN, S3D.

    ConvNorm        convolution, batch norm, ReLU where asked for
    ShortcutBlock   ReLU(shortcut(x) + branch(x)): a residual block of any branch
    StagedNetwork   named stages, one after the other, their mean, a classifier

Axes: B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.layers import (
    check_clip,
    check_taps,
    classifier,
    he_init,
    keep,
    scores,
    unrounded,
)
from tubelet.types import ClipSpec

Size3 = tuple[int, int, int]
"""Time, height, width."""


def cube(side: int) -> Size3:
    return (side, side, side)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU (unless relu=False); x [B, C, T, H, W].

    padding: of each side; None is half the kernel, which keeps the size where the stride is 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: Size3 = (1, 1, 1),
        stride: Size3 = (1, 1, 1),
        padding: Size3 | None = None,
        groups: int = 1,
        eps: float = 1e-5,
        relu: bool = True,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(
            inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm3d(outputs, eps=eps)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class ShortcutBlock(nn.Module):
    """ReLU(shortcut(x) + branch(x)); shortcut None is x itself.

    The last step of `branch`, and all of `shortcut`, have no ReLU of their own.
    """

    def __init__(self, branch: nn.Sequential, shortcut: nn.Sequential | None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        return F.relu(skip + self.branch(x), inplace=True)


class StagedNetwork(nn.Module):
    """Stages in a row, the mean over positions, a classifier. Satisfies `types.VideoModel`.

    stages: name -> module, in order; they become taps. width: channels of the last one.
    window: cells (time, height, width) of an average pool, stride 1, in front of the mean: cells
    in the middle then count more. None: the plain mean. least: fewest frames and pixels of a side.
    check: further demands on a clip; raises ClipError.
    """

    def __init__(
        self,
        config: Any,
        stages: Mapping[str, nn.Module],
        *,
        width: int,
        window: Size3 | None = None,
        least: tuple[int, int] = (1, 1),
        check: Callable[[Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.clip: ClipSpec = config.clip
        self.num_classes: int = config.num_classes
        self.activation: Literal["softmax", "sigmoid", "none"] = config.activation
        self.width, self.window, self.least, self.check = width, window, least, check
        self.stages = tuple(stages)
        self.taps = (*stages, "grid", "dense_logits", "pool")
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.classifier = classifier(width, config.num_classes)
        he_init(self)

    def maps(self, clip: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The stages' outputs, in order, then "grid"."""
        x = clip
        for name in self.stages:
            x = getattr(self, name)(x)
            yield name, x
        x = unrounded(x)
        yield "grid", x if self.window is None else F.avg_pool3d(x, self.window, stride=1)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, C, T, H, W] to the named taps. Raises ClipError, UnknownName.

        Stages are maps [B, D, T', H', W']; "grid" is the last one (averaged over windows where the
        network does so), "pool" [B, D] its mean, "dense_logits" [B, t, h, w, classes] the
        classifier at every position of it.
        """
        check_taps(taps, self.taps)
        frames, side = self.least
        check_clip(
            clip, channels=self.clip.channels, min_frames=frames, min_side=side,
            weights=next(self.parameters()),
        )  # fmt: skip
        if self.check is not None:
            self.check(clip)
        found = keep(self.maps(clip), {tap if tap in self.stages else "grid" for tap in taps})
        if "pool" in taps:
            found["pool"] = found["grid"].mean(dim=(2, 3, 4))
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["grid"].movedim(1, -1))
        return {tap: found[tap] for tap in taps}

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)
