"""Networks of RGB as networks of optical flow: the first kernels get other input channels.

The mean over the RGB channels, repeated (cross-modality initialisation: Wang et al. 2016, temporal
segment networks, section 3.2). Everything behind the first kernels stays as it is.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.types import ClipSpec


def repeat_channels(kernel: Tensor, channels: int) -> Tensor:
    """[out, in, ...] -> [out, channels, ...]: the mean over the input channels, repeated."""
    mean = kernel.mean(dim=1, keepdim=True)
    return mean.expand(-1, channels, *kernel.shape[2:]).clone()


def flow_clip(clip: ClipSpec) -> ClipSpec:
    """The same clip of optical flow: two channels, in [-1, 1]."""
    return replace(clip, channels=2, mean=(0.5, 0.5), std=(0.5, 0.5))


def stems(model: nn.Module, channels: int) -> dict[str, nn.Conv2d | nn.Conv3d]:
    """The convolutions that see the clip itself: those with its number of input channels."""
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, (nn.Conv2d, nn.Conv3d))
        and part.in_channels == channels
        and part.groups == 1
    }


def for_flow(model: Any) -> Any:
    """A copy of an RGB network (one or several pathways) that takes optical flow.

    Its `clip` has two channels; `dataset` and all later weights stay. Raises UsageError for a
    network that does not take three channels.
    """
    found = stems(model, model.clip.channels)
    if model.clip.channels != 3 or not found:
        raise UsageError(
            f"{type(model).__name__} takes {model.clip.channels} channels; only networks of RGB "
            "can be turned into networks of optical flow"
        )
    twin = copy.deepcopy(model)
    twin.clip = flow_clip(model.clip)
    for name in found:
        old = twin.get_submodule(name)
        assert isinstance(old, (nn.Conv2d, nn.Conv3d))
        with torch.no_grad():
            old.weight = nn.Parameter(repeat_channels(old.weight, twin.clip.channels))
        old.in_channels = twin.clip.channels
    return twin
