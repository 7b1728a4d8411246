"""A data set whose classes are nothing but the order of the same frames.

A needle makes one whole turn over a warm background and one over a cool one. The two choices of
order make four classes, and each is a reordering of every other one's frames:

    warm_cool_clockwise     warm 0 45 90 .. 315   cool 0 45 90 .. 315
    warm_cool_counter       the two turns backwards
    cool_warm_clockwise     first the cool turn, then the warm one
    cool_warm_counter       the whole of the first class backwards

All four are made of one set of pictures, every picture coded by itself, so that a single frame, or
a shuffled clip, is no better than a guess (1 in 4). A network without kernels in time stays there.

Colours, noise, size, place and the first angle of the needle are drawn for each set of four.
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


def pictures(generator: np.random.Generator, *, frames: int, size: int) -> list[Image]:
    """The pictures of one set: uint8 [size, size, 3], a warm turn and then a cool one."""
    low, high = generator.uniform(40, 90), generator.uniform(130, 190)
    tints = [np.array([high, low, low]), np.array([low, low, high])]
    centre = size / 2 + generator.uniform(-size / 12, size / 12, 2)
    length, width = size * generator.uniform(0.28, 0.42), size * generator.uniform(0.04, 0.07)
    first, bright = generator.uniform(0, 2 * math.pi), generator.uniform(200, 255)
    noise = generator.normal(0, 12, (size, size, 3))
    half = frames // 2
    made: list[Image] = []
    for i in range(frames):
        angle = first + 2 * math.pi * (i % half) / half
        inside = needle(size, centre, angle, (length, width))[..., None]
        ground = tints[i // half] + noise
        made.append(np.clip(ground + (bright - ground) * inside, 0, 255).astype(np.uint8))
    return made


def needle(
    size: int, centre: NDArray[np.float64], angle: float, shape: tuple[float, float]
) -> NDArray[np.float64]:
    """Cover [size, size] from 0 to 1 of a bar from the centre outwards. shape: length, width."""
    y, x = np.mgrid[:size, :size] - centre[:, None, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = np.abs(y * math.cos(angle) - x * math.sin(angle))
    length, width = shape
    end = np.minimum(along, length - along)
    return np.clip(np.minimum(end, width - across) + 0.5, 0, 1)


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
    constant = {"crf": "-1", "qp": "16"}
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
