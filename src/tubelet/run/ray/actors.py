"""The actors: model workers that write files, and their decoders."""

from __future__ import annotations

import os
import pickle
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tubelet.errors import NotSplittable, StoreError, TubeletError
from tubelet.extraction.batches import Batches
from tubelet.extraction.extractor import Extractor, record_video
from tubelet.extraction.lanes import Lane, Opening
from tubelet.extraction.recording import Recording, Source, Tally
from tubelet.inputs import Input, fingerprint, part_facts, seconds_of_range
from tubelet.inputs.local import Openers
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.prefetch import prefetch
from tubelet.machine.timing import TIMER
from tubelet.run.job import Outcome, here
from tubelet.run.parts.part_store import PartStore, check
from tubelet.run.parts.units import WorkUnit
from tubelet.run.ray.messages import BEAT, DecodeRequest, Message, RemoteReading, decode, with_beats
from tubelet.run.worker import Worker

AHEAD = 2
"""Rows of a decoder that may wait for the model."""

DIED = "the process that read it died"
TICK_S = 1.0
QUIET = ("OMP_WAIT_POLICY", "PASSIVE")


class _DecoderDied(TubeletError):
    """The process that read this video died."""


class Decoder:
    """An actor that reads videos for one model worker."""

    def __init__(self) -> None:
        os.environ.setdefault(*QUIET)
        self._openers = Openers()

    def rows(self, request: DecodeRequest) -> Iterator[Message]:
        yield from with_beats(decode(request, self._openers))

    def pid(self) -> int:
        return os.getpid()


class _Free:
    """What a model worker sees of the claims: the driver holds them."""

    def take(self, identity: str) -> bool:
        return True

    def release(self, identity: str) -> None: ...
    def holder(self, identity: str) -> str:
        return "the driver"


class _Events:
    """Reporter of a model worker: everything goes to the driver, rows at most once a second."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._name: str = ""
        self._fraction: float | None = None
        self._rows, self._last = 0, 0.0

    def expect(self, videos: int) -> None:
        """The driver knows."""

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        self._name, self._fraction = name, fraction
        self._rows += rows
        if time.monotonic() - self._last >= TICK_S:
            self._tell()

    def _tell(self) -> None:
        self.queue.put(("work", TIMER.take()))
        self.queue.put(("advance", (self._name, self._rows, self._fraction)))
        self._rows, self._last = 0, time.monotonic()

    def flush(self) -> None:
        """The rows of the last second, before whatever ends them."""
        if self._rows:
            self._tell()
        self.queue.put(("work", TIMER.take()))

    def done(self, outcome: Outcome) -> None:
        self.flush()
        self.queue.put(("done", outcome))

    def note(self, text: str) -> None:
        self.queue.put(("note", text))


class ModelWorker:
    """An actor with the models and a decoder of its own; it writes what it makes."""

    def __init__(self, order: bytes, extractors: bytes, device: str, shared: bool) -> None:
        os.environ.setdefault(*QUIET)
        import torch

        # Both were made by the driver.
        job, folders, threads, self._part_s = pickle.loads(order)  # noqa: S301
        self._job, self._folders = here(job, folders)
        torch.set_num_threads(threads)
        self._extractors: list[Extractor] = pickle.loads(extractors)  # noqa: S301
        for extractor in self._extractors:
            extractor.move_to(device)
        self._shared = shared
        self._openers = Openers()
        self._decoder: Any = None

    def ready(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def decoder_pid(self) -> int:
        """For tests that kill it."""
        return ray.get(self._get_decoder().pid.remote())

    def work(self, unit: WorkUnit) -> Iterator[tuple[str, Any]]:
        """Do a unit; what happens, as it happens."""
        events = _Events()

        def do() -> None:
            try:
                value = getattr(self, f"_{unit.step}")(unit, events)
                events.flush()
                events.queue.put(("unit", value))
            except StoreError as error:
                events.queue.put(("broken", str(error)))
            except Exception as error:  # noqa: BLE001 told to the driver, who decides
                events.queue.put(("lost", f"{type(error).__name__}: {error}"))

        thread = threading.Thread(target=do, name="unit", daemon=True)
        thread.start()
        before = HEARTBEAT.beats
        while True:
            try:
                what, value = events.queue.get(timeout=TICK_S)
            except queue.Empty:
                if HEARTBEAT.beats != before:
                    before = HEARTBEAT.beats
                    yield "beat", None
                continue
            yield what, value
            if what in ("unit", "broken", "lost"):
                thread.join()
                return

    def _worker(self, events: _Events) -> Worker:
        return Worker(
            self._job, self._extractors, self._folders, _Free(), events, reach=self._reach
        )

    def _whole(self, unit: WorkUnit, events: _Events) -> None:
        self._worker(events).work(unit.items)
        first, *others = unit.items
        if not others and first.member is None and os.path.isfile(first.path):
            self._store(first).clear()  # of parts that could not be vouched for

    def _plan(self, unit: WorkUnit, events: _Events) -> int:
        """How many parts; 0 for a video that is done, or that must be read as a whole."""
        (item,), worker = unit.items, self._worker(events)
        lanes, _ = worker.lanes_to_do(item)
        if not lanes:
            return 0
        try:
            return len(self._cut(item)[1])
        except TubeletError:  # reading it as a whole says what is wrong with it
            return 0

    def _part(self, unit: WorkUnit, events: _Events) -> str:
        """ "" for a finished part, else why the video cannot be made of parts."""
        (item,) = unit.items
        store, parts = self._cut(item)
        if unit.part >= len(parts) or store.has(part := parts[unit.part]):
            return ""

        def told(recording: Recording, end_s: float) -> None:
            length = recording.length_s
            events.advance(item.id, 1, end_s / length if length else None)

        batches = Batches(self._extractors, told)
        opening, marks = self._opening(item, part=part, store=store)
        try:
            recordings = record_video(
                Source(item.path, *seconds_of_range(item, item.path), name=item.id),
                batches, spool=self._job.out, opening=opening, ahead=prefetch,
            )  # fmt: skip
            batches.flush()
            check(part, recordings)
        except _DecoderDied:
            raise
        except TubeletError as error:
            return str(error)
        store.keep(part, recordings, marks)
        for recording in recordings:
            recording.close()
        return ""

    def _join(self, unit: WorkUnit, events: _Events) -> str:
        """ "" for a finished video, else why it has to be read as a whole."""
        (item,), worker = unit.items, self._worker(events)
        lanes, mark = worker.lanes_to_do(item)
        store, parts = self._cut(item)
        recordings = [
            Recording(e.names, dtype=e.options.dtype, spool=self._job.out) for e in self._extractors
        ]
        try:
            store.join(len(parts), recordings)
        except (NotSplittable, StoreError) as error:  # StoreError: a part that cannot be read
            return str(error)
        worker.finish(item, lanes, [recordings[lane] for lane in lanes], mark)
        store.clear()
        return ""

    def _store(self, item: Input) -> PartStore:
        mark = fingerprint(item, self._openers)
        recipes = [folder.recipe_hash for folder in self._folders]
        key = [item.id, mark, part_facts(item), recipes, self._part_s]
        return PartStore(self._job.out, key)

    def _cut(self, item: Input) -> tuple[PartStore, list[Any]]:
        store, lanes = self._store(item), [e.lane for e in self._extractors]
        span = seconds_of_range(item, item.path)
        return store, store.plan(item.path, lanes, *span, part_s=self._part_s)

    def _reach(self, item: Input) -> tuple[AbstractContextManager[str], Opening]:
        return nullcontext(item.path), self._opening(item)[0]

    def _get_decoder(self) -> Any:
        if self._decoder is None:
            strategy: Any = "DEFAULT"
            if not self._shared:
                strategy = NodeAffinitySchedulingStrategy(
                    ray.get_runtime_context().get_node_id(), soft=True
                )
            cpus = 1 if self._shared else 0
            options = {"num_cpus": cpus, "scheduling_strategy": strategy}
            self._decoder = ray.remote(Decoder).options(**options).remote()
        return self._decoder

    def _opening(self, item: Input, **part: Any) -> tuple[Opening, dict[int, int]]:
        marks: dict[int, int] = {}

        @contextmanager
        def opening(source: Source, lanes: Sequence[Lane], tally: Tally) -> Iterator[RemoteReading]:
            request = DecodeRequest(item, source, list(lanes), **part)
            streaming = {
                "num_returns": "streaming",
                "_generator_backpressure_num_objects": AHEAD,
            }
            stream = self._get_decoder().rows.options(**streaming).remote(request)
            distant = None
            try:
                distant = RemoteReading(_received(stream), tally)
                yield distant
                marks.update(distant.marks)
            finally:
                if distant is None or not distant.ended:  # it may go on, or be dead
                    ray.kill(self._decoder)
                    self._decoder = None

        return opening, marks


def _received(stream: Any) -> Iterator[Message]:
    try:
        for reference in stream:
            message: Any = ray.get(reference)
            if message[0] == BEAT[0]:
                HEARTBEAT.beat()
            else:
                yield message
    except RayError as error:
        raise _DecoderDied(f"{DIED}: {cause_of(error)}") from None


def cause_of(error: BaseException) -> str:
    """What a Ray error ends with: the cause, after pages of traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
