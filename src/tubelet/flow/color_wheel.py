"""A flow as a picture: hue is direction, saturation is speed (Baker et al. 2011, the colour wheel).

right red, down yellow, left cyan, up blue-violet; no motion white; beyond `full` pixels darker
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tubelet.flow.types import Field
from tubelet.types import Image

# Steps between the corners of the wheel, chosen by Baker et al. for even perceived change.
SECTORS = (
    ((255, 0, 0), 15),  # red
    ((255, 255, 0), 6),  # yellow
    ((0, 255, 0), 4),  # green
    ((0, 255, 255), 11),  # cyan
    ((0, 0, 255), 13),  # blue
    ((255, 0, 255), 6),  # magenta
)


@cache
def wheel() -> NDArray[np.float32]:
    """The colours around the wheel [55, 3] in [0, 1], from red."""
    rows = []
    for place, (colour, steps) in enumerate(SECTORS):
        following = SECTORS[(place + 1) % len(SECTORS)][0]
        share = np.arange(steps)[:, None] / steps
        rows.append(np.asarray(colour) * (1 - share) + np.asarray(following) * share)
    return (np.concatenate(rows) / 255).astype(np.float32)


def colour(field: Field, *, full: float) -> Image:
    """[H, W, 2] pixels -> RGB [H, W, 3]; a speed of `full` pixels has full colour."""
    colours = wheel()
    speed = np.hypot(field[..., 0], field[..., 1]) / full
    turn = np.arctan2(field[..., 1], field[..., 0]) / (2 * np.pi) % 1 * len(colours)
    low = turn.astype(np.intp) % len(colours)
    share = (turn - np.floor(turn))[..., None]
    hue = colours[low] * (1 - share) + colours[(low + 1) % len(colours)] * share
    strength = np.minimum(speed, 1)[..., None]
    shade = np.where(speed > 1, 0.75, 1.0)[..., None]
    return np.rint(255 * shade * (1 - strength * (1 - hue))).astype(np.uint8)
