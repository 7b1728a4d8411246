"""Training views of a clip: scale, crop, flip, colour, erasing. One draw for all its frames.

    uint8 [T, H, W, 3] -> resize + crop -> flip -> colour or RandAugment -> normalise -> erase

Every function takes a generator; the same generator gives the same clip. Numbers and their sources:
scale jitter and crop: SlowFast (1812.03982, 4.1); resized crops, RandAugment, erasing, mixing:
MViT (2104.11227, table A.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tubelet.errors import UsageError
from tubelet.train.multigrid import Shape
from tubelet.train.randaugment import RandAugment, rand_augment
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class Augment:
    """What happens to a training clip. The defaults only crop.

    area, aspect: a crop of so much of the picture, of such a width / height (instead of scale
    jitter). inverse_jitter: draws 1 / side uniformly, as VGG-style training does. flip: chance of a
    mirrored clip; 0 where left and right mean something. brightness, contrast, saturation: largest
    relative change. erase: chance that a box is replaced by noise, the same in every frame.
    mixup, cutmix: alpha of their Beta distribution, 0 is off; with both, `cutmix_share` of the
    pairs are cut. repeats: clips per decoded sample (repeated augmentation).
    """

    area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    inverse_jitter: bool = False
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    rand: RandAugment | None = None
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_share: float = 0.5
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; a chance is from 0 to 1")
        for name in ("brightness", "contrast", "saturation", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.area and not 0 < self.area[0] <= self.area[1] <= 1:
            raise UsageError(f"area is {self.area}; shares of the picture rise from above 0 to 1")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UsageError(f"aspect is {self.aspect}; ratios rise from above 0")
        if self.repeats < 1:
            raise UsageError(f"repeats is {self.repeats}; it must be at least 1")


Box = tuple[int, int, int, int]
"""Top, left, height, width."""


def uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(generator.uniform(low, high)) if high > low else low


def training_clip(
    frames: NDArray[np.uint8], shape: Shape, *, spec: ClipSpec, augment: Augment,
    generator: np.random.Generator,
) -> Tensor:  # fmt: skip
    """uint8 RGB [T, H, W, 3] to a normalised float32 clip [3, T, crop, crop]."""
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    if augment.area is not None:
        clip = resized_crop(clip, shape.crop, augment=augment, generator=generator)
    else:
        clip = jittered_crop(clip, shape, augment.inverse_jitter, generator)
    if generator.random() < augment.flip:
        clip = clip.flip(-1)
    clip = colour(clip, augment, generator)
    if augment.rand is not None:
        clip = rand_augment(clip, augment.rand, generator)
    mean = torch.tensor(spec.mean).view(-1, 1, 1)
    clip = (clip - mean) / torch.tensor(spec.std).view(-1, 1, 1)
    if generator.random() < augment.erase:
        clip = erased(clip, generator)
    return clip.transpose(0, 1).contiguous()


def resize(clip: Tensor, height: int, width: int) -> Tensor:
    if tuple(clip.shape[2:]) == (height, width):
        return clip
    return F.interpolate(clip, size=(height, width), mode="bilinear", align_corners=False)


def jittered_crop(
    clip: Tensor, shape: Shape, inverse: bool, generator: np.random.Generator
) -> Tensor:
    """Short side drawn from the shape's range, then a square anywhere: [T, 3, crop, crop]."""
    low, high = shape.jitter
    if inverse:
        side = round(1 / uniform(generator, 1 / high, 1 / low))
    else:
        side = round(uniform(generator, low, high))
    height, width = clip.shape[2:]
    if height < width:
        size = (side, math.floor(width / height * side))
    else:
        size = (math.floor(height / width * side), side)
    clip = resize(clip, *size)
    top = int(generator.integers(size[0] - shape.crop + 1))
    left = int(generator.integers(size[1] - shape.crop + 1))
    return clip[:, :, top : top + shape.crop, left : left + shape.crop]


def resized_crop(
    clip: Tensor, crop: int, *, augment: Augment, generator: np.random.Generator
) -> Tensor:
    """A box of random area and aspect, resized to a square; the centre where ten draws fail."""
    assert augment.area is not None
    height, width = clip.shape[2:]
    logs = (math.log(augment.aspect[0]), math.log(augment.aspect[1]))
    side = min(height, width)
    box: Box = ((height - side) // 2, (width - side) // 2, side, side)
    for _ in range(10):
        area = height * width * uniform(generator, *augment.area)
        aspect = math.exp(uniform(generator, *logs))
        tall, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            top = int(generator.integers(height - tall + 1))
            box = (top, int(generator.integers(width - wide + 1)), tall, wide)
            break
    top, left, tall, wide = box
    return resize(clip[:, :, top : top + tall, left : left + wide], crop, crop)


def colour(clip: Tensor, augment: Augment, generator: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation, in random order; each blends with something plain."""
    changes = ("brightness", "contrast", "saturation")
    amounts = {name: getattr(augment, name) for name in changes}
    if not any(amounts.values()):
        return clip
    for index in generator.permutation(3):
        amount = amounts[changes[index]]
        factor = uniform(generator, max(1 - amount, 0), 1 + amount)
        if factor != 1:
            clip = blended(clip, changes[index], factor)
    return clip


def blended(clip: Tensor, kind: str, factor: float) -> Tensor:
    """factor 1 is the clip, 0 black, one grey or grey tones; [T, 3, H, W] in [0, 1]."""
    if kind == "brightness":
        return (clip * factor).clamp(0, 1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (clip * weights).sum(dim=1, keepdim=True)
    plain = grey.mean() if kind == "contrast" else grey
    return (plain + (clip - plain) * factor).clamp(0, 1)


def erased(clip: Tensor, generator: np.random.Generator) -> Tensor:
    """Normal noise in a box of 2 to 33 % of the picture (1708.04896), one box for all frames."""
    height, width = clip.shape[2:]
    for _ in range(10):
        area = height * width * uniform(generator, 0.02, 1 / 3)
        aspect = math.exp(uniform(generator, math.log(0.3), math.log(1 / 0.3)))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tall < height and 0 < wide < width:
            top = int(generator.integers(height - tall + 1))
            left = int(generator.integers(width - wide + 1))
            noise = generator.standard_normal(
                (clip.shape[0], clip.shape[1], tall, wide), np.float32
            )
            clip = clip.clone()
            clip[:, :, top : top + tall, left : left + wide] = torch.from_numpy(noise)
            break
    return clip


def mix(
    clips: Tensor, targets: Tensor, *, augment: Augment, seed: tuple[int, ...], first: int
) -> tuple[Tensor, Tensor]:
    """Mixup (1710.09412) or CutMix (1905.04899) between neighbours 0-1, 2-3, ... of the batch.

    clips [B, C, T, H, W], targets [B, classes] as shares. `first` is the place of this device's
    first clip in the batch of all devices: the pairs and what is drawn for them do not depend on
    how many devices there are, as long as each has an even number of clips.
    """
    if not (augment.mixup or augment.cutmix) or len(clips) < 2:
        return clips, targets
    mixed, shares = clips.clone(), targets.clone()
    height, width = clips.shape[3:]
    for a in range(0, len(clips) - 1, 2):
        generator = np.random.default_rng([*seed, 0x3C, first + a])
        cut = augment.cutmix > 0 and (
            augment.mixup == 0 or generator.random() < augment.cutmix_share
        )
        alpha = augment.cutmix if cut else augment.mixup
        keep = float(generator.beta(alpha, alpha))
        b = a + 1
        if cut:
            tall, wide = (int(n * math.sqrt(1 - keep)) for n in (height, width))
            cy, cx = int(generator.integers(height)), int(generator.integers(width))
            y0, y1 = max(cy - tall // 2, 0), min(cy + tall // 2, height)
            x0, x1 = max(cx - wide // 2, 0), min(cx + wide // 2, width)
            mixed[a, ..., y0:y1, x0:x1] = clips[b, ..., y0:y1, x0:x1]
            mixed[b, ..., y0:y1, x0:x1] = clips[a, ..., y0:y1, x0:x1]
            keep = 1 - (y1 - y0) * (x1 - x0) / (height * width)
        else:
            mixed[a], mixed[b] = (
                clips[a] * keep + clips[b] * (1 - keep),
                clips[b] * keep + clips[a] * (1 - keep),
            )
        shares[a] = targets[a] * keep + targets[b] * (1 - keep)
        shares[b] = targets[b] * keep + targets[a] * (1 - keep)
    return mixed, shares
