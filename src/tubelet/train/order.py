"""A data set whose classes are nothing but the order of the same frames.

A bright sector makes one whole turn over a warm background and one over a cool one. The two choices
of order make four classes, and each is a reordering of every other one's frames:

    warm_cool_clockwise     warm 0 45 90 .. 315   cool 0 45 90 .. 315 degrees
    warm_cool_counter       the two turns backwards
    cool_warm_clockwise     first the cool turn, then the warm one
    cool_warm_counter       the whole of the first class backwards

All four are made of one set of pictures, every picture coded by itself, so that a single frame, or
a shuffled clip, is no better than a guess (1 in 4). A network without kernels in time stays there.

Colours, noise, place, radius, width and first angle of the sector are drawn for each set of four.
It is wide enough (90 to 160 degrees) to overlap itself after a quarter of a turn, so that 8 frames
out of 32 still show which way it goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UsageError
from tubelet.types import Image

CLASSES = (
    "warm_cool_clockwise",
    "warm_cool_counter",
    "cool_warm_clockwise",
    "cool_warm_counter",
)


def order_of(label: int, frames: int) -> list[int]:
    """Which picture is frame 0, 1, ... of a class; pictures are warm clockwise, then cool."""
    half = frames // 2
    warm, cool = list(range(half)), list(range(half, frames))
    if label % 2:
        warm, cool = warm[::-1], cool[::-1]
    return warm + cool if label < 2 else cool + warm


@dataclass(frozen=True)
class Look:
    """What the pictures of one set share. tints: of the backgrounds (warm, cool, dark). centre, and
    shape (radius, width in radians): of the sector. start: its first angle. noise: one for all."""

    tints: tuple[NDArray[np.float64], ...]
    centre: NDArray[np.float64]
    shape: tuple[float, float]
    start: float
    bright: float
    noise: NDArray[np.float64]

    def picture(self, tint: int, angle: float | None) -> Image:
        """uint8 [size, size, 3]: the sector at an angle in radians over a background, or that."""
        ground = self.tints[tint] + self.noise
        if angle is not None:
            inside = sector(len(self.noise), self.centre, angle, self.shape)[..., None]
            ground = ground + (self.bright - ground) * inside
        return np.clip(ground, 0, 255).astype(np.uint8)


def draw_look(generator: np.random.Generator, size: int) -> Look:
    low, high = generator.uniform(40, 90), generator.uniform(130, 190)
    centre = size / 2 + generator.uniform(-size / 12, size / 12, 2)
    shape = (size * generator.uniform(0.32, 0.48), math.radians(generator.uniform(90, 160)))
    start, bright = generator.uniform(0, 2 * math.pi), generator.uniform(200, 255)
    noise = generator.normal(0, 6, (size, size, 3))
    tints = tuple(np.array(tint) for tint in ([high, low, low], [low, low, high], [low] * 3))
    return Look(tints, centre, shape, start, bright, noise)


def turn(look: Look, tint: int, frames: int, *, start: float) -> list[Image]:
    """The pictures of one whole turn, clockwise from an angle in radians."""
    step = 2 * math.pi / frames
    return [look.picture(tint, start + step * i) for i in range(frames)]


def pictures(
    generator: np.random.Generator, *, frames: int, size: int, first: float | None = None
) -> list[Image]:
    """The pictures of one set: uint8 [size, size, 3], a warm turn and then a cool one. first: angle
    of the first picture in radians; drawn where not given."""
    look = draw_look(generator, size)
    start = look.start if first is None else first
    return [p for tint in (0, 1) for p in turn(look, tint, frames // 2, start=start)]


def sector(
    size: int, centre: NDArray[np.float64], angle: float, shape: tuple[float, float]
) -> NDArray[np.float64]:
    """Cover [size, size] from 0 to 1 of a piece of a disc around `angle`. shape: radius in pixels,
    width in radians."""
    y, x = np.mgrid[:size, :size] - centre[:, None, None]
    radius, width = shape
    distance = np.hypot(x, y)
    off = np.abs((np.arctan2(y, x) - angle + math.pi) % (2 * math.pi) - math.pi)
    return np.clip(np.minimum((width / 2 - off) * distance, radius - distance) + 0.5, 0, 1)


def sets(count: int, *, seed: int, frames: int, size: int) -> Iterator[list[Image]]:
    for index in range(count):
        yield pictures(np.random.default_rng([seed, index]), frames=frames, size=size)


def write_order_set(
    folder: str | Path, *, count: int, seed: int = 0, frames: int = 32, size: int = 64
) -> Path:
    """`count` videos of each class, encoded, and the list of them; returns the list.

    Files that are there already are kept. Raises UsageError for fewer than 8 frames or an odd
    number of them: a turn needs four steps to have a direction.
    """
    if frames < 8 or frames % 2 or size < 16 or count < 1:
        raise UsageError(
            f"{count} sets of {frames} frames of {size} pixels: need an even number of frames from "
            "8, 16 pixels and one set"
        )
    videos = (
        (f"{name}-{index:04d}", (name,), [made[i] for i in order_of(label, frames)])
        for index, made in enumerate(sets(count, seed=seed, frames=frames, size=size))
        for label, name in enumerate(CLASSES)
    )
    return write_videos(folder, videos)


def write_videos(
    folder: str | Path, videos: Iterable[tuple[str, tuple[str, ...], list[Image]]]
) -> Path:
    """Encode (name, labels, pictures) and list them, for every video; files that are there are
    kept. Returns the list, for `tubelet train`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A constant quantiser, every picture by itself: its code must not tell when it is shown.
    constant = {"crf": "-1", "qp": "22"}
    encoding = Encoding(fps=Fraction(30), gop=1, b_frames=0, options=constant)
    rows: list[str] = []
    for name, labels, made in videos:
        path = folder / f"{name}.mp4"
        if not path.exists():
            encode(made, path, encoding=encoding)
        rows.append(",".join((path.name, *labels)))
    listed = folder / "list.csv"
    listed.write_text("\n".join(rows) + "\n")
    return listed
