"""A rebuilt network behind the interface of the readable one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.models.blocks.layers import check_clip
from tubelet.models.zoo import ORIGIN


def with_origin(network: nn.Module, like: nn.Module) -> nn.Module:
    """`network`, which now tells the origin of the weights of `like`."""
    for name in ORIGIN:
        if hasattr(like, name):
            setattr(network, name, getattr(like, name))
    return network


class FastNetwork(nn.Module):
    """Float32 clips in, float32 taps out. Satisfies `types.VideoModel`; inference only.

    network: has the methods of the readable network and takes clips of `dtype`, channels last.
    like: the readable network, whose names and origin are told; it is not kept.
    """

    expected: Tensor

    def __init__(self, network: Any, *, like: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        device = next(network.parameters()).device
        self.register_buffer("expected", torch.empty(0, device=device), persistent=False)
        self.clip, self.taps, self.width = like.clip, like.taps, like.width
        self.num_classes, self.activation = like.num_classes, like.activation
        with_origin(self, like)

    def prepared(self, clip: Tensor) -> Tensor:
        """The clip as the network takes it. Raises ClipError for anything but float32 here."""
        check_clip(clip, channels=self.clip.channels, weights=self.expected)
        # Both at once takes twice as long.
        return clip.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)

    @torch.inference_mode()
    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """As the readable network's."""
        found = self.network.features(self.prepared(clip), taps)
        return {tap: value.float() for tap, value in found.items()}

    def frame_wise(self) -> list[tuple[str, int]]:
        """Stages that can be computed frame by frame, see `resnet3d`; most networks have none."""
        found = getattr(self.network, "frame_wise", None)
        return found() if found else []

    @torch.inference_mode()
    def stages_until(self, clip: Tensor, stage: str) -> Tensor:
        """The output of a stage, in the network's own type."""
        return self.network.stages_until(self.prepared(clip), stage)

    @torch.inference_mode()
    def features_after(self, x: Tensor, stage: str, taps: Sequence[str]) -> dict[str, Tensor]:
        """`features` from what `stages_until` gave."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        found = self.network.features_after(x, stage, taps)
        return {tap: value.float() for tap, value in found.items()}

    @torch.inference_mode()
    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.network.classify(pool)

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]: the classifier on "pool"."""
        return self.classify(self.features(clip)["pool"])

    @torch.inference_mode()
    def predict(self, clip: Tensor) -> Tensor:
        """As the readable network's."""
        return self.network.predict(self.prepared(clip)).float()
