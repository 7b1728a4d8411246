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
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tubelet.encode import Encoding, encode
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


def pictures(
    generator: np.random.Generator, *, frames: int, size: int, first: float | None = None
) -> list[Image]:
    """The pictures of one set: uint8 [size, size, 3], a warm turn and then a cool one. first: angle
    of the first picture in radians; drawn where not given."""
    low, high = generator.uniform(40, 90), generator.uniform(130, 190)
    tints = [np.array([high, low, low]), np.array([low, low, high])]
    centre = size / 2 + generator.uniform(-size / 12, size / 12, 2)
    radius, width = size * generator.uniform(0.32, 0.48), math.radians(generator.uniform(90, 160))
    drawn, bright = generator.uniform(0, 2 * math.pi), generator.uniform(200, 255)
    start = drawn if first is None else first
    noise = generator.normal(0, 6, (size, size, 3))
    half = frames // 2
    made: list[Image] = []
    for i in range(frames):
        angle = start + 2 * math.pi * (i % half) / half
        inside = sector(size, centre, angle, (radius, width))[..., None]
        ground = tints[i // half] + noise
        made.append(np.clip(ground + (bright - ground) * inside, 0, 255).astype(np.uint8))
    return made


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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A constant quantiser: a picture's code must not tell when it is shown.
    constant = {"crf": "-1", "qp": "22"}
    encoding = Encoding(fps=Fraction(30), gop=1, b_frames=0, options=constant)
    rows: list[str] = []
    for index, made in enumerate(sets(count, seed=seed, frames=frames, size=size)):
        for label, name in enumerate(CLASSES):
            path = folder / f"{name}-{index:04d}.mp4"
            if not path.exists():
                encode((made[i] for i in order_of(label, frames)), path, encoding=encoding)
            rows.append(f"{path.name},{name}")
    listed = folder / "list.csv"
    listed.write_text("\n".join(rows) + "\n")
    return listed
