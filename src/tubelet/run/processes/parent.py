"""`--workers N`: processes that share one run. The parent processes out videos and hears of them.

        parent ──── next video ───▶ worker 1 ─┐
           ▲  └──── next video ───▶ worker 2 ─┤  each extracts and stores by itself
           └──────── events ──────────────────┘

A worker that dies (a decoder that crashes, memory that runs out) fails the videos that it had and
is replaced. So does one that gives no sign of life for the time limit, `Job.timeout`: it is killed.
A worker whose parent is gone drops its video and ends.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from tubelet.errors import StoreError
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.machine.atomic import sweep
from tubelet.machine.heartbeat import CELLS, READING, Sign, read_sign
from tubelet.machine.process import patient_children
from tubelet.machine.timing import COUNTERS, STAGES, Works
from tubelet.run.claims.disk import HIDDEN, Claims, stale_files
from tubelet.run.job import Job, Outcome, Reporter, Stopping, books, nobody
from tubelet.run.processes import children
from tubelet.run.processes.child_process import ChildProcess
from tubelet.run.processes.children import Order
from tubelet.run.processes.start import GRACE_S, TICK_S, ending, start_method
from tubelet.run.worker import attempts_of
from tubelet.store.failures import Failure
from tubelet.store.folder import Folder

ATTEMPTS = 3
"""Workers that may die or hang while they hold a video, before it is given up."""


def run_workers(
    job: Job,
    extractors: Sequence[Extractor],
    folders: Sequence[Folder],
    claims: Claims,
    report: Reporter,
    stopping: Stopping = nobody,
) -> int:
    """As `local.run`, in several processes. The number of failed inputs."""
    return ProcessDriver(job, extractors, folders, report, stopping, claims.works).work()


class ProcessDriver:
    """The parent's side."""

    def __init__(
        self, job: Job, extractors: Sequence[Extractor], folders: Sequence[Folder],
        report: Reporter, stopping: Stopping, works: Works,
    ) -> None:  # fmt: skip
        self._job, self._folders, self._report = job, folders, report
        self._stopping, self._works = stopping, works
        self._meters: list[Sequence[int]] = []
        import torch

        # As many threads as here: the last bits of a sum depend on how many share it.
        threads = torch.get_num_threads()
        order = (replace(job, inputs=[]), folders, attempts_of(job), dict(os.environ), threads)
        self._order = Order(pickle.dumps(order), pickle.dumps(list(extractors)))
        self._context = start_method()
        self._left = deque(job.inputs)
        self._processes: list[ChildProcess] = []
        self._losses: dict[str, int] = {}
        self._failed = 0
        self._broken: str | None = None
        self._looked = time.monotonic()

    def work(self) -> int:
        """Until every video is reported. StoreError when OUT stopped being writable."""
        try:
            self._start()
            while any(not child.ended for child in self._processes):
                self._listen()
        finally:
            self._dismiss()
        if self._broken is not None:
            raise StoreError(self._broken)
        return self._failed

    def _start(self) -> None:
        devices = self._job.devices or (None,)
        wanted = max(self._job.workers, len(self._job.devices))
        count = min(wanted, len(self._job.inputs))
        self._works.follow(self._counters, dict.fromkeys(STAGES, count))
        self._processes = [self._start_child(devices[k % len(devices)]) for k in range(count)]

    def _counters(self) -> list[int]:
        """Of all processes there are and were."""
        return [sum(meter[i] for meter in list(self._meters)) for i in range(COUNTERS)]

    def _start_child(self, device: str | None) -> ChildProcess:
        ours, theirs = self._context.Pipe()
        cells, meter = (self._context.RawArray("q", size) for size in (CELLS, COUNTERS))
        self._meters.append(meter)
        args = (theirs, (cells, meter), self._order, device)
        process = self._context.Process(target=children.worker, args=args, daemon=True)
        with patient_children():
            process.start()
        theirs.close()
        return ChildProcess(process, ours, cells, device)

    def _listen(self) -> None:
        """The next messages, the end of a worker, or the end of its time."""
        processes = {child.pipe: child for child in self._processes if not child.ended}
        limit = self._job.timeout
        tick = min(TICK_S, limit / 4) if limit else None
        for pipe in wait(list(processes), tick):
            child = processes[cast("Connection", pipe)]
            try:
                self._hear(child, *child.pipe.recv())
            except (EOFError, OSError):
                self._lost(child)
        if limit and tick:
            now = time.monotonic()
            # While this process itself was stopped (Ctrl-Z), nobody was silent.
            elapsed, self._looked = min(now - self._looked, 2 * tick), now
            for child in [child for child in processes.values() if not child.ended]:
                if child.is_silent(elapsed, limit):
                    child.process.kill()
                    self._lost(child, stalled=True)

    def _hear(self, child: ChildProcess, what: str, value: Any) -> None:
        child.greeted = True
        if what == "next":
            item = None if self._is_over() or not self._left else self._left.popleft()
            if item is not None:
                child.busy[item.id] = item
            child.pipe.send(item)
        elif what == "advance":
            if value[1] == 0:
                child.begun = value[0]
            self._report.advance(*value)
        elif what == "note":
            self._report.note(value)
        elif what == "done":
            child.busy.pop(value.id, None)
            self._tell(value)
        elif what == "broken":
            self._broken = value
        elif what == "end":
            child.ended = True

    def _is_over(self) -> bool:
        failed = self._failed and self._job.fail_fast
        return self._broken is not None or bool(failed) or self._stopping()

    def _tell(self, outcome: Outcome) -> None:
        self._failed += outcome.kind == "failed"
        self._report.done(outcome)

    def _lost(self, child: ChildProcess, *, stalled: bool = False) -> None:
        """A worker died without a word, or was killed for its silence: the video that it read
        failed (the videos whose windows were in the model, if it was there), another worker takes
        its place."""
        child.ended = True
        child.process.join(GRACE_S)
        sign, how = read_sign(child.cells), ending(child.process)
        failed = self._blamed(child, sign)
        for item in child.busy.values():
            if item.id not in failed and self._may_retry(item):
                self._left.append(item)
                continue
            failure = _died(item, sign, how)
            if stalled and item.id in failed:
                failure = _stalled(item, sign, self._job.timeout)
            for book in books(self._job, self._folders):
                book.add(failure)
            self._tell(Outcome(item.id, "failed", failure.message))
        if not child.greeted:
            self._broken = f"a worker could not start: it ended with {how}"
        elif (child.busy or self._left) and not self._stopping():
            self._processes.append(self._start_child(child.device))

    def _may_retry(self, item: Input) -> bool:
        """Counted for everyone who was there: whoever dies with every worker is to blame."""
        self._losses[item.id] = self._losses.get(item.id, 0) + 1
        return self._losses[item.id] < ATTEMPTS

    def _blamed(self, child: ChildProcess, sign: Sign) -> set[str]:
        """Ids of the videos that a lost worker was reading. Others of its videos only wait,
        for a full batch or for another run, and are tried again."""
        if sign.stage in READING and child.begun in child.busy:
            return {child.begun}
        claims = self._job.out / HIDDEN / "claims"
        return {r["id"] for _, r in stale_files(claims) if r.get("pid") == child.process.pid}

    def _dismiss(self) -> None:
        """End what still runs: each worker drops its video and lets its claims go. One that does
        not answer within GRACE_S, or a second interruption, is the end of all."""
        for child in self._processes:
            if child.process.is_alive() and not child.ended:
                child.process.terminate()
        end = time.monotonic() + GRACE_S
        try:
            for child in self._processes:
                child.process.join(max(0.0, end - time.monotonic()))
        finally:
            for child in self._processes:
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join(GRACE_S)
                child.pipe.close()
            # What a killed one could not tidy up.
            sweep(self._job.out)
            for path, _ in stale_files(self._job.out / HIDDEN / "claims"):
                path.unlink(missing_ok=True)


def _died(item: Input, sign: Sign, how: str) -> Failure:
    message = f"the worker process that read it ended with {how}"
    stage, frame = sign.stage or "store", sign.frame if sign.frame >= 0 else None
    return Failure(item.id, item.shown, stage, "WorkerDied", message, frame, unexpected=True)


def _stalled(item: Input, sign: Sign, limit: float | None) -> Failure:
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
