"""Subjects that are timed in turn, each in a process of its own that sleeps in between.

    parent ── run ──▶ A ── seconds ──▶ parent ── run ──▶ B ── seconds ──▶ parent ── run ──▶ A ...

Work of others on the machine then weighs on all of them, and what is reported is the median of the
ratios within rounds. A process each: every subject has the memory settings that its users have,
and its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tubelet.machine.process import keep_memory, patient_children

Call = Callable[[int], object]
"""One repetition with a batch of so many clips, or whatever the subject is about."""


class Timed:
    """Something to time. `make(*args)` is called in the child and returns what is repeated.

    keeps_memory: as tubelet's command line and workers do (`process.keep_memory`). threads: of
    torch; None leaves its choice. The child waits without spinning, whatever it is.
    """

    def __init__(
        self,
        make: Callable[..., Call],
        *args: Any,
        keeps_memory: bool,
        threads: int | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        with patient_children():
            self._process = context.Process(
                target=_child, args=(theirs, make, args, keeps_memory, threads), daemon=True
            )
            self._process.start()
        theirs.close()
        self.peak_mb = 0.0
        self._receive()

    def run(self, size: int = 1) -> float:
        """Seconds of one repetition."""
        self._pipe.send(size)
        seconds, self.peak_mb = self._receive()
        return seconds

    def _receive(self) -> Any:
        try:
            ok, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a benchmark's process ended by itself") from None
        if not ok:
            raise RuntimeError(f"a benchmark's process failed: {value}")
        return value

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _child(
    pipe: Connection, make: Callable[..., Call], args: Any, keeps_memory: bool, threads: int | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    if keeps_memory:
        keep_memory()
    try:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        call = make(*args)
        pipe.send((True, None))
        while True:
            try:
                size = pipe.recv()
            except EOFError:  # the parent is gone
                return
            start = time.perf_counter()
            call(size)
            seconds = time.perf_counter() - start
            pipe.send((True, (seconds, peak_mb())))
    except Exception as error:  # noqa: BLE001 - told to the parent, who raises
        pipe.send((False, f"{type(error).__name__}: {error}"))


def peak_mb() -> float:
    """Most memory of this process so far; 0 on Windows, where Python does not tell it."""
    if sys.platform == "win32":
        return 0.0
    if sys.platform == "linux":  # ru_maxrss would begin with that of the parent
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, else KiB


def interleaved(
    subjects: Mapping[str, Callable[[], float]], *, rounds: int, warmups: int = 2
) -> dict[str, list[float]]:
    """Seconds of each subject, one per round; every round visits all of them in turn."""
    for run in subjects.values():
        for _ in range(warmups):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            seconds[name].append(run())
    return seconds


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return Spread(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return Spread(median(values), low, high)

    def plain(self, digits: int = 4) -> list[float]:
        """[median, lower quartile, upper quartile], rounded to significant digits."""
        return [float(f"{v:.{digits}g}") for v in (self.median, self.low, self.high)]


def speedup(base: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times as fast `other` is, within each round."""
    return Spread.of([a / b for a, b in zip(base, other, strict=True)])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name() -> str:
    """Kind of CPU and cores, as tables name it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {cores()} cores"
