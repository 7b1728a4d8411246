"""What runs in a worker process: the units that the parent sends, one after the other."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tubelet.extraction.extractor import Extractor
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.process import keep_memory
from tubelet.machine.timing import TIMER
from tubelet.run.events import EventReporter
from tubelet.run.processes.start import outlive_nobody
from tubelet.run.worker import Event, Worker

TICK_S = 0.1
"""How often rows are told."""


@dataclass(frozen=True)
class Order:
    """What the parent pickled a moment ago: (job, out, environment, threads), and the models."""

    common: bytes
    models: bytes


def worker(pipe: Connection, cells: Any, order: Order, device: str | None) -> None:
    """The process. cells: of its heartbeat and its timer. device: where its models belong; None
    for where they are. Its parent's absence is an interruption."""

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:
            raise KeyboardInterrupt from None

    try:
        job, out = _begin(cells, order)
        models: list[Extractor] = pickle.loads(order.models)  # noqa: S301
        if device is not None:
            for model in models:
                model.move_to(device)
        reporter = EventReporter(send, tick_s=TICK_S)
        doing = Worker(job, models, out, reporter)
        send(("ready", None))
        while True:
            event = doing.do(pipe.recv())
            reporter.flush()
            send(event)
    except (KeyboardInterrupt, EOFError):
        return


def _begin(cells: Any, order: Order) -> tuple[Any, Any]:
    """A new process: (job, out)."""
    import torch

    heartbeat, timer = cells
    HEARTBEAT.share(heartbeat)
    TIMER.share(timer)
    # Ctrl-C reaches the whole group; the parent decides and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    outlive_nobody()
    job, out, environment, threads = pickle.loads(order.common)  # noqa: S301
    torch.set_num_threads(threads)
    os.environ.update(environment)
    keep_memory()
    return job, out


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
