"""A real network that takes no time: mean colour over a grid, then a frozen random projection."""

import os
import signal

import torch
from torch import nn

from tubelet.types import ClipSpec


class TinyModel(nn.Module):
    """4 frames of 16 pixels; "mid" is a map [B, 5, 2, 2, 2], "pool" [B, 8] the mean of "grid"."""

    clip = ClipSpec(frames=4, interval=1, short_side=20, crop=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    taps = ("mid", "grid", "pool")
    width = 8
    num_classes = 3
    activation = "softmax"

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.mid = nn.Parameter(torch.randn(5, 3, generator=generator), requires_grad=False)
        self.grid = nn.Parameter(torch.randn(8, 5, generator=generator), requires_grad=False)
        self.head = nn.Parameter(torch.randn(3, 8, generator=generator), requires_grad=False)

    def features(self, clip, taps=("pool",)):
        coarse = nn.functional.adaptive_avg_pool3d(clip, 2)
        mid = torch.einsum("dc,bcthw->bdthw", self.mid, coarse)
        grid = torch.einsum("dc,bcthw->bdthw", self.grid, mid.tanh())
        known = {"mid": mid, "grid": grid, "pool": grid.mean(dim=(2, 3, 4))}
        return {tap: known[tap] for tap in taps}

    def classify(self, pool):
        return pool @ self.head.T

    def predict(self, clip):
        return self(clip).softmax(dim=1)

    def forward(self, clip):
        return self.classify(self.features(clip)["pool"])


class BrokenModel(TinyModel):
    """NaN for clips that are brighter than grey on average; the rest is as it should be."""

    def features(self, clip, taps=("pool",)):
        out = super().features(clip, taps)
        bright = clip.mean(dim=(1, 2, 3, 4)) > 0
        for value in out.values():
            value[bright] = torch.nan
        return out


class Fatal(TinyModel):
    """Takes its process down: always for bright clips, once for others while `flag` is there."""

    def __init__(self, flag):
        super().__init__()
        self.flag = flag

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.6 or os.path.exists(self.flag):
            if os.path.exists(self.flag):
                os.unlink(self.flag)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().features(clip, taps)
