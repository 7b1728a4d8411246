"""Clean processes for workers: where they come from, and how they ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from typing import Any

from tubelet.machine.process import patient_children

GRACE_S = 5.0
"""How long a worker may take to drop its video."""

TICK_S = 1.0
"""How often a process is looked at that has a time limit; more often for short limits."""


def start_method() -> Any:
    """Clean processes, never forks of ours (its threads and its GPU): from a server that has
    imported torch once, where the system has such servers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "av", "tubelet.run.processes.children"])
    return context


def warm_up() -> None:
    """Start the server that workers come from now: it imports torch while this process does."""
    if start_method().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        with patient_children():
            ensure_running()


def outlive_nobody() -> None:
    """In a process that was started here. When its parent is gone: the same as SIGTERM, then the
    end, whatever hangs."""
    threading.Thread(target=_end_with_the_parent, name="orphan", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def ending(process: BaseProcess) -> str:
    """How a process ended, in words."""
    code = process.exitcode
    if code is None:
        return "no answer to SIGKILL"
    return f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
