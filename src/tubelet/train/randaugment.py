"""RandAugment (1909.13719) for clips: the same operations on every frame.

The operations and their strengths follow the "increasing" set that MViT's recipe uses
(rand-m7-n4-mstd0.5): a stronger magnitude always changes the clip more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tubelet.errors import UsageError


@dataclass(frozen=True)
class RandAugment:
    """operations: how many are drawn for a clip, each applied with `chance`. magnitude: 0 to 10,
    plus normal noise of deviation `deviation`."""

    operations: int = 4
    magnitude: float = 7.0
    deviation: float = 0.5
    chance: float = 0.5

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude <= 10 or not 0 <= self.chance <= 1:
            raise UsageError(f"{self}: operations >= 1, magnitude 0 to 10, chance 0 to 1")


GREY = 0.5
"""Fills what an affine operation uncovers."""


def affine(clip: Tensor, matrix: list[list[float]]) -> Tensor:
    """[T, C, H, W] sampled at matrix @ (x, y, 1), in units where the picture spans -1 to 1."""
    theta = torch.tensor(matrix, dtype=clip.dtype).expand(len(clip), -1, -1)
    grid = F.affine_grid(theta, list(clip.shape), align_corners=False)
    return F.grid_sample(clip - GREY, grid, align_corners=False) + GREY


def rotate(clip: Tensor, level: float) -> Tensor:
    angle = math.radians(30 * level)
    aspect = clip.shape[3] / clip.shape[2]
    c, s = math.cos(angle), math.sin(angle)
    return affine(clip, [[c, -s / aspect, 0], [s * aspect, c, 0]])


def autocontrast(clip: Tensor, level: float) -> Tensor:
    low, high = clip.amin(dim=(2, 3), keepdim=True), clip.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (clip - low) / (high - low).clamp(min=1e-6), clip)


def equalise(clip: Tensor, level: float) -> Tensor:
    """Every channel of every frame gets a flat histogram of its 256 levels."""
    levels = (clip * 255).round().long().clamp(0, 255).flatten(2)
    out = torch.empty_like(levels, dtype=clip.dtype)
    for t in range(len(levels)):
        for c in range(levels.shape[1]):
            histogram = torch.bincount(levels[t, c], minlength=256)
            used = histogram.cumsum(0).float()
            first = histogram[histogram > 0][0]
            span = levels.shape[2] - first
            table = (used - first) / span if span > 0 else torch.arange(256) / 255
            out[t, c] = table.clamp(0, 1)[levels[t, c]]
    return out.view_as(clip)


def grey_of(clip: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (clip * weights).sum(dim=1, keepdim=True)


def sharpness(clip: Tensor, level: float) -> Tensor:
    kernel = torch.ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    smooth = F.conv2d(F.pad(clip, (1, 1, 1, 1), mode="replicate"), kernel / 13, groups=3)
    return (smooth + (clip - smooth) * (1 + 0.9 * level)).clamp(0, 1)


def contrast(clip: Tensor, level: float) -> Tensor:
    plain = grey_of(clip).mean()
    return (plain + (clip - plain) * (1 + 0.9 * level)).clamp(0, 1)


def saturation(clip: Tensor, level: float) -> Tensor:
    grey = grey_of(clip)
    return (grey + (clip - grey) * (1 + 0.9 * level)).clamp(0, 1)


def posterise(clip: Tensor, level: float) -> Tensor:
    """4 bits down to 1."""
    step = 256 / 2 ** max(4 - round(4 * abs(level)), 1)
    return (clip * 255 / step).floor() * step / 255


def solarise(clip: Tensor, level: float) -> Tensor:
    return torch.where(clip >= 1 - abs(level), 1 - clip, clip)


def solarise_add(clip: Tensor, level: float) -> Tensor:
    return torch.where(clip < 0.5, (clip + 110 / 255 * abs(level)).clamp(0, 1), clip)


# level: -1 to 1; its sign is drawn, and matters only where a direction exists.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "autocontrast": autocontrast,
    "equalise": equalise,
    "invert": lambda clip, level: 1 - clip,
    "rotate": rotate,
    "posterise": posterise,
    "solarise": solarise,
    "solarise_add": solarise_add,
    "saturation": saturation,
    "contrast": contrast,
    "brightness": lambda clip, level: (clip * (1 + 0.9 * level)).clamp(0, 1),
    "sharpness": sharpness,
    "shear_x": lambda clip, level: affine(clip, [[1, 0.3 * level, 0], [0, 1, 0]]),
    "shear_y": lambda clip, level: affine(clip, [[1, 0, 0], [0.3 * level, 1, 0]]),
    "shift_x": lambda clip, level: affine(clip, [[1, 0, 0.9 * level], [0, 1, 0]]),
    "shift_y": lambda clip, level: affine(clip, [[1, 0, 0], [0, 1, 0.9 * level]]),
}


def rand_augment(clip: Tensor, config: RandAugment, generator: np.random.Generator) -> Tensor:
    """[T, 3, H, W] in [0, 1] to the same; operations are drawn with replacement."""
    names = list(OPERATIONS)
    for _ in range(config.operations):
        name = names[int(generator.integers(len(names)))]
        magnitude = generator.normal(config.magnitude, config.deviation)
        sign = 1 if generator.random() < 0.5 else -1
        if generator.random() < config.chance:
            clip = OPERATIONS[name](clip, sign * min(max(magnitude, 0), 10) / 10)
    return clip
