"""The actors: model workers that write files, and their decoders."""

from __future__ import annotations

import os
import pickle
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tubelet.extraction.extractor import Extractor
from tubelet.extraction.lanes import Lane
from tubelet.extraction.recording import Source, Tally
from tubelet.inputs import Input
from tubelet.inputs.local import Openers
from tubelet.machine.heartbeat import HEARTBEAT, Sign
from tubelet.machine.timing import TIMER
from tubelet.run.events import EventReporter
from tubelet.run.parts.cuts import Part
from tubelet.run.parts.part_store import PartStore
from tubelet.run.parts.units import WorkUnit
from tubelet.run.ray.messages import BEAT, DecodeRequest, Message, RemoteReading, decode, with_beats
from tubelet.run.worker import Access, Event, ReaderDied, Worker

AHEAD = 2
"""Rows of a decoder that may wait for the model."""

TICK_S = 1.0
QUIET = ("OMP_WAIT_POLICY", "PASSIVE")


class Decoder:
    """An actor that reads videos for one model worker."""

    def __init__(self) -> None:
        os.environ.setdefault(*QUIET)
        self._openers = Openers()

    def rows(self, request: DecodeRequest) -> Iterator[Message]:
        yield from with_beats(decode(request, self._openers))

    def pid(self) -> int:
        return os.getpid()


class ModelWorker:
    """An actor with the models and a decoder of its own; it writes what it makes."""

    def __init__(self, order: bytes, extractors: bytes, device: str, shared: bool) -> None:
        os.environ.setdefault(*QUIET)
        import torch

        job, out, threads = pickle.loads(order)  # noqa: S301 made by the driver
        torch.set_num_threads(threads)
        models: list[Extractor] = pickle.loads(extractors)  # noqa: S301 made by the driver
        for model in models:
            model.move_to(device)
        self._shared = shared
        self._decoder: Any = None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._reporter = EventReporter(self._events.put, tick_s=TICK_S)
        self._worker = Worker(job, models, out, self._reporter, reach=self._reach)

    def ready(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def decoder_pid(self) -> int:
        """For tests that kill it."""
        return ray.get(self._get_decoder().pid.remote())

    def work(self, unit: WorkUnit) -> Iterator[Event]:
        """Do a unit; what happens, as it happens, and signs of life in between."""

        def do() -> None:
            event = self._worker.do(unit)
            self._reporter.flush()
            self._events.put(event)

        thread = threading.Thread(target=do, name="unit", daemon=True)
        thread.start()
        before: Sign | None = None
        while True:
            event: Event | None = None
            with suppress(queue.Empty):
                event = self._events.get(timeout=TICK_S)
            if event is not None and event[0] == "done":
                yield "work", TIMER.take()
            if HEARTBEAT.sign != before:
                before = HEARTBEAT.sign
                yield "sign", before
            if event is None:
                continue
            if event[0] in ("unit", "broken", "lost"):
                thread.join()
                yield "work", TIMER.take()
                yield event
                return
            yield event

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

    def _reach(self, item: Input, part: Part | None, store: PartStore | None) -> Access:
        """In the decoder of this worker."""
        marks: dict[int, int] = {}

        @contextmanager
        def opening(source: Source, lanes: Sequence[Lane], tally: Tally) -> Iterator[RemoteReading]:
            request = DecodeRequest(item, source, list(lanes), part, store)
            streaming = {
                "num_returns": "streaming",
                "_generator_backpressure_num_objects": AHEAD,
            }
            stream = self._get_decoder().rows.options(**streaming).remote(request)
            reading = None
            try:
                reading = RemoteReading(_received(stream), tally)
                yield reading
                marks.update(reading.marks)
            finally:
                if reading is None or not reading.ended:  # it may go on, or be dead
                    ray.kill(self._decoder)
                    self._decoder = None

        return Access(nullcontext(item.path), opening, marks)


def _received(stream: Any) -> Iterator[Message]:
    try:
        for reference in stream:
            message: Any = ray.get(reference)
            if message[0] == BEAT[0]:
                HEARTBEAT.beat()
            else:
                yield message
    except RayError as error:
        raise ReaderDied(f"the process that read it died: {cause_of(error)}") from None


def cause_of(error: BaseException) -> str:
    """What a Ray error ends with: the cause, after pages of traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
