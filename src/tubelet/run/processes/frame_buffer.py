"""Prepared frames in memory that a decoder process and all model processes share.

    decoder   frame ─▶ slot 7, once       "slots 4 5 6 7"       model process: looks at them
              frames of the window before are in 4 5 6 already

A decoder has one buffer per model; only it writes, never into slots of the request that is being
answered. Its size is fixed beforehand, so decoders wait for the models and memory is bounded by

    decoders x models x SLOTS x views x crop^2 x channels x 4 bytes,   SLOTS = W (a + B - 1)

W frames of a window, B batch size, a windows from one to the next that shares frames with it (1
where every window does, or none). The memory has no name: it is gone with the last process.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.clips.transform import Prepared
from tubelet.extraction.lanes import Lane

Places = list[list[tuple[int, int]]]
"""Of each window its frames: (slot, serial number of what lies there)."""

LIFE = 1 << 40
"""Serial numbers of one decoder process; the next one at its buffer begins with others."""


@dataclass(frozen=True)
class Size:
    """slots of `shape` each, float32."""

    slots: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.slots * int(np.prod(self.shape)) * 4

    def array(self, memory: Any) -> NDArray[np.float32]:
        return np.frombuffer(memory, np.float32).reshape(self.slots, *self.shape)


def size_of(lane: Lane, batch_size: int) -> Size:
    """The buffer of one model."""
    window, view = lane.window, lane.view
    apart = 1
    if window.rows is None:
        apart = window.interval // gcd(window.step, window.interval)
        if apart * window.step >= window.span:  # no two windows share a frame
            apart = 1
    slots = window.frames * (apart + batch_size - 1)
    return Size(slots, (view.views, view.crop, view.crop, len(view.mean)))


@dataclass(frozen=True)
class _Slot:
    frame: weakref.ref[Prepared]
    slot: int
    serial: int


class FrameWriter:
    """The decoder's side. life: how many processes had this buffer before."""

    def __init__(self, memory: Any, size: Size, life: int = 0) -> None:
        self._slots = size.array(memory)
        self._free = list(range(size.slots))
        self._held: dict[int, _Slot] = {}  # by id of the frame, the last used at the end
        self._serial = life * LIFE

    def place(self, windows: Sequence[Sequence[Prepared]]) -> Places:
        """Where the frames of these windows lie now. What lay there before may be gone."""
        wanted = {id(frame): frame for window in windows for frame in window}
        for key, frame in wanted.items():
            held = self._held.pop(key, None)
            if held is not None and held.frame() is not frame:  # a new frame with an old one's id
                self._free.append(held.slot)
                held = None
            if held is not None:
                self._held[key] = held
        for key, frame in wanted.items():
            if key not in self._held:
                slot = self._free.pop() if self._free else self._take(wanted)
                self._slots[slot] = frame
                self._serial += 1
                self._held[key] = _Slot(weakref.ref(frame), slot, self._serial)
        at = self._held
        return [[(at[id(f)].slot, at[id(f)].serial) for f in window] for window in windows]

    def _take(self, wanted: dict[int, Prepared]) -> int:
        """The slot of a frame that nobody holds any more, or of the one used longest ago."""
        others = [key for key in self._held if key not in wanted]
        gone = [key for key in others if self._held[key].frame() is None]
        return self._held.pop((gone or others)[0]).slot


class FrameReader:
    """A model process's side. A frame that is asked for again is the same array again."""

    def __init__(self, memory: Any, size: Size) -> None:
        self._slots = size.array(memory)
        self._seen: dict[int, tuple[int, Prepared]] = {}

    def frames(self, places: Places) -> list[list[Prepared]]:
        return [[self._frame(*place) for place in window] for window in places]

    def _frame(self, slot: int, serial: int) -> Prepared:
        seen = self._seen.get(slot)
        if seen is None or seen[0] != serial:
            seen = self._seen[slot] = serial, self._slots[slot]
        return seen[1]
