"""What the stages of a run do with their time: how long each was busy, and what came of it.

    TIMER.each("decode", rows)       time spent in making them
    with TIMER.timed("model"): ...   time of a block

Each process counts for itself; a run adds its processes up (`Works`). Stages of one process overlap
(decoding runs in a thread), so shares of them need not sum to one: the one nearest to 100 % is what
the others wait for. On a CPU that stages share, each is counted while it waits for the core.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

STAGES = ("fetch", "decode", "model", "store")
UNITS = {"decode": "frames", "model": "rows", "store": "MB"}
COUNTERS = 2 * len(STAGES)
"""Of each stage: nanoseconds busy; frames, rows or bytes."""

T = TypeVar("T")


class Timer:
    """Of this process. Each stage is counted by one thread at a time."""

    def __init__(self) -> None:
        self._cells: MutableSequence[int] = array("q", [0] * COUNTERS)
        self._taken = [0] * COUNTERS

    def share(self, cells: MutableSequence[int]) -> None:
        """From now on in cells that another process reads: COUNTERS 64-bit integers."""
        self._cells = cells

    def count(self, stage: str, units: int) -> None:
        self._cells[2 * STAGES.index(stage) + 1] += units

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            self._cells[2 * STAGES.index(stage)] += time.perf_counter_ns() - began

    @contextmanager
    def entering(self, stage: str, place: AbstractContextManager[T]) -> Iterator[T]:
        """`place`; the time until one is in it."""
        with ExitStack() as stack:
            with self.timed(stage):
                value = stack.enter_context(place)
            yield value

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time that making them took, and not what is done with them."""
        source, nothing = iter(items), object()
        try:
            while True:
                with self.timed(stage):
                    item: Any = next(source, nothing)
                if item is nothing:
                    return
                yield item
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def read(self) -> list[int]:
        return list(self._cells)

    def take(self) -> list[int]:
        """What was counted since the last call, for a process that cannot read these cells."""
        before, self._taken = self._taken, self.read()
        return [now - then for now, then in zip(self._taken, before, strict=True)]

    def add(self, counters: Sequence[int]) -> None:
        """What another process took."""
        for i, more in enumerate(counters):
            if more:  # other stages are other threads'
                self._cells[i] += more


TIMER = Timer()
"""That of this process."""

BUSY = 0.5
"""A stage that is busy for less than this share of the time did not hold the others up."""


@dataclass(frozen=True)
class Work:
    """wall_s: how long. busy: of each stage the share of that time, averaged over its processes.
    per_s: frames, rows and MB per second of all processes together."""

    wall_s: float
    busy: dict[str, float]
    per_s: dict[str, float]

    @property
    def bound_by(self) -> str | None:
        """The stage that the others waited for; None where none was busy for half of the time."""
        most = max(self.busy, key=lambda stage: self.busy[stage])
        return most if self.busy[most] >= BUSY else None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        stages = {stage: {"busy": round(share, 4)} for stage, share in self.busy.items()}
        for stage, unit in UNITS.items():
            stages[stage][f"{unit}_per_s"] = round(self.per_s[stage], 3)
        return {"seconds": round(self.wall_s, 3), "bound_by": self.bound_by, "stages": stages}


def in_words(plain: Mapping[str, Any]) -> str:
    """What `Work.plain` says, in one line."""
    told: list[str] = []
    for stage, facts in plain["stages"].items():
        unit = UNITS.get(stage)
        if unit is not None:
            told.append(f"{stage} {facts[f'{unit}_per_s']:.3g} {unit}/s, busy {facts['busy']:.0%}")
        elif facts["busy"] >= 0.005:
            told.append(f"{stage} busy {facts['busy']:.0%}")
    bound = plain["bound_by"]
    end = f"{bound} is the limit" if bound else "no stage was busy for half of the time"
    return f"{'; '.join(told)}: {end}"


class Works:
    """A run's stages, for whoever watches; the engine says where to read.

    places: how many processes a stage runs in, 1 where it is not named.
    """

    def __init__(self) -> None:
        self._read: Callable[[], Sequence[int]] | None = None
        self._base: Sequence[int] = ()
        self._places: Mapping[str, int] = {}
        self._began = 0.0

    def follow(
        self, read: Callable[[], Sequence[int]], places: Mapping[str, int] | None = None
    ) -> None:
        """The run begins; `read` gives the counters of all its processes together."""
        self._base, self._places = list(read()), places or {}
        self._began, self._read = time.monotonic(), read

    def now(self) -> Work | None:
        """None before the run began, and before anything was done."""
        if self._read is None:
            return None
        counters = [now - then for now, then in zip(self._read(), self._base, strict=True)]
        wall_s = time.monotonic() - self._began
        if not any(counters) or wall_s <= 0:
            return None
        busy, per_s = {}, {}
        for k, stage in enumerate(STAGES):
            busy[stage] = counters[2 * k] / 1e9 / wall_s / self._places.get(stage, 1)
            per_s[stage] = counters[2 * k + 1] / wall_s / (1e6 if UNITS.get(stage) == "MB" else 1)
        return Work(wall_s, busy, per_s)
