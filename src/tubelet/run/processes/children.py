"""What runs in the processes of a run: workers, and apart from each other, decoders and models.

    worker     Worker(models).work(what the parent hands out)
    decoder    the same, with a `RemoteModel`: windows go to the parent, rows come back
    model      window after window from the parent, as slots of the decoders' buffers

All talk to their parent alone, so whoever dies takes nobody's lock or queue along.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared, ViewConfig, black
from tubelet.errors import StoreError
from tubelet.extraction.extractor import Extractor
from tubelet.extraction.lanes import Lane
from tubelet.inputs import Input
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.process import keep_memory
from tubelet.machine.timing import TIMER
from tubelet.run.claims.objects import claims_of
from tubelet.run.job import Outcome
from tubelet.run.processes.frame_buffer import FrameReader, FrameWriter, Size
from tubelet.run.processes.start import outlive_nobody
from tubelet.run.ray.messages import portable
from tubelet.run.worker import Worker


@dataclass(frozen=True)
class Order:
    """What the parent pickled a moment ago: the job, and the models or `ModelSpec`s."""

    common: bytes
    models: bytes


@dataclass(frozen=True)
class ModelSpec:
    """A model without its network: what reading videos for it needs to know. facts: of the run."""

    name: str
    names: tuple[str, ...]
    options: Any
    lane: Lane
    batch_size: int
    facts: dict[str, Any]
    size: Size


class ParentReporter:
    """Reporter of a worker: everything goes to the parent. Its absence is an interruption."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, what: str, value: Any = None) -> None:
        try:
            self._pipe.send((what, value))
        except OSError:
            raise KeyboardInterrupt from None

    def ask(self, what: str, value: Any = None) -> Any:
        """The parent's answer."""
        self.send(what, value)
        return self.hear()

    def hear(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
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
        while (item := self.ask("next")) is not None:
            yield item


class RemoteModel:
    """As an `Extractor`, but its network is in other processes."""

    def __init__(
        self, terms: ModelSpec, index: int, buffer: FrameWriter, reporter: ParentReporter
    ) -> None:
        self.name, self.names, self.options = terms.name, terms.names, terms.options
        self.lane, self.batch_size = terms.lane, terms.batch_size
        self.view: ViewConfig = terms.lane.view
        self.window = terms.lane.window
        self._facts, self._index, self._shelf, self._teller = terms.facts, index, buffer, reporter

    def run_facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        nothing = [black(self.view)] * self.window.frames
        return {name: a.shape for name, a in self.forward_clips([nothing])[0].items()}

    def forward(self, rows: Sequence[Row[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        return self.forward_clips([row.pixels for row in rows])

    def forward_clips(self, clips: Sequence[Sequence[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        places = self._shelf.place(clips)
        with HEARTBEAT.expected("model", limits=0):  # the parent watches over the models
            what, value = self._teller.ask("rows", (self._index, places))
        if what == "error":
            raise value
        return pickle.loads(value)  # noqa: S301 made by a model process of this run


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _begin(cells: Any, order: Order) -> tuple[Any, ...]:
    """A new process: (job, folders, attempts before). cells: of its pulse and its meter."""
    import torch

    pulse, meter = cells
    HEARTBEAT.share(pulse)
    TIMER.share(meter)
    # Ctrl-C reaches the whole group; the parent decides and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    outlive_nobody()
    *found, environment, threads = pickle.loads(order.common)  # noqa: S301
    torch.set_num_threads(threads)
    os.environ.update(environment)
    keep_memory()
    return tuple(found)


def _models(order: Order, device: str | None) -> list[Extractor]:
    models: list[Extractor] = pickle.loads(order.models)  # noqa: S301
    if device is not None:
        for model in models:
            model.move_to(device)
    return models


def _extract(
    reporter: ParentReporter, models: Sequence[Any], job: Any, folders: Any, before: dict[str, int]
) -> None:
    with claims_of(job, total=0) as claims:
        try:
            Worker(job, models, folders, claims, reporter, before).work(reporter.items())
        except StoreError as error:
            reporter.send("broken", str(error))
    reporter.send("end")


def worker(pipe: Connection, cells: Any, order: Order, device: str | None) -> None:
    """Decodes, computes, stores. device: where its models belong."""
    try:
        job, folders, before = _begin(cells, order)
        _extract(ParentReporter(pipe), _models(order, device), job, folders, before)
    except KeyboardInterrupt:
        return


def decoder(
    pipe: Connection, cells: Any, order: Order, memory: Sequence[Any], life: int
) -> None:  # fmt: skip
    """Decodes and stores; models are lent. memory: of its buffers, one per model."""
    try:
        job, folders, before = _begin(cells, order)
        reporter = ParentReporter(pipe)
        terms: list[ModelSpec] = pickle.loads(order.models)  # noqa: S301
        lent = [
            RemoteModel(t, k, FrameWriter(own, t.size, life), reporter)
            for k, (t, own) in enumerate(zip(terms, memory, strict=True))
        ]
        _extract(reporter, lent, job, folders, before)
    except KeyboardInterrupt:
        return


def model(
    pipe: Connection, cells: Any, order: Order, device: str | None,
    memory: Sequence[Sequence[Any]], sizes: Sequence[Size],
) -> None:  # fmt: skip
    """Computes rows of what lies on any decoder's buffers: memory[decoder][model]."""
    reporter = ParentReporter(pipe)
    try:
        _begin(cells, order)
        models = _models(order, device)
        readers = [[FrameReader(m, s) for m, s in zip(own, sizes, strict=True)] for own in memory]
        work = reporter.ask("ready")
        while work is not None:
            seat, lane, places = work
            frames = readers[seat][lane].frames(places)
            try:
                values = models[lane].forward_clips(frames)
                answer = "made", pickle.dumps(values)
            except Exception as error:  # noqa: BLE001 whatever it is, it is raised in the decoder
                error.add_note("".join(traceback.format_exception(error)))
                answer = "error", portable(error)
            del frames
            work = reporter.ask(*answer)
    except KeyboardInterrupt:
        return
