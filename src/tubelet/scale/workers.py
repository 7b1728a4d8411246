"""`--workers N`: processes that share one run. The parent hands out videos and hears of them.

        parent ──── next video ───▶ worker 1 ─┐
           ▲  └──── next video ───▶ worker 2 ─┤  each extracts and stores by itself
           └──────── events ──────────────────┘

A worker that dies (a decoder that crashes, memory that runs out) fails the videos that it had and
is replaced. A worker whose parent is gone drops its video and ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
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
from tubelet.scale.claims import HIDDEN, Claims, stale_files
from tubelet.scale.job import Job, Outcome, Reporter
from tubelet.scale.local import Worker, attempts_of
from tubelet.store.base import Folder
from tubelet.store.failures import Failure, Failures

GRACE_S = 30.0
"""How long a worker may take to drop its video."""


@dataclass
class Hand:
    """A worker as its parent sees it. busy: videos it was given and has not reported. greeted: it
    has spoken once, so it could start. device: where its models run; None for where they are."""

    process: BaseProcess
    pipe: Connection
    device: str | None = None
    busy: dict[str, Input] = field(default_factory=dict[str, Input])
    greeted: bool = False
    ended: bool = False


def run_workers(
    job: Job, extractors: Sequence[Extractor], folders: Sequence[Folder], report: Reporter
) -> int:
    """As `local.run`, in several processes. The number of failed inputs."""
    return Foreman(job, pickle.dumps(list(extractors)), folders, report).work()


class Foreman:
    """The parent's side."""

    def __init__(
        self, job: Job, extractors: bytes, folders: Sequence[Folder], report: Reporter
    ) -> None:
        self._job, self._folders, self._report = job, folders, report
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
        process = self._context.Process(
            target=_worker, args=(theirs, self._order, self._extractors, device), daemon=True
        )
        with patient_children():
            process.start()
        theirs.close()
        return Hand(process, ours, device)

    def _listen(self) -> None:
        """The next messages, or the end of a worker."""
        hands = {hand.pipe: hand for hand in self._hands if not hand.ended}
        for pipe in wait(list(hands)):
            hand = hands[cast("Connection", pipe)]
            try:
                self._hear(hand, *hand.pipe.recv())
            except (EOFError, OSError):
                self._lost(hand)

    def _hear(self, hand: Hand, what: str, value: Any) -> None:
        hand.greeted = True
        if what == "next":
            stop = self._broken is not None or (self._failed and self._job.fail_fast)
            item = None if stop or not self._left else self._left.popleft()
            if item is not None:
                hand.busy[item.id] = item
            hand.pipe.send(item)
        elif what == "advance":
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

    def _tell(self, outcome: Outcome) -> None:
        self._failed += outcome.kind == "failed"
        self._report.done(outcome)

    def _lost(self, hand: Hand) -> None:
        """A worker died without a word: its videos failed, another one takes its place."""
        hand.ended = True
        hand.process.join()
        code = hand.process.exitcode or 0
        how = f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit code {code}"
        claims = self._job.out / HIDDEN / "claims"
        own = [r["id"] for _, r in stale_files(claims) if r.get("pid") == hand.process.pid]
        for item in hand.busy.values():
            if item.id not in own:  # it only waited for another run
                self._left.append(item)
                continue
            message = f"the worker process that read it ended with {how}"
            failure = Failure(item.id, item.shown, "decode", "WorkerDied", message, unexpected=True)
            for path in dict.fromkeys([self._job.out, *(f.path for f in self._folders)]):
                Failures(path).add(failure)
            self._tell(Outcome(item.id, "failed", message))
        if not hand.greeted:
            self._broken = f"a worker could not start: it ended with {how}"
        elif hand.busy or self._left:
            self._hands.append(self._hire(hand.device))

    def _dismiss(self) -> None:
        """End what still runs: each worker drops its video and lets its claims go."""
        for hand in self._hands:
            if hand.process.is_alive() and not hand.ended:
                hand.process.terminate()
        for hand in self._hands:
            hand.process.join(GRACE_S)
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.pipe.close()


def start_method() -> Any:
    """Clean processes, never forks of ours (its threads and its GPU): from a server that has
    imported torch once, where the system has such servers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "av", "tubelet.scale.workers"])
    return context


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


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


def _worker(pipe: Connection, order: bytes, extractors: bytes, device: str | None) -> None:
    """A worker's main function. device: where its models belong."""
    import torch

    # Ctrl-C reaches the whole group; the parent decides and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
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
