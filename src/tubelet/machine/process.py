"""How a process should behave that runs networks on a CPU. Nothing here happens at import.

Waiting: an OpenMP thread that waits may spin or sleep. Spinning threads take the core from a
decoder, from a neighbour and from each other; `OMP_WAIT_POLICY=PASSIVE` makes them sleep. OpenMP
reads it when torch is loaded.

Memory: glibc gives large blocks back to the system at once and asks for them again, so that every
layer's output is memory which the kernel must clear first (40 % of a ResNet's CPU time in the run
that benchmarks/README.md tells of). Told to keep them, the process holds what its largest moment
needed.

Both are for whoever owns the process: the command line and its workers. A user's own setting of the
environment variables wins.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_POLICY = "OMP_WAIT_POLICY"
OWN_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LARGEST = 1 << 30
OLD_LARGEST = 32 << 20
"""Blocks that may be kept; the second is the most that older versions of glibc take."""


def configure_process() -> None:
    """Sleep while waiting, keep memory. To be called before torch is imported."""
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
    keep_memory()


@contextmanager
def patient_children() -> Iterator[None]:
    """Processes started inside sleep while waiting; this one's environment stays as it is."""
    if WAIT_POLICY in os.environ:
        yield
        return
    os.environ[WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[WAIT_POLICY]


def keep_memory() -> bool:
    """Let glibc keep large freed blocks. Whether it does: elsewhere nothing happens."""
    if sys.platform != "linux" or any(name in os.environ for name in OWN_MALLOC):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, OLD_LARGEST)
    return bool(kept and mallopt(M_TRIM_THRESHOLD, LARGEST))
