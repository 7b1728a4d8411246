"""A pool of worker processes of this machine; `children.py` is what runs in them."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tubelet.extraction.extractor import Extractor
from tubelet.machine.atomic import sweep
from tubelet.machine.heartbeat import CELLS, Sign, read_sign
from tubelet.machine.process import patient_children
from tubelet.machine.timing import COUNTERS
from tubelet.run.driver import Hear
from tubelet.run.job import Job
from tubelet.run.out import Out
from tubelet.run.parts.units import WorkUnit
from tubelet.run.processes import children
from tubelet.run.processes.start import GRACE_S, ending, start_method


@dataclass(eq=False)
class ChildProcess:
    """cells: its heartbeat, in memory that both processes share."""

    process: BaseProcess
    pipe: Connection
    cells: Any


class ProcessPool:
    """Workers are processes. Each talks to this one alone, through a pipe of its own."""

    def __init__(self, job: Job, extractors: Sequence[Extractor], out: Out) -> None:
        import torch

        self._out, self._devices = out, job.devices or (None,)
        self._context = start_method()
        # As many threads as here: the last bits of a sum depend on how many share it.
        common = (replace(job, inputs=[]), out, dict(os.environ), torch.get_num_threads())
        self._order = children.Order(pickle.dumps(common), pickle.dumps(list(extractors)))
        self._running: list[ChildProcess] = []
        self._timers: list[Sequence[int]] = []

    def start(self, place: int) -> ChildProcess:
        device = self._devices[place % len(self._devices)]
        ours, theirs = self._context.Pipe()
        cells, timer = (self._context.RawArray("q", size) for size in (CELLS, COUNTERS))
        self._timers.append(timer)  # for good: what a dead one did counts
        args = (theirs, (cells, timer), self._order, device)
        process = self._context.Process(target=children.worker, args=args, daemon=True)
        with patient_children():
            process.start()
        theirs.close()  # else the end of the child would not close the pipe
        child = ChildProcess(process, ours, cells)
        self._running.append(child)
        return child

    def send(self, worker: ChildProcess, unit: WorkUnit) -> None:
        with suppress(OSError):  # it is dead, which its pipe will say
            worker.pipe.send(unit)

    def wait(self, hear: Hear, timeout_s: float) -> None:
        running: dict[Any, ChildProcess] = {child.pipe: child for child in self._running}
        for pipe in wait(list(running), timeout_s):
            child = running[pipe]
            try:
                what, value = child.pipe.recv()
            except (EOFError, OSError):
                self._running.remove(child)
                what, value = "gone", None
            hear(child, what, value)

    def sign(self, worker: ChildProcess) -> Sign:
        return read_sign(worker.cells)

    def kill(self, worker: ChildProcess) -> None:
        worker.process.kill()
        self._running.remove(worker)

    def why(self, worker: ChildProcess) -> str:
        worker.process.join(GRACE_S)
        worker.pipe.close()
        return ending(worker.process)

    def counters(self) -> Sequence[int]:
        return [sum(timer[i] for timer in list(self._timers)) for i in range(COUNTERS)]

    def close(self) -> None:
        """Each worker drops its video. One that does not end within GRACE_S, or a second
        interruption, is the end of all."""
        for child in self._running:
            if child.process.is_alive():
                child.process.terminate()
        end = time.monotonic() + GRACE_S
        try:
            for child in self._running:
                child.process.join(max(0.0, end - time.monotonic()))
        finally:
            for child in self._running:
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join(GRACE_S)
                child.pipe.close()
            sweep(self._out.path)  # what a killed one could not tidy up
