"""Two-stream I3D: Carreira & Zisserman, CVPR 2017, figure 2e. One network sees RGB, one the flow.

    clip [B, 5, T, H, W] ─┬─ channels 0-2, RGB  ── network ── pool [B, D] ── logits ─┐
                          └─ channels 3-4, flow ── network ── pool [B, D] ── logits ─┴ mean

    pool   [B, 2 D]: RGB then flow, the order of the published feature files
    grid   [B, 2 D, T', H', W'], joined in the same order

The streams are trained apart and meet only at the end, where the logits are averaged. (The paper's
sample code adds them: the same ranking, a sharper softmax.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.models import i3d
from tubelet.models.blocks.layers import check_clip, check_taps
from tubelet.types import ClipSpec

JOINED = ("grid", "dense_logits", "pool")


def joint_clip(rgb: ClipSpec, flow: ClipSpec) -> ClipSpec:
    """The clip of both streams. UsageError where their frames or crops differ."""
    names = ("frames", "interval", "short_side", "crop")
    other = [n for n in names if getattr(rgb, n) != getattr(flow, n)]
    if other or (rgb.channels, flow.channels) != (3, 2):
        raise UsageError(
            f"two streams must take RGB and flow clips of one shape; these are {rgb} and {flow}"
        )
    return replace(rgb, channels=5, mean=rgb.mean + flow.mean, std=rgb.std + flow.std)


class TwoStream(nn.Module):
    """Two networks side by side. Satisfies `types.VideoModel`.

    rgb, flow: networks that satisfy it, with as many classes. Taps: those of the streams with
    "rgb_" or "flow_" before the name, then "grid", "dense_logits" and "pool" of both.
    """

    def __init__(self, rgb: Any, flow: Any) -> None:
        super().__init__()
        if rgb.num_classes != flow.num_classes:
            raise UsageError(
                f"the RGB stream has {rgb.num_classes} classes and the flow stream "
                f"{flow.num_classes}; their logits cannot be averaged"
            )
        self.rgb, self.flow = rgb, flow
        self.clip = joint_clip(rgb.clip, flow.clip)
        self.num_classes: int = rgb.num_classes
        self.activation = rgb.activation
        self.width: int = rgb.width + flow.width
        streams = (("rgb", rgb), ("flow", flow))
        self.taps = (*(f"{name}_{tap}" for name, net in streams for tap in net.taps), *JOINED)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 5, T, H, W], RGB then flow, to the named taps. Raises ClipError, UnknownName."""
        check_taps(taps, self.taps)
        check_clip(clip, channels=5)
        found: dict[str, Tensor] = {}
        for name, stream, part in (
            ("rgb", self.rgb, clip[:, :3]),
            ("flow", self.flow, clip[:, 3:]),
        ):
            own = [t.removeprefix(f"{name}_") for t in taps if t.startswith(f"{name}_")]
            wanted = dict.fromkeys([*own, *(t for t in taps if t in JOINED)])
            if wanted:
                maps = stream.features(part, tuple(wanted))
                found.update((f"{name}_{tap}", value) for tap, value in maps.items())
        for tap in JOINED:
            if tap in taps:
                found[tap] = self._join(tap, found[f"rgb_{tap}"], found[f"flow_{tap}"])
        return {tap: found[tap] for tap in taps}

    @staticmethod
    def _join(tap: str, rgb: Tensor, flow: Tensor) -> Tensor:
        return (rgb + flow) / 2 if tap == "dense_logits" else torch.cat([rgb, flow], dim=1)

    def classify(self, pool: Tensor) -> Tensor:
        """The mean of the streams' logits [B, classes], from "pool" [B, 2 D]."""
        rgb, flow = pool.split([self.rgb.width, self.flow.width], dim=1)
        return (self.rgb.classify(rgb) + self.flow.classify(flow)) / 2

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the mean logits."""
        logits = self(clip)
        if self.activation == "softmax":
            return logits.softmax(dim=-1)
        return logits.sigmoid() if self.activation == "sigmoid" else logits


@dataclass(frozen=True)
class Config:
    """The configurations of the two networks. `num_classes` is that of both."""

    clip: ClipSpec = field(default_factory=lambda: joint_clip(i3d.RGB, i3d.FLOW))
    num_classes: int = 400
    activation: str = "softmax"


VARIANTS: dict[str, Config] = {"i3d_inception_two_stream": Config()}


def build(config: Config) -> nn.Module:
    """Both networks with random weights."""
    clip, flow = config.clip, 2
    parts = (
        replace(clip, channels=3, mean=clip.mean[:-flow], std=clip.std[:-flow]),
        replace(clip, channels=flow, mean=clip.mean[-flow:], std=clip.std[-flow:]),
    )
    streams = (
        i3d.build(i3d.Config(part, config.num_classes, config.activation))  # pyright: ignore
        for part in parts
    )
    return TwoStream(*streams)
