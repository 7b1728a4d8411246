"""What runs in a worker process: `Worker(models).work(what the parent hands out)`.

A worker talks to its parent alone, so one that dies takes nobody's lock or queue along.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tubelet.errors import StoreError
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.process import keep_memory
from tubelet.machine.timing import TIMER
from tubelet.run.claims.objects import claims_of
from tubelet.run.job import Outcome
from tubelet.run.processes.start import outlive_nobody
from tubelet.run.worker import Worker


@dataclass(frozen=True)
class Order:
    """What the parent pickled a moment ago: the job, and the models."""

    common: bytes
    models: bytes


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
