"""A data set that needs two moments far apart: do two turns go the same way?

    warm turn    pause    cool turn      (or the cool one first)
    ~~~~~~~~~~   . . .    ~~~~~~~~~~     a sector turns once, whole, clockwise or counter

Three labels for each video, out of six:

    warm_clockwise | warm_counter      which way the warm turn goes
    cool_clockwise | cool_counter      which way the cool one does
    alike          | against           whether both go the same way

All videos of a set are reorderings of the same pictures, so that a single frame or a shuffled clip
tells nothing. The first four labels are local: a few neighbouring frames show them. The last two
are a relation. Of the four combinations of directions, two are alike and two against (an exclusive
or), so that a sum of what the one turn and what the other looks like cannot tell them apart. A
network whose mean over time adds up places that each see one turn at most is such a sum: it learns
the first four labels and stays at chance with the last two, however long it is trained. The pause
keeps the turns apart, and each begins at an angle of its own, so that neither border tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tubelet.errors import UsageError
from tubelet.train.order import draw_look, turn, write_videos
from tubelet.types import Image

CLASSES = (
    "warm_clockwise", "warm_counter", "cool_clockwise", "cool_counter", "alike", "against",
)  # fmt: skip
LOCAL = CLASSES[:4]
"""What a few neighbouring frames show."""


def labels_of(warm_counter: bool, cool_counter: bool) -> tuple[str, str, str]:
    """The labels of a video by the directions of its turns."""
    return (
        CLASSES[warm_counter],
        CLASSES[2 + cool_counter],
        CLASSES[4 + (warm_counter != cool_counter)],
    )


def relation_set(
    generator: np.random.Generator, *, frames: int, size: int
) -> Iterator[tuple[tuple[str, str, str], list[Image]]]:
    """(labels, pictures) of the four videos of one set. Two eighths of the frames are the pause."""
    look, pause = draw_look(generator, size), frames // 4
    length = (frames - pause) // 2
    starts = (look.start, generator.uniform(0, 2 * math.pi))
    warm, cool = (turn(look, tint, length, start=starts[tint]) for tint in (0, 1))
    rest = [look.picture(2, None)] * (frames - 2 * length)
    for warm_counter in (False, True):
        for cool_counter in (False, True):
            parts = [warm[::-1] if warm_counter else warm, cool[::-1] if cool_counter else cool]
            if generator.integers(2):
                parts.reverse()
            yield labels_of(warm_counter, cool_counter), parts[0] + rest + parts[1]


def write_relation_set(
    folder: str | Path, *, count: int, seed: int = 0, frames: int = 32, size: int = 64
) -> Path:
    """`count` sets of four videos, encoded, and the list of them (`Data(multi_label=True)`).

    Files that are there already are kept. Raises UsageError for fewer than 16 frames.
    """
    if frames < 16 or size < 16 or count < 1:
        raise UsageError(
            f"{count} sets of {frames} frames of {size} pixels: need 16 frames, 16 pixels, one set"
        )
    made = (
        (f"{labels[0]}-{labels[1]}-{index:04d}", labels, pictures)
        for index in range(count)
        for labels, pictures in relation_set(
            np.random.default_rng([seed, index]), frames=frames, size=size
        )
    )
    return write_videos(folder, made)
