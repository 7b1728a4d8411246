"""How long the optical flow of a plan takes on this machine."""

from __future__ import annotations

import time

import numpy as np

from tubelet.errors import UsageError
from tubelet.flow.base import FlowConfig, create_method
from tubelet.flow.pool import available_processors

SIZE = (256, 341)
"""The working resolution of a 4:3 video at the networks' short side, height first."""


def seconds_per_pair(config: FlowConfig) -> float | None:
    """One pair of made pictures, timed now, over the processors; None where it cannot run here."""
    if config.method == "raft":  # its network would have to be loaded
        return None
    try:
        compute = create_method(config)
    except UsageError:  # no OpenCV here: extract says what to install
        return None
    coarse = np.random.default_rng(0).integers(0, 255, (SIZE[0] // 8 + 1, SIZE[1] // 8 + 2))
    picture = coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)
    first, second = (np.ascontiguousarray(picture[: SIZE[0], x : x + SIZE[1]]) for x in (0, 2))
    start = time.perf_counter()
    compute(first, second)
    return (time.perf_counter() - start) / available_processors()


def flow_words(config: FlowConfig, pairs: int) -> str:
    """What the flow of so many pairs adds, in words."""
    each = seconds_per_pair(config)
    if each is None:
        return f"; without the {config.method} flow of {pairs} pairs, which was not timed"
    return (
        f"; {config.method} flow of {pairs} pairs: about {each * pairs:.0f} s more (one pair of "
        f"{SIZE[1]} x {SIZE[0]} timed just now, {available_processors()} processors)"
    )
