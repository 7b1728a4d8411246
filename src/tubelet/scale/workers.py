"""`--workers N`: processes that share one run. The parent hands out videos and hears of them.

        parent ──── next video ───▶ worker 1 ─┐
           ▲  └──── next video ───▶ worker 2 ─┤  each extracts and stores by itself
           └──────── events ──────────────────┘

A worker that dies (a decoder that crashes, memory that runs out) fails the videos that it had and
is replaced. So does one that gives no sign of life for the time limit, `Job.timeout`: it is killed.
A worker whose parent is gone drops its video and ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from tubelet.errors import StoreError
from tubelet.inputs import Input
from tubelet.pipeline import Extractor
from tubelet.process import keep_memory, patient_children
from tubelet.pulse import CELLS, PULSE, READING, Sign, read_sign
from tubelet.scale.claims import HIDDEN, Claims, stale_files
from tubelet.scale.job import Job, Outcome, Reporter, Stopping, nobody
from tubelet.scale.local import Worker, attempts_of
from tubelet.scale.processes import ending, start_method
from tubelet.store.atomic import sweep
from tubelet.store.base import Folder
from tubelet.store.failures import Failure, Failures

GRACE_S = 5.0
"""How long a worker may take to drop its video."""

TICK_S = 1.0
"""How often workers are looked at; more often for short limits."""


@dataclass
class Hand:
    """A worker as its parent sees it. cells: its pulse. device: where its models run; None for
    where they are. busy: videos it was given and has not reported. begun: the one it looked at
    last. greeted: it has spoken once, so it could start. sign: what the cells said when they were
    looked at, and silent_s for how long since."""

    process: BaseProcess
    pipe: Connection
    cells: Any
    device: str | None = None
    busy: dict[str, Input] = field(default_factory=dict[str, Input])
    begun: str = ""
    greeted: bool = False
    ended: bool = False
    sign: Sign | None = None
    silent_s: float = 0.0

    def look(self, elapsed_s: float) -> None:
        """After so many seconds: is there a new sign of life?"""
        before, self.sign = self.sign, read_sign(self.cells)
        self.silent_s = self.silent_s + elapsed_s if before == self.sign else 0.0


def run_workers(
    job: Job,
    extractors: Sequence[Extractor],
    folders: Sequence[Folder],
    report: Reporter,
    stopping: Stopping = nobody,
) -> int:
    """As `local.run`, in several processes. The number of failed inputs."""
    return Foreman(job, pickle.dumps(list(extractors)), folders, report, stopping).work()


class Foreman:
    """The parent's side."""

    def __init__(
        self, job: Job, extractors: bytes, folders: Sequence[Folder], report: Reporter,
        stopping: Stopping,
    ) -> None:  # fmt: skip
        self._job, self._folders, self._report = job, folders, report
        self._stopping = stopping
        import torch

        # As many threads as here: the last bits of a sum depend on how many share it.
        threads = torch.get_num_threads()
        order = (replace(job, inputs=[]), folders, attempts_of(job), dict(os.environ), threads)
        self._order = pickle.dumps(order)
        self._context = start_method()
        self._extractors = extractors
        self._left = deque(job.inputs)
        self._hands: list[Hand] = []
        self._failed = 0
        self._broken: str | None = None
        self._looked = time.monotonic()

    def work(self) -> int:
        """Until every video is reported. StoreError when OUT stopped being writable."""
        try:
            devices = self._job.devices or (None,)
            wanted = max(self._job.workers, len(self._job.devices))
            for k in range(min(wanted, len(self._job.inputs))):
                self._hands.append(self._hire(devices[k % len(devices)]))
            while any(not hand.ended for hand in self._hands):
                self._listen()
        finally:
            self._dismiss()
        if self._broken is not None:
            raise StoreError(self._broken)
        return self._failed

    def _hire(self, device: str | None) -> Hand:
        ours, theirs = self._context.Pipe()
        cells = self._context.RawArray("q", CELLS)
        process = self._context.Process(
            target=_worker,
            args=(theirs, cells, self._order, self._extractors, device),
            daemon=True,
        )
        with patient_children():
            process.start()
        theirs.close()
        return Hand(process, ours, cells, device)

    def _listen(self) -> None:
        """The next messages, the end of a worker, or the end of its time."""
        hands = {hand.pipe: hand for hand in self._hands if not hand.ended}
        limit = self._job.timeout
        tick = min(TICK_S, limit / 4) if limit else None
        for pipe in wait(list(hands), tick):
            hand = hands[cast("Connection", pipe)]
            try:
                self._hear(hand, *hand.pipe.recv())
            except (EOFError, OSError):
                self._lost(hand)
        if limit and tick:
            now = time.monotonic()
            # While this process itself was stopped (Ctrl-Z), nobody was silent.
            elapsed, self._looked = min(now - self._looked, 2 * tick), now
            for hand in [hand for hand in hands.values() if not hand.ended]:
                hand.look(elapsed)
                assert hand.sign is not None
                if hand.sign.limits and hand.silent_s > hand.sign.limits * limit:
                    hand.process.kill()
                    self._lost(hand, stalled=True)

    def _hear(self, hand: Hand, what: str, value: Any) -> None:
        hand.greeted = True
        if what == "next":
            item = None if self._is_over() or not self._left else self._left.popleft()
            if item is not None:
                hand.busy[item.id] = item
            hand.pipe.send(item)
        elif what == "advance":
            if value[1] == 0:
                hand.begun = value[0]
            self._report.advance(*value)
        elif what == "note":
            self._report.note(value)
        elif what == "done":
            hand.busy.pop(value.id, None)
            self._tell(value)
        elif what == "broken":
            self._broken = value
        elif what == "end":
            hand.ended = True

    def _is_over(self) -> bool:
        failed = self._failed and self._job.fail_fast
        return self._broken is not None or bool(failed) or self._stopping()

    def _tell(self, outcome: Outcome) -> None:
        self._failed += outcome.kind == "failed"
        self._report.done(outcome)

    def _lost(self, hand: Hand, *, stalled: bool = False) -> None:
        """A worker died without a word, or was killed for its silence: the video that it read
        failed (the videos whose windows were in the model, if it was there), another worker takes
        its place."""
        hand.ended = True
        hand.process.join(GRACE_S)
        sign, how = read_sign(hand.cells), ending(hand.process)
        failed = self._blamed(hand, sign)
        for item in hand.busy.values():
            if item.id not in failed:
                self._left.append(item)
                continue
            failure = _stalled(item, sign, self._job.timeout) if stalled else _died(item, sign, how)
            for path in dict.fromkeys([self._job.out, *(f.path for f in self._folders)]):
                Failures(path).add(failure)
            self._tell(Outcome(item.id, "failed", failure.message))
        if not hand.greeted:
            self._broken = f"a worker could not start: it ended with {how}"
        elif (hand.busy or self._left) and not self._stopping():
            self._hands.append(self._hire(hand.device))

    def _blamed(self, hand: Hand, sign: Sign) -> set[str]:
        """Ids of the videos that a lost worker had in its hands. Others of its videos only wait,
        for a full batch or for another run, and are tried again."""
        if sign.stage in READING and hand.begun in hand.busy:
            return {hand.begun}
        claims = self._job.out / HIDDEN / "claims"
        return {r["id"] for _, r in stale_files(claims) if r.get("pid") == hand.process.pid}

    def _dismiss(self) -> None:
        """End what still runs: each worker drops its video and lets its claims go. One that does
        not answer within GRACE_S, or a second interruption, is the end of all."""
        for hand in self._hands:
            if hand.process.is_alive() and not hand.ended:
                hand.process.terminate()
        end = time.monotonic() + GRACE_S
        try:
            for hand in self._hands:
                hand.process.join(max(0.0, end - time.monotonic()))
        finally:
            for hand in self._hands:
                if hand.process.is_alive():
                    hand.process.kill()
                    hand.process.join(GRACE_S)
                hand.pipe.close()
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


class _Teller:
    """Reporter of a worker: everything goes to the parent. Its absence is an interruption."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, what: str, value: Any = None) -> None:
        try:
            self._pipe.send((what, value))
        except OSError:
            raise KeyboardInterrupt from None

    def expect(self, videos: int) -> None:
        """The parent knows."""

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        self.send("advance", (name, rows, fraction))

    def done(self, outcome: Outcome) -> None:
        self.send("done", outcome)

    def note(self, text: str) -> None:
        self.send("note", text)

    def items(self) -> Iterator[Input]:
        """What the parent hands out."""
        while True:
            self.send("next")
            try:
                item = self._pipe.recv()
            except (EOFError, OSError):
                raise KeyboardInterrupt from None
            if item is None:
                return
            yield item


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _outlive_nobody() -> None:
    """When the parent is gone: the same as SIGTERM, then the end, whatever hangs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _worker(
    pipe: Connection, cells: Any, order: bytes, extractors: bytes, device: str | None
) -> None:
    """A worker's main function. device: where its models belong."""
    import torch

    PULSE.share(cells)

    # Ctrl-C reaches the whole group; the parent decides and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_outlive_nobody, name="orphan", daemon=True).start()
    teller = _Teller(pipe)
    try:
        # Both were made by the parent a moment ago.
        job, folders, before, environment, threads = pickle.loads(order)  # noqa: S301
        torch.set_num_threads(threads)
        os.environ.update(environment)
        keep_memory()
        models: list[Extractor] = pickle.loads(extractors)  # noqa: S301
        if device is not None:
            for model in models:
                model.move_to(device)
        with Claims(job.out, total=0) as claims:
            try:
                Worker(job, models, folders, claims, teller, before).work(teller.items())
            except StoreError as error:
                teller.send("broken", str(error))
        teller.send("end")
    except KeyboardInterrupt:
        return
