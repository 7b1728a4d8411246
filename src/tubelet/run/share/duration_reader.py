"""How long one input is, and the process that reads it of many: a file that hangs while its header
or its packets are read can only be ended from outside.

    parent ── inputs ──▶ reader ── place begun, place read: seconds, place begun, ... ──▶ parent

Imports no torch, so that such a process starts in a moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tubelet.decode.base import SYNTHETIC, video_seconds
from tubelet.errors import TubeletError
from tubelet.inputs import Input
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.run.processes.start import outlive_nobody


def seconds_of(item: Input) -> float | None:
    """Seconds that an input, or the part of it that is asked for, lasts.

    None where its file would have to be fetched first (a URL, a member of a tar) and for a file
    that cannot be read; that becomes a failure when its turn comes.
    """
    try:
        local = item.path.startswith(SYNTHETIC) or Path(item.path).exists()
        if item.member is not None or not local:
            return None
        if item.start_s is not None and item.end_s is not None:
            return item.end_s - item.start_s
        length = video_seconds(item.path, fps=item.fps, pattern=item.pattern)
    except (TubeletError, OSError):
        return None
    end = length if item.end_s is None else min(item.end_s, length)
    return max(0.0, end - (item.start_s or 0.0))


def reader(pipe: Connection, cells: Any, items: Mapping[int, Input], at_once: int) -> None:
    """A process: `seconds_of` each, `at_once` of them at a time. items: by their places, by which
    they are told of. cells: of its pulse."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    HEARTBEAT.share(cells)
    outlive_nobody()
    lock = threading.Lock()

    def tell(*words: Any) -> None:
        HEARTBEAT.beat()
        with lock:
            pipe.send(words)

    def read(place: int) -> None:
        tell("begun", place, None)
        tell("read", place, seconds_of(items[place]))

    with HEARTBEAT.expected("open"), ThreadPoolExecutor(at_once) as pool:
        list(pool.map(read, items))
