"""The driver: gives work units out, hears of them, replaces what dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from tubelet.errors import StoreError
from tubelet.inputs import Input
from tubelet.machine.timing import COUNTERS, STAGES
from tubelet.run.claims.disk import Claims
from tubelet.run.job import Job, Outcome, Reporter, Stopping, books, nobody
from tubelet.run.parts.units import WorkUnit, busy_workers, groups
from tubelet.run.ray.actors import DIED, TICK_S, cause_of
from tubelet.run.share.durations import lengths
from tubelet.run.worker import POLL_S, attempts_of, failed_elsewhere
from tubelet.store.failures import Failure
from tubelet.store.folder import Folder

ATTEMPTS = 3
"""How often a video, or a part of one, is tried whose worker or decoder died."""


@dataclass
class ActorHandle:
    """A model worker as the driver sees it. unit, stream: what it works on. heard: when it gave
    its last sign of life. silent: killed for want of one."""

    actor: Any
    greeting: Any
    unit: WorkUnit | None = None
    stream: Any = None
    ready: bool = False
    heard: float = 0.0
    silent: bool = False


class Driver:
    """Hands out units, hears of them, replaces what dies."""

    def __init__(
        self, job: Job, folders: Sequence[Folder], claims: Claims, report: Reporter,
        start: Callable[[], ActorHandle], part_s: float,
    ) -> None:  # fmt: skip
        self._job, self._folders, self._claims, self._report = job, folders, claims, report
        self._start_child, self._part_s = start, part_s
        self._left: deque[WorkUnit] = deque()
        self._processes: list[ActorHandle] = []
        self._later: list[Input] = []
        self._losses: dict[tuple[str, int], int] = {}
        self._waiting_parts: dict[str, int] = {}
        self._closed: set[str] = set()
        self._before = attempts_of(job)
        self._failed = 0
        self._work = [0] * COUNTERS
        self._broken: str | None = None
        self._stopping: Stopping = nobody

    def work(self, workers: int, stopping: Stopping = nobody) -> int:
        """The number of failed inputs."""
        self._stopping = stopping
        job, note = self._job, self._report.note
        seconds = lengths(job.inputs, limit=job.timeout, note=note)
        self._left.extend(groups(self._job.inputs, seconds, self._part_s, workers))
        try:
            self._processes = [
                self._start_child() for _ in range(busy_workers(self._left, workers))
            ]
            places = {str(stage): len(self._processes) for stage in STAGES}
            self._claims.works.follow(lambda: self._work, places)
            while self._step():
                pass
        finally:
            for child in self._processes:
                ray.kill(child.actor)
        if self._broken is not None:
            raise StoreError(self._broken)
        return self._failed

    def _step(self) -> bool:
        """One round: child out, listen. False when nothing is left to do."""
        failed = self._failed and self._job.fail_fast
        if self._stopping() or self._broken or failed:
            self._left.clear()
            self._later.clear()
        for child in self._processes:
            if child.ready and child.unit is None:
                self._give(child)
        busy = [child for child in self._processes if child.unit is not None]
        if not busy and not self._left:
            if not self._later:
                return False
            time.sleep(POLL_S)
            again, self._later = self._later, []
            self._left.extend(WorkUnit("whole", (item,)) for item in again)
            return True
        streams = {child.stream: child for child in busy}
        greetings = {child.greeting: child for child in self._processes if not child.ready}
        ready, _ = ray.wait([*streams, *greetings], num_returns=1, timeout=TICK_S)
        for child in busy:
            self._watch(child)
        for one in ready:
            if one in greetings:
                self._greet(greetings[one])
            else:
                self._listen(streams[one])
        return True

    def _watch(self, child: ActorHandle) -> None:
        """End a worker whose video gives no sign of life for the time limit."""
        limit = self._job.timeout
        reads = child.unit is not None and child.unit.step in ("whole", "plan", "part")
        if limit and reads and not child.silent and time.monotonic() - child.heard > limit:
            child.silent = True
            ray.kill(child.actor)

    def _greet(self, child: ActorHandle) -> None:
        try:
            ray.get(child.greeting)
            child.ready = True
        except RayError as error:
            self._broken = f"a worker could not start: {cause_of(error)}"
            self._processes.remove(child)

    def _give(self, child: ActorHandle) -> None:
        """The next unit of which something is ours to do.

        A video is not read as a whole while parts of it are still being made: they are cleared
        away behind it, and one that came later would stay.
        """
        units = [other.unit for other in self._processes if other.unit is not None]
        made = {unit.items[0].id for unit in units if unit.step == "part"}
        waiting: list[WorkUnit] = []
        while self._left:
            unit = self._left.popleft()
            if unit.step == "whole" and not made.isdisjoint(item.id for item in unit.items):
                waiting.append(unit)
                continue
            mine = [item for item in unit.items if self._is_ours(item)]
            if mine:
                child.unit = replace(unit, items=tuple(mine))
                child.heard = time.monotonic()
                child.stream = child.actor.work.options(num_returns="streaming").remote(child.unit)
                break
        self._left.extendleft(reversed(waiting))

    def _is_ours(self, item: Input) -> bool:
        if item.id in self._closed:
            return False
        if item.id in self._waiting_parts or self._claims.holds(item.id):
            return True
        if not self._claims.take(item.id):
            self._later.append(item)
            return False
        elsewhere = failed_elsewhere(self._job, item, self._before)
        if elsewhere is not None:
            self._close(elsewhere)
            return False
        return True

    def _listen(self, child: ActorHandle) -> None:
        try:
            what, value = ray.get(next(child.stream))
        except StopIteration:
            child.unit = child.stream = None
        except RayError as error:
            self._processes.remove(child)
            why = f"the worker that had it died: {cause_of(error)}"
            if child.silent:
                why = f"nothing moved for {self._job.timeout:g} s (--timeout), so it was ended"
            self._lost(child.unit, why)
            if not (self._stopping() or self._broken):
                self._processes.append(self._start_child())
        else:
            child.heard = time.monotonic()
            self._hear(child, what, value)

    def _hear(self, child: ActorHandle, what: str, value: Any) -> None:
        assert child.unit is not None
        if what == "advance":
            self._report.advance(*value)
        elif what == "work":
            self._work = [had + more for had, more in zip(self._work, value, strict=True)]
        elif what == "note":
            self._report.note(value)
        elif what == "done":
            self._tell(child.unit, value)
        elif what == "broken":
            self._broken = value
        elif what == "lost":
            self._lost(child.unit, value)
        elif what == "unit":
            self._next(child.unit, value)

    def _tell(self, unit: WorkUnit, outcome: Outcome) -> None:
        """A video is finished; one whose decoder died is tried again."""
        item = next(item for item in unit.items if item.id == outcome.id)
        died = outcome.kind == "failed" and DIED in outcome.text
        if died and self._may_retry(item, -1):
            self._left.append(WorkUnit("whole", (item,)))
            return
        self._close(outcome)

    def _close(self, outcome: Outcome) -> None:
        self._closed.add(outcome.id)
        self._failed += outcome.kind == "failed"
        self._claims.release(outcome.id)
        self._report.done(outcome)

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
        elif unit.step == "plan" or value:
            if value:
                self._report.note(f"{item.id}: read as a whole: {value}")
            self._as_a_whole(item)

    def _as_a_whole(self, item: Input) -> None:
        self._waiting_parts.pop(item.id, None)
        self._left = deque(u for u in self._left if item not in u.items or u.step == "whole")
        if not any(item in unit.items for unit in self._left):
            self._left.appendleft(WorkUnit("whole", (item,)))

    def _may_retry(self, item: Input, part: int) -> bool:
        key = item.id, part
        self._losses[key] = self._losses.get(key, 0) + 1
        return self._losses[key] < ATTEMPTS

    def _lost(self, unit: WorkUnit | None, why: str) -> None:
        """A worker died with a unit: each of its videos is tried again by itself, or given up."""
        for item in unit.items if unit is not None else ():
            assert unit is not None
            if item.id in self._closed or self._stopping():
                continue
            if unit.step == "part" and item.id not in self._waiting_parts:
                continue  # it is read as a whole by now
            if self._may_retry(item, unit.part):
                self._left.appendleft(replace(unit, items=(item,)))
                continue
            message = f"{why}; tried {ATTEMPTS} times"
            failure = Failure(item.id, item.shown, "decode", "WorkerDied", message, unexpected=True)
            for book in books(self._job, self._folders):
                book.add(failure)
            self._waiting_parts.pop(item.id, None)
            self._left = deque(u for u in self._left if item not in u.items)
            self._close(Outcome(item.id, "failed", message))
