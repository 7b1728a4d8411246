"""Clean processes for workers: where they come from, and how they ended."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.process import BaseProcess
from typing import Any

from tubelet.process import patient_children


def start_method() -> Any:
    """Clean processes, never forks of ours (its threads and its GPU): from a server that has
    imported torch once, where the system has such servers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "av", "tubelet.scale.children"])
    return context


def warm_up() -> None:
    """Start the server that workers come from now: it imports torch while this process does."""
    if start_method().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        with patient_children():
            ensure_running()


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
