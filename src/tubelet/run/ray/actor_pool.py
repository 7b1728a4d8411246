"""A pool of Ray actors; `actors.py` is what runs in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from tubelet.machine.heartbeat import NO_SIGN, Sign
from tubelet.machine.timing import COUNTERS
from tubelet.run.driver import Hear
from tubelet.run.parts.units import WorkUnit
from tubelet.run.ray.actors import cause_of

IDLE_S = 0.1


@dataclass(eq=False)
class ActorHandle:
    """waiting: the reference that says "ready", then the stream of a unit's events. sign: the last
    one. end: how it ended."""

    actor: Any
    waiting: Any
    ready: bool = False
    sign: Sign = NO_SIGN
    end: str = ""


class RayPool:
    """hire: a new actor, and the reference that says when it is ready."""

    def __init__(self, hire: Callable[[], tuple[Any, Any]]) -> None:
        self._hire = hire
        self._running: list[ActorHandle] = []
        self._work = [0] * COUNTERS

    def start(self, place: int) -> ActorHandle:
        handle = ActorHandle(*self._hire())
        self._running.append(handle)
        return handle

    def send(self, worker: ActorHandle, unit: WorkUnit) -> None:
        worker.waiting = worker.actor.work.options(num_returns="streaming").remote(unit)
        worker.sign = Sign(0, 1, "fetch", -1)

    def wait(self, hear: Hear, timeout_s: float) -> None:
        busy: dict[Any, ActorHandle] = {
            worker.waiting: worker for worker in self._running if worker.waiting is not None
        }
        if not busy:  # nothing can happen; Ray does not wait for nothing
            time.sleep(min(timeout_s, IDLE_S))
            return
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=timeout_s)
        for one in ready:
            worker = busy[one]
            try:
                event = self._next(worker)
            except RayError as error:
                worker.end, worker.waiting = cause_of(error), None
                self._running.remove(worker)
                event = "gone", None
            self._pass_on(hear, worker, *event)

    def _pass_on(self, hear: Hear, worker: ActorHandle, what: str, value: Any) -> None:
        if what == "work":
            self._work = [had + more for had, more in zip(self._work, value, strict=True)]
        elif what == "sign":
            worker.sign = value
        elif what:
            hear(worker, what, value)

    def _next(self, worker: ActorHandle) -> tuple[str, Any]:
        """The next event, ("", None) at the end of a unit's stream."""
        if not worker.ready:
            ray.get(worker.waiting)
            worker.ready, worker.waiting = True, None
            return "ready", None
        try:
            what, value = ray.get(next(worker.waiting))
        except StopIteration:
            worker.waiting = None
            return "", None
        if what in ("unit", "lost", "broken"):
            worker.waiting = None  # its last event
        return what, value

    def sign(self, worker: ActorHandle) -> Sign:
        return worker.sign

    def kill(self, worker: ActorHandle) -> None:
        ray.kill(worker.actor)
        self._running.remove(worker)

    def why(self, worker: ActorHandle) -> str:
        return worker.end or "no answer"

    def counters(self) -> Sequence[int]:
        return self._work

    def close(self) -> None:
        for worker in self._running:
            ray.kill(worker.actor)
