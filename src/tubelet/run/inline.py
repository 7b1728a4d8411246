"""A pool of one worker, which is this process: units are done while the driver waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tubelet.extraction.extractor import Extractor
from tubelet.machine.heartbeat import NO_SIGN, Sign
from tubelet.machine.timing import TIMER
from tubelet.run.driver import Hear
from tubelet.run.events import EventReporter
from tubelet.run.job import Job, Stopping
from tubelet.run.out import Out
from tubelet.run.parts.units import WorkUnit
from tubelet.run.worker import Event, Worker


class InlinePool:
    """The worker is the pool itself. Its process cannot be killed, so there is no time limit."""

    def __init__(
        self, job: Job, extractors: Sequence[Extractor], out: Out, stopping: Stopping
    ) -> None:
        self._hear: Hear | None = None
        self._unit: WorkUnit | None = None
        reporter = EventReporter(self._tell)
        self._worker = Worker(job, extractors, out, reporter, stopping=stopping)

    def start(self, place: int) -> InlinePool:
        return self

    def send(self, worker: Any, unit: WorkUnit) -> None:
        self._unit = unit

    def wait(self, hear: Hear, timeout_s: float) -> None:
        self._hear = hear
        if self._unit is None:
            hear(self, "ready", None)
            return
        unit, self._unit = self._unit, None
        self._tell(self._worker.do(unit))

    def _tell(self, event: Event) -> None:
        assert self._hear is not None
        self._hear(self, *event)

    def sign(self, worker: Any) -> Sign:
        return NO_SIGN

    def kill(self, worker: Any) -> None:
        raise AssertionError("this process has no time limit")

    def why(self, worker: Any) -> str:
        return "this process"

    def counters(self) -> Sequence[int]:
        return TIMER.read()

    def close(self) -> None:
        self._worker.close()
