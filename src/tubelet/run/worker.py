"""Work units in one process: read, compute, store, record what fails, and tell of all of it.

whole    these videos, one after the other; their windows may share batches
plan     one long video: into how many parts? (whole, where it is not worth cutting)
part     the rows of one part of it
join     its rows, from the parts, into the files of one pass
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from typing import Any

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared
from tubelet.errors import DamagedVideo, NotSplittable, StoreError, TubeletError
from tubelet.extraction.extractor import Extractor
from tubelet.extraction.lanes import Opening, open_here
from tubelet.extraction.pipeline import Batches, record_video, watched
from tubelet.extraction.recording import Fault, Recording, Source, Tally
from tubelet.inputs import Input, fingerprint, on_disk, part_facts, seconds_of_range
from tubelet.inputs.local import Openers
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.prefetch import prefetch
from tubelet.machine.timing import TIMER
from tubelet.run.contact_sheet import write_sheet
from tubelet.run.job import Job, Outcome, Reporter, Stopping, nobody
from tubelet.run.out import Out
from tubelet.run.parts.cuts import Part
from tubelet.run.parts.part_store import PartStore, check, opening_of
from tubelet.run.parts.units import WorkUnit
from tubelet.run.share.duration_reader import seconds_of
from tubelet.store.failures import Failure

Event = tuple[str, Any]
"""What a worker tells the driver: (what, value). See `driver.Driver`."""


class ReaderDied(TubeletError):
    """The process that read a video for this worker died; another one may read it."""


@dataclass(frozen=True)
class Access:
    """How an input is read: enter `place` for its path, which `opening` opens. marks: checksums of
    pictures at the cuts, once a part has been read."""

    place: AbstractContextManager[str]
    opening: Opening
    marks: dict[int, int]


Reach = Callable[[Input, Part | None, PartStore | None], Access]
"""How a video, or one part of it that `PartStore` knows, is read."""


def read_here(openers: Openers) -> Reach:
    """In this process."""

    def reach(item: Input, part: Part | None, store: PartStore | None) -> Access:
        marks: dict[int, int] = {}
        opening: Opening = open_here
        if part is not None:
            assert store is not None
            opening = opening_of(part, store.timeline(), marks)
        return Access(on_disk(item, openers), opening, marks)

    return reach


@dataclass
class Open:
    """A video that has been read; some of its rows may still wait for a full batch."""

    item: Input
    lanes: list[int]
    recordings: list[Recording]
    mark: str | None


class Worker:
    """Does units. Extractors, recordings and folders of `out` are counted in lanes."""

    def __init__(
        self, job: Job, extractors: Sequence[Extractor], out: Out, report: Reporter, *,
        reach: Reach | None = None, stopping: Stopping = nobody,
    ) -> None:  # fmt: skip
        self.job, self.extractors, self.out, self.report = job, extractors, out, report
        self._stopping = stopping
        self._openers = Openers()
        self._reach = reach or read_here(self._openers)
        self._failed = 0
        self._open: list[Open] = []
        self._batches = Batches(extractors, self._on_rows)

    def do(self, unit: WorkUnit) -> Event:
        """A unit, to its end: ("unit", what came of it); ("lost", why) when it has to be tried
        again; ("broken", why) when OUT cannot be used any more."""
        try:
            step: Callable[[WorkUnit], Any] = getattr(self, f"_{unit.step}")
            return "unit", step(unit)
        except StoreError as error:
            return "broken", str(error)
        except ReaderDied as error:
            return "lost", str(error)
        except Exception as error:  # noqa: BLE001 told to the driver, who counts it
            return "lost", f"{type(error).__name__}: {error}"
        finally:
            for video in self._open:  # only after an exception: what waits is done again
                for recording in video.recordings:
                    recording.close()
            self._open.clear()
            self._batches = Batches(self.extractors, self._on_rows)

    def close(self) -> None:
        """Let open archives go."""
        self._openers.close()

    def _whole(self, unit: WorkUnit) -> None:
        for item in unit.items:
            if self._stopping() or (self._failed and self.job.fail_fast):
                break
            self._attend(item)
        self._batches.flush()
        self._settle()
        first, *others = unit.items
        if self.job.part_s is not None and not others and os.path.isfile(first.path):
            self._parts_of(first).clear()  # of parts that could not be vouched for

    def _plan(self, unit: WorkUnit) -> int:
        """How many parts; 0 for a video that is done with now."""
        (item,) = unit.items
        self.report.advance(item.id, 0, None)
        try:
            with HEARTBEAT.expected("open"):
                if self._is_long(item) and (count := len(self._cut(item)[1])):
                    return count
        except Exception:  # noqa: BLE001 reading it as a whole says what is wrong with it
            HEARTBEAT.beat()
        self._whole(unit)
        return 0

    def _is_long(self, item: Input) -> bool:
        """Whether an unfinished video is worth two parts, by its header."""
        assert self.job.part_s is not None
        length = seconds_of(item)
        if length is None or length < 2 * self.job.part_s:
            return False
        return bool(self._missing(item, fingerprint(item, self._openers)))

    def _part(self, unit: WorkUnit) -> str:
        """ "" for a finished part, else why the video cannot be made of parts."""
        (item,) = unit.items
        self.report.advance(item.id, 0, None)
        with HEARTBEAT.expected("open"):
            store, parts = self._cut(item)
        if unit.part >= len(parts) or store.has(part := parts[unit.part]):
            return ""
        access = self._reach(item, part, store)
        try:
            with HEARTBEAT.expected("open"), access.place as path:
                recordings = record_video(
                    Source(path, *seconds_of_range(item, path), name=item.id),
                    self._batches, spool=self.out.path, opening=access.opening, ahead=prefetch,
                )  # fmt: skip
            self._batches.flush()
            check(part, recordings)
        except (ReaderDied, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 reading it as a whole says what is wrong
            return str(error) or type(error).__name__
        store.keep(part, recordings, access.marks)
        for recording in recordings:
            recording.close()
        return ""

    def _join(self, unit: WorkUnit) -> str:
        """ "" for a finished video, else why it has to be read as a whole."""
        (item,) = unit.items
        mark = fingerprint(item, self._openers)
        lanes = self._missing(item, mark)
        store, parts = self._cut(item)
        recordings = [
            Recording(e.names, dtype=e.options.dtype, spool=self.out.path) for e in self.extractors
        ]
        try:
            store.join(len(parts), recordings)
        except (NotSplittable, StoreError) as error:  # StoreError: a part that cannot be read
            return str(error)
        self._open.append(Open(item, lanes, [recordings[lane] for lane in lanes], mark))
        self._settle()
        store.clear()
        return ""

    def _parts_of(self, item: Input) -> PartStore:
        mark = fingerprint(item, self._openers)
        recipes = [folder.recipe_hash for folder in self.out.folders]
        key = [item.id, mark, part_facts(item), recipes, self.job.part_s]
        return PartStore(self.out.path, key)

    def _cut(self, item: Input) -> tuple[PartStore, list[Part]]:
        store, lanes = self._parts_of(item), [e.lane for e in self.extractors]
        assert self.job.part_s is not None
        span = seconds_of_range(item, item.path)
        return store, store.plan(item.path, lanes, *span, part_s=self.job.part_s)

    def _attend(self, item: Input) -> None:
        """One video: nothing where it is done, else its rows."""
        self.report.advance(item.id, 0, None)
        try:
            with HEARTBEAT.expected("fetch"):
                mark = fingerprint(item, self._openers)
            lanes = self._missing(item, mark)
        except StoreError:  # OUT itself: no input can be looked at
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, it concerns this input only
            fault = Fault("open", error, None)
            self._close(item, dict.fromkeys(range(len(self.extractors)), fault))
            return
        if not lanes:
            self.out.forget(item.id)
            self.report.done(Outcome(item.id, "skipped", "already done"))
            return
        self._extract(item, lanes, mark)
        self._settle()

    def _missing(self, item: Input, mark: str | None) -> list[int]:
        """The lanes that have no complete features of this very source."""
        lanes = list(range(len(self.extractors)))
        if self.job.overwrite:
            return lanes
        expected: dict[str, Any] = part_facts(item)
        if mark is not None:
            expected["fingerprint"] = mark
        if self.job.strict:
            expected["damaged"] = False
        return [k for k in lanes if not self.out.is_done(item.id, expected, lane=k)]

    def _extract(self, item: Input, lanes: list[int], mark: str | None) -> None:
        """Read a video to its end. Its rows may wait in the batches afterwards."""
        tally, recordings = Tally(stage="fetch"), []

        def watch(k: int, row: Row[Prepared]) -> None:
            lane = lanes[k]
            if row.window.index < self.job.debug_frames:
                write_sheet(self.out.folders[lane].path, item.id, row, self.extractors[lane].view)

        try:
            access = self._reach(item, None, None)
            with HEARTBEAT.expected("fetch"), TIMER.entering("fetch", access.place) as path:
                tally.enter("open")
                span = seconds_of_range(item, path)
                recordings = record_video(
                    Source(path, *span, item.fps, item.id, item.pattern),
                    self._batches,
                    lanes=lanes,
                    spool=self.out.path,
                    tally=tally,
                    ahead=watched(prefetch, watch),
                    opening=access.opening,
                )
        except ReaderDied:
            raise
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
                self.out.put(item.id, recording.arrays, recording.times(), facts, lane=lane)
            TIMER.count("store", sum(rows.nbytes for rows in recording.arrays.values()))
        except Exception as error:  # noqa: BLE001 a bug in a codec must not end the run
            return Fault("store", error, None)
        return None

    def _close(
        self, item: Input, faults: Mapping[int, Fault], recordings: Sequence[Recording] = ()
    ) -> None:
        """Record what became of a video, and tell it."""
        if not faults:
            self.out.forget(item.id)
            self.report.done(_extracted(item, recordings))
            return
        self._failed += 1
        lanes = {lane: _failure(item, fault) for lane, fault in faults.items()}
        first = next(iter(faults.values()))
        failure = _failure(item, first)
        if len(faults) < len(self.extractors):  # the others have their features
            models = ", ".join(self.extractors[lane].name for lane in faults)
            failure = replace(failure, message=f"{failure.message} (model {models})")
        self.out.fail(failure, lanes)
        lines = traceback.format_exception(first.error) if self.job.debug else []
        self.report.done(Outcome.failed(failure, traceback="".join(lines)))


def _failure(item: Input, fault: Fault) -> Failure:
    return Failure(
        id=item.id,
        source=item.shown,
        stage="store" if isinstance(fault.error, StoreError) else fault.stage,
        type=type(fault.error).__name__,
        message=str(fault.error) or "no message",
        frame=fault.frame,
        unexpected=not isinstance(fault.error, TubeletError),
    )


def _extracted(item: Input, recordings: Sequence[Recording]) -> Outcome:
    rows, warnings = len(recordings[0]), recordings[0].provenance["warnings"]
    end_s = recordings[0].times()["end_s"]
    start_s = recordings[0].times()["start_s"]
    seconds = float(end_s[-1] - start_s[0]) if rows else 0.0
    noted = f"; warning: {'; '.join(warnings)}" if warnings else ""
    text = f"{rows} row{'' if rows == 1 else 's'}{noted}"
    return Outcome(item.id, "extracted", text, rows=rows, seconds=seconds)
