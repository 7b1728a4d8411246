"""One process's share of a run: read, compute, store, and book what became of each input."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from typing import Any, Protocol

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared, ViewConfig
from tubelet.errors import DamagedVideo, StoreError, TubeletError
from tubelet.extraction.batches import Batches, Forward
from tubelet.extraction.extractor import record_video
from tubelet.extraction.lanes import Opening, open_here
from tubelet.extraction.recording import Fault, Recording, Source, Tally
from tubelet.inputs import Input, fingerprint, on_disk, part_facts, seconds_of_range
from tubelet.inputs.local import Openers
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.prefetch import prefetch
from tubelet.machine.timing import TIMER
from tubelet.run.contact_sheet import write_sheet
from tubelet.run.job import Job, Outcome, Reporter, Stopping, books, nobody
from tubelet.store.failures import Failure
from tubelet.store.folder import Folder
from tubelet.store.remote.spool import SpooledFolder, book_of

POLL_S = 0.5
"""How often a video that another process works on is looked at again."""


def attempts_of(job: Job) -> dict[str, int]:
    """How often each input has failed so far."""
    lines = job.book.read()
    return {identity: line.get("attempts", 1) for identity, line in lines.items()}


def failed_elsewhere(job: Job, item: Input, before: Mapping[str, int]) -> Outcome | None:
    """That another run has tried an input since `before` (`attempts_of`), and what came of it."""
    line = job.book.line(item.id)
    if line is None or line.get("attempts", 1) <= before.get(item.id, 0):
        return None
    return Outcome(item.id, "failed", f"in another run: {line.get('message')}")


@dataclass
class Open:
    """A video that has been read; some of its rows may still wait for a full batch."""

    item: Input
    lanes: list[int]
    recordings: list[Recording]
    mark: str | None


Reach = Callable[[Input], tuple[AbstractContextManager[str], Opening]]
"""Where an input can be read, and what reads it."""


class Maker(Forward, Protocol):
    """What makes the rows of a run; an `Extractor`."""

    name: str
    view: ViewConfig


class Holder(Protocol):
    """Who may work on what; `Claims`."""

    def take(self, identity: str) -> bool: ...
    def release(self, identity: str) -> None: ...
    def holder(self, identity: str) -> str: ...


class Worker:
    """One process's share of a run. Extractors, folders and recordings are counted in lanes."""

    def __init__(
        self,
        job: Job,
        extractors: Sequence[Maker],
        folders: Sequence[Folder],
        claims: Holder,
        report: Reporter,
        before: dict[str, int] | None = None,
        reach: Reach | None = None,
        stopping: Stopping = nobody,
    ) -> None:
        self.job, self.extractors, self.folders = job, extractors, folders
        self.claims, self.report = claims, report
        self.failed = 0
        self._stopping = stopping
        self._before = attempts_of(job) if before is None else before
        self._batches = Batches(extractors, self._on_rows)
        self._open: list[Open] = []
        self._openers = Openers()
        self._reach = reach or (lambda item: (on_disk(item, self._openers), open_here))

    def work(self, items: Iterable[Input]) -> int:
        """Everything in `items`. The number of failures."""
        try:
            later = [item for item in self._until_stopped(items) if not self._attend(item)]
            self._finish()
            self._return_to(later)
        finally:
            self._openers.close()
        return self.failed

    def _until_stopped(self, items: Iterable[Input]) -> Iterable[Input]:
        for item in items:
            if self._is_over():
                return
            yield item

    def _is_over(self) -> bool:
        return bool(self.failed and self.job.fail_fast) or self._stopping()

    def _return_to(self, later: list[Input]) -> None:
        """Videos that other processes were working on: done by now, failed, or left behind."""
        told = False
        while later and not self._is_over():
            holders = (self.claims.holder(item.id) for item in later)
            if not told and (holder := next(filter(None, holders), "")):
                self.report.note(f"waiting for videos of other runs ({holder})")
                told = True
            still = [item for item in self._until_stopped(later) if not self._attend(item)]
            self._finish()
            if len(still) == len(later):
                time.sleep(POLL_S)
            later = still

    def _finish(self) -> None:
        """Nothing waits in the batches any more."""
        self._batches.flush()
        self._settle()

    def _attend(self, item: Input) -> bool:
        """False when another process works on it."""
        self.report.advance(item.id, 0, None)
        try:
            with HEARTBEAT.expected("fetch"):
                mark = fingerprint(item, self._openers)
            is_done = not self._missing(item, mark)
        except Exception as error:
            if isinstance(error, StoreError):  # OUT itself: no input can be looked at
                raise
            self._close(item, dict.fromkeys(range(len(self.folders)), Fault("open", error, None)))
            return True
        if is_done:
            self._skip(item)
            return True
        if not self.claims.take(item.id):
            return False
        # Another run may have finished or failed it between the look and the claim.
        lanes = self._missing(item, mark)
        if not lanes:
            self._skip(item)
        elif elsewhere := failed_elsewhere(self.job, item, self._before):
            self.failed += 1
            self.claims.release(item.id)
            self.report.done(elsewhere)
        else:
            self._extract(item, lanes, mark)
            self._settle()
        return True

    def lanes_to_do(self, item: Input) -> tuple[list[int], str | None]:
        """(lanes without features of this very source, its fingerprint). VideoError as `work`."""
        mark = fingerprint(item, self._openers)
        return self._missing(item, mark), mark

    def finish(
        self, item: Input, lanes: list[int], made: list[Recording], mark: str | None
    ) -> None:
        """Store a video whose rows were made elsewhere."""
        self._open.append(Open(item, lanes, made, mark))
        self._settle()

    def _missing(self, item: Input, mark: str | None) -> list[int]:
        """The lanes that have no complete features of this very source."""
        if self.job.overwrite:
            return list(range(len(self.folders)))
        expected: dict[str, Any] = part_facts(item)
        if mark is not None:
            expected["fingerprint"] = mark
        if self.job.strict:
            expected["damaged"] = False
        return [k for k, f in enumerate(self.folders) if not f.is_done(item.id, expected)]

    def _skip(self, item: Input) -> None:
        for book in books(self.job, self.folders):
            book.forget(item.id)
        self.claims.release(item.id)
        self.report.done(Outcome(item.id, "skipped", "already done"))

    def _extract(self, item: Input, lanes: list[int], mark: str | None) -> None:
        """Read a video to its end. Its rows may wait in the batches afterwards."""
        tally, recordings = Tally(stage="fetch"), []

        def watch(lane: int, row: Row[Prepared]) -> None:
            if row.window.index < self.job.debug_frames:
                write_sheet(self.folders[lane].path, item.id, row, self.extractors[lane].view)

        try:
            place, opening = self._reach(item)
            with HEARTBEAT.expected("fetch"), TIMER.entering("fetch", place) as path:
                tally.enter("open")
                span = seconds_of_range(item, path)
                recordings = record_video(
                    Source(path, *span, item.fps, item.id, item.pattern),
                    self._batches,
                    lanes=lanes,
                    spool=self.job.out,
                    tally=tally,
                    watch=watch,
                    ahead=prefetch,
                    opening=opening,
                )
        except Exception as error:  # noqa: BLE001 whatever it is, it concerns this input only
            fault = Fault(tally.stage, error, tally.frame)
            for recording in recordings:
                recording.fail(*astuple(fault))
                recording.close()
            self._close(item, dict.fromkeys(lanes, fault))
        else:
            self._open.append(Open(item, lanes, recordings, mark))

    def _on_rows(self, recording: Recording, end_s: float) -> None:
        length = recording.length_s
        # A header may promise less than there is.
        self.report.advance(recording.name, 1, min(1.0, end_s / length) if length else None)

    def _settle(self) -> None:
        """Store every video whose rows are all here."""
        for video in [v for v in self._open if all(r.complete for r in v.recordings)]:
            self._open.remove(video)
            faults: dict[int, Fault] = {}
            for lane, recording in zip(video.lanes, video.recordings, strict=True):
                fault = recording.fault or self._store(video, lane, recording)
                if fault:
                    faults[lane] = fault
                recording.close()
            self._close(video.item, faults, video.recordings)

    def _store(self, video: Open, lane: int, recording: Recording) -> Fault | None:
        """Write the features of one model; what stopped that."""
        item, facts = video.item, recording.facts()
        warnings = "; ".join(facts["warnings"])
        if self.job.strict and facts["damaged"]:
            damage = DamagedVideo(f"{item.shown}: {warnings} (--strict)")
            return Fault("decode", damage, facts["decoded_frames"] - 1)
        facts |= {**part_facts(item), "source": item.shown, "fingerprint": video.mark}
        try:
            with TIMER.timed("store"):
                self.folders[lane].put(item.id, recording.arrays, recording.times(), facts)
            TIMER.count("store", sum(rows.nbytes for rows in recording.arrays.values()))
        except Exception as error:  # noqa: BLE001 a bug in a codec must not end the run
            return Fault("store", error, None)
        return None

    def _close(
        self, item: Input, faults: dict[int, Fault], recordings: Sequence[Recording] = ()
    ) -> None:
        """Book what became of a video, tell it, and let the claim go."""
        for lane, folder in enumerate(self.folders):
            if lane in faults:
                book_of(folder).add(_failure(item, faults[lane], None))
                if isinstance(folder, SpooledFolder):
                    folder.send_sheets(item.id)
            else:
                book_of(folder).forget(item.id)
        if faults:
            self._report_faults(item, faults)
        else:
            if len(self.folders) > 1:
                self.job.book.forget(item.id)
            self.report.done(_outcome(item, recordings))
        self.claims.release(item.id)

    def _report_faults(self, item: Input, faults: dict[int, Fault]) -> None:
        self.failed += 1
        first = next(iter(faults.values()))
        partial = len(faults) < len(self.folders)
        models = ", ".join(self.extractors[lane].name for lane in faults) if partial else None
        failure = _failure(item, first, models)
        if len(self.folders) > 1:
            self.job.book.add(failure)
        lines = traceback.format_exception(first.error) if self.job.debug else []
        text = f"{failure.type}: {failure.message}" if failure.unexpected else failure.message
        self.report.done(Outcome(item.id, "failed", text, traceback="".join(lines)))


def _failure(item: Input, fault: Fault, models: str | None) -> Failure:
    """models: named when others of this run have their features."""
    message = str(fault.error) or "no message"
    if models:
        message = f"{message} (model {models})"
    stage = "store" if isinstance(fault.error, StoreError) else fault.stage
    return Failure(
        id=item.id,
        source=item.shown,
        stage=stage,
        type=type(fault.error).__name__,
        message=message,
        frame=fault.frame,
        unexpected=not isinstance(fault.error, TubeletError),
    )


def _outcome(item: Input, recordings: Sequence[Recording]) -> Outcome:
    rows, warnings = len(recordings[0]), recordings[0].provenance["warnings"]
    end_s = recordings[0].times()["end_s"]
    start_s = recordings[0].times()["start_s"]
    seconds = float(end_s[-1] - start_s[0]) if rows else 0.0
    noted = f"; warning: {'; '.join(warnings)}" if warnings else ""
    text = f"{rows} row{'' if rows == 1 else 's'}{noted}"
    return Outcome(item.id, "extracted", text, rows=rows, seconds=seconds)
