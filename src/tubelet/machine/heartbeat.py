"""Signs of life, for whoever watches over this process and may have to kill it.

    with HEARTBEAT.expected("decode"):       from here on silence is a bad sign
        ...  HEARTBEAT.beat(frame=k)         something moved

A worker process shares its cells with its parent (`run/processes/process_pool.py`), which reads
them as `Sign`. In other processes nobody looks, and nothing happens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import NamedTuple

STAGES = ("", "fetch", "open", "decode", "model")
READING = ("fetch", "open", "decode")
CELLS = 4


class Sign(NamedTuple):
    """beats: a number that changes whenever something moved. limits: allowed silence, in
    multiples of the time limit; 0: unlimited. frame: decoded last, -1 for none yet."""

    beats: int
    limits: int
    stage: str
    frame: int


NO_SIGN = Sign(0, 0, "", -1)
"""Of a process that nobody watches."""


def read_sign(cells: MutableSequence[int]) -> Sign:
    """What the cells of another process say."""
    beats, limits, stage, frame = cells
    return Sign(beats, limits, STAGES[stage], frame - 1)


class Silence:
    """For how long another process has given no sign of life."""

    def __init__(self) -> None:
        self._sign: Sign | None = None
        self._silent_s = 0.0

    def is_over(self, sign: Sign, elapsed_s: float, limit_s: float) -> bool:
        """Whether it has been silent for longer than is allowed, `elapsed_s` after the last look.

        limit_s: the time limit; `Sign.limits` says how many of them may pass.
        """
        self._silent_s = self._silent_s + elapsed_s if sign == self._sign else 0.0
        self._sign = sign
        return bool(sign.limits) and self._silent_s > sign.limits * limit_s


class Heartbeat:
    """Of this process. Any thread may beat; one thread, the one that runs the videos, says what is
    expected."""

    def __init__(self) -> None:
        self._cells: MutableSequence[int] = array("q", [0] * CELLS)

    @property
    def sign(self) -> Sign:
        """What this process says now."""
        return read_sign(self._cells)

    def share(self, cells: MutableSequence[int]) -> None:
        """From now on in cells that another process reads: CELLS 64-bit integers."""
        self._cells = cells

    @property
    def beats(self) -> int:
        """Changes whenever something moved."""
        return self._cells[0]

    def beat(self, *, frame: int | None = None) -> None:
        """Something moved: a piece of a download, a frame, a flow, a row."""
        self._cells[0] += 1
        if frame is not None:
            self._cells[3] = frame + 1

    def enter(self, stage: str) -> None:
        """What is being done."""
        self._cells[2] = STAGES.index(stage)
        self.beat()

    @contextmanager
    def expected(self, stage: str, *, limits: int = 1) -> Iterator[None]:
        """Within the block something has to move every `limits` time limits."""
        before = self._cells[1], self._cells[2]
        if stage == READING[0]:
            self._cells[3] = 0
        self.enter(stage)
        self._cells[1] = limits
        try:
            yield
        finally:
            self._cells[1], self._cells[2] = before
            self.beat()


HEARTBEAT = Heartbeat()
"""That of this process."""
