"""Many videos, any kind of worker: who gets what, what is tried again, when it is over.

    Driver ── unit ──▶ worker of a `WorkerPool`: this process, processes of this machine, Ray actors
      ▲                   │  rows -> OUT
      └───── events ──────┘

A unit is some short videos, or one step of a long one (plan, part k, join). The driver holds the
claims and gives out units in order. A worker that dies, or gives no sign of life for the time
limit, is replaced; whatever it was working on is counted, and given up when ATTEMPTS workers have
died with it, or when one fell silent over it alone. So nothing is tried for ever.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tubelet.errors import StoreError
from tubelet.inputs import Input
from tubelet.machine.heartbeat import READING, Sign, Silence
from tubelet.machine.timing import STAGES, Works
from tubelet.run.job import Job, Outcome, Reporter, Stopping, nobody
from tubelet.run.out import Out
from tubelet.run.parts.units import WorkUnit
from tubelet.store.failures import Failure

ATTEMPTS = 3
"""Workers that may die with a video, or with a part of one, before it is given up."""

TICK_S = 1.0
"""How often workers are looked at; more often for short time limits."""

POLL_S = 0.5
"""How often a video that another run works on is asked for again."""

Hear = Callable[[Any, str, Any], None]
"""Called with (worker, what, value). "ready": it can be sent a unit; "gone": it is dead; and what
`Worker` and `EventReporter` tell: "advance", "note", "done", then "unit", "lost" or "broken"."""


class WorkerPool(Protocol):
    """Workers of one kind; a worker is whatever `start` gives."""

    def start(self, place: int) -> Any:
        """A new worker; places count from 0, one that replaces another has the same."""
        ...

    def send(self, worker: Any, unit: WorkUnit) -> None:
        """Something to do, for a worker that is ready and has nothing."""
        ...

    def wait(self, hear: Hear, timeout_s: float) -> None:
        """`hear` what happened, at the latest after so many seconds."""
        ...

    def sign(self, worker: Any) -> Sign:
        """Its last sign of life."""
        ...

    def kill(self, worker: Any) -> None:
        """End it now; nothing more is heard of it."""
        ...

    def why(self, worker: Any) -> str:
        """How a worker ended, in words."""
        ...

    def counters(self) -> Sequence[int]:
        """What all workers have counted, see `machine.timing`."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(eq=False)
class DrivenWorker:
    """A worker as the driver sees it. unit: what it works on. begun: ids of its videos that it has
    looked at; current: the last one."""

    worker: Any
    place: int
    ready: bool = False
    unit: WorkUnit | None = None
    begun: set[str] = field(default_factory=set[str])
    current: str = ""
    silence: Silence = field(default_factory=Silence)


class Driver:
    """One run over a pool."""

    def __init__(
        self, job: Job, out: Out, report: Reporter, pool: WorkerPool, stopping: Stopping = nobody
    ) -> None:
        self._job, self._out, self._report, self._pool = job, out, report, pool
        self._stopping = stopping
        self._left: deque[WorkUnit] = deque()
        self._later: list[Input] = []
        self._children: list[DrivenWorker] = []
        self._losses: dict[tuple[str, int], int] = {}
        self._waiting_parts: dict[str, int] = {}
        self._closed: set[str] = set()
        self._before = out.attempts()
        self._failed = 0
        self._broken: str | None = None
        self._told_of_others = False
        self._looked = time.monotonic()

    def work(self, units: Iterable[WorkUnit], workers: int, works: Works) -> int:
        """Until every video is reported. The number of failed ones. StoreError when OUT stopped
        being writable, or no worker can start."""
        self._left.extend(units)
        try:
            self._children = [DrivenWorker(self._pool.start(k), k) for k in range(workers)]
            works.follow(self._pool.counters, dict.fromkeys(STAGES, workers))
            while self._step():
                pass
        finally:
            self._pool.close()
        if self._broken is not None:
            raise StoreError(self._broken)
        return self._failed

    def _step(self) -> bool:
        """One round: give out, listen, watch. False when nothing is left to do."""
        if self._is_over():
            self._left.clear()
            self._later.clear()
        for child in self._children:
            if child.ready and child.unit is None:
                self._give(child)
        if not any(child.unit for child in self._children) and not self._left:
            if not self._later:
                return False
            self._ask_again()
            return True
        limit = self._job.timeout
        tick = min(TICK_S, limit / 4) if limit else TICK_S
        self._pool.wait(self._hear, tick)
        now = time.monotonic()
        # While this process itself was stopped (Ctrl-Z), nobody was silent.
        elapsed, self._looked = min(now - self._looked, 2 * tick), now
        for child in list(self._children) if limit else ():
            sign = self._pool.sign(child.worker)
            if child.unit is not None and child.silence.is_over(sign, elapsed, limit or 0):
                self._pool.kill(child.worker)
                self._lose(child, sign, silent=True)
        return True

    def _is_over(self) -> bool:
        failed = bool(self._failed and self._job.fail_fast)
        return failed or self._broken is not None or self._stopping()

    def _ask_again(self) -> None:
        """Only videos that other runs hold are left."""
        assert self._out.claims is not None
        holders = (self._out.claims.holder(item.id) for item in self._later)
        if not self._told_of_others and (holder := next(filter(None, holders), "")):
            self._report.note(f"waiting for videos of other runs ({holder})")
            self._told_of_others = True
        before = len(self._later)
        again, self._later = self._later, []
        self._left.extend(WorkUnit("whole", (i,)) for i in again if self._is_ours(i))
        if len(self._later) == before:
            time.sleep(POLL_S)

    def _give(self, child: DrivenWorker) -> None:
        """The next unit of which something is ours to do.

        A video is not read as a whole while parts of it are still being made: they are cleared
        away behind it, and one that came later would stay.
        """
        units = [other.unit for other in self._children if other.unit is not None]
        made = {unit.items[0].id for unit in units if unit.step == "part"}
        waiting: list[WorkUnit] = []
        while self._left:
            unit = self._left.popleft()
            if unit.step == "whole" and not made.isdisjoint(item.id for item in unit.items):
                waiting.append(unit)
                continue
            mine = tuple(item for item in unit.items if self._is_ours(item))
            if mine:
                child.unit, child.begun, child.current = replace(unit, items=mine), set(), ""
                child.silence = Silence()
                self._pool.send(child.worker, child.unit)
                break
        self._left.extendleft(reversed(waiting))

    def _is_ours(self, item: Input) -> bool:
        if item.id in self._closed:
            return False
        assert self._out.claims is not None
        if self._out.claims.holds(item.id):
            return True
        if not self._out.claim(item.id):
            self._later.append(item)
            return False
        line = self._out.failure(item.id)  # another run may have tried it since this one began
        if line and line.get("attempts", 1) > self._before.get(item.id, 0):
            text = f"in another run: {line.get('message')}"
            self._close(Outcome(item.id, "failed", text))
            return False
        return True

    def _hear(self, worker: Any, what: str, value: Any) -> None:
        child = next((child for child in self._children if child.worker is worker), None)
        if child is None:
            return  # killed a moment ago
        if what == "ready":
            child.ready = True
        elif what == "gone":
            self._lose(child, self._pool.sign(worker))
        elif what == "advance":
            if value[1] == 0:
                child.current = value[0]
                child.begun.add(child.current)
            self._report.advance(*value)
        elif what == "note":
            self._report.note(value)
        elif what == "done":
            self._close(value)
        elif what == "broken":
            self._broken = value
            child.unit = None
        else:
            unit, child.unit = child.unit, None
            assert unit is not None
            if what == "lost":
                self._again(unit, {child.current}, why=value)
            else:
                self._next(unit, value)

    def _close(self, outcome: Outcome) -> None:
        """What became of a video, once."""
        if outcome.id in self._closed:
            return
        self._closed.add(outcome.id)
        self._failed += outcome.kind == "failed"
        self._out.release(outcome.id)
        self._report.done(replace(outcome, known=outcome.id in self._before))

    def _next(self, unit: WorkUnit, value: Any) -> None:
        """A step of a long video is done: what follows from it."""
        if unit.step == "whole":
            return
        (item,) = unit.items
        if unit.step == "plan" and value:
            self._waiting_parts[item.id] = value
            self._left.extendleft(WorkUnit("part", (item,), k) for k in reversed(range(value)))
        elif unit.step == "part" and not value and item.id in self._waiting_parts:
            self._waiting_parts[item.id] -= 1
            if not self._waiting_parts[item.id]:
                self._left.appendleft(WorkUnit("join", (item,)))
        elif value and item.id in self._waiting_parts:  # the first part that says so
            self._report.note(f"{item.id}: read as a whole: {value}")
            self._as_a_whole(item)

    def _as_a_whole(self, item: Input) -> None:
        self._waiting_parts.pop(item.id, None)
        self._left = deque(u for u in self._left if item not in u.items or u.step == "whole")
        if not any(item in unit.items for unit in self._left):
            self._left.appendleft(WorkUnit("whole", (item,)))

    def _lose(self, child: DrivenWorker, sign: Sign, *, silent: bool = False) -> None:
        """A worker died, or was killed for its silence; another one takes its place."""
        self._children.remove(child)
        how = self._pool.why(child.worker)
        if not child.ready:
            self._broken = f"a worker could not start: it ended with {how}"
            return
        if child.unit is not None:
            reads = sign.stage in READING and child.current
            blamed = {child.current} if reads else child.begun
            why = f"the worker process that read it ended with {how}"
            self._again(child.unit, blamed, why=why, sign=sign, silent=silent)
        if (self._left or self._later) and not self._is_over():
            self._children.append(DrivenWorker(self._pool.start(child.place), child.place))

    def _again(
        self, unit: WorkUnit, blamed: set[str], *, why: str,
        sign: Sign | None = None, silent: bool = False,
    ) -> None:  # fmt: skip
        """Each video of a lost unit is tried again by itself; those to blame are counted, all of
        them where nobody knows, and given up in the end."""
        items = [item for item in unit.items if item.id not in self._closed]
        if unit.step == "part" and unit.items[0].id not in self._waiting_parts:
            return  # it is read as a whole by now
        to_blame = [item for item in items if item.id in blamed] or items
        for item in reversed(items):
            if item in to_blame:
                key = item.id, unit.part
                self._losses[key] = self._losses.get(key, 0) + 1
                alone = silent and len(to_blame) == 1
                if alone or self._losses[key] >= ATTEMPTS:
                    failure = _stalled(item, sign, self._job.timeout) if silent else None
                    self._give_up(item, failure or _died(item, sign, why))
                    continue
            self._left.appendleft(replace(unit, items=(item,)))

    def _give_up(self, item: Input, failure: Failure) -> None:
        self._waiting_parts.pop(item.id, None)
        self._left = deque(u for u in self._left if item not in u.items)
        self._out.fail(failure)
        self._close(Outcome.failed(failure))


def _died(item: Input, sign: Sign | None, why: str) -> Failure:
    message = f"{why}; tried {ATTEMPTS} times"
    stage = sign.stage if sign is not None and sign.stage else "store"
    frame = sign.frame if sign is not None and sign.frame >= 0 else None
    return Failure(item.id, item.shown, stage, "WorkerDied", message, frame, unexpected=True)


def _stalled(item: Input, sign: Sign | None, limit: float | None) -> Failure:
    assert sign is not None
    frame = sign.frame if sign.frame >= 0 else None
    what = {"fetch": "nothing arrived", "model": "the model gave no row"}.get(
        sign.stage, "no frame came" + (f" after frame {frame}" if frame is not None else "")
    )
    seconds = (limit or 0) * sign.limits
    message = (
        f"{item.shown}: {what} for {seconds:g} s, so the process that read it was killed; "
        "if that is only slow, allow more with --timeout and run again with --retry-failed"
    )
    return Failure(item.id, item.shown, sign.stage, "TimeLimit", message, frame)
