"""Processes that read what strangers made, and can be killed: a message is JSON, never a pickle.

parent ── order (JSON) ──▶ child
       ◀─ {"news": ...} ──            any number
       ◀─ {"end": ...}  ──            one per order
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tubelet.errors import TubeletError

POLL_S = 0.1


class ChildFailed(TubeletError):
    """A process was killed at its limit, was told to stop, or died."""


class ChildEnd:
    """The child's end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def orders(self) -> Iterator[Any]:
        while True:
            try:
                yield json.loads(self._pipe.recv_bytes())
            except EOFError:
                return

    def news(self, value: Any) -> None:
        self._send({"news": value})

    def end(self, value: Any) -> None:
        self._send({"end": value})

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError):  # nobody listens: the next order will not come
            self._pipe.send_bytes(json.dumps(message).encode())


class Child:
    """One process. It starts with the first order and stays for the next."""

    def __init__(self, main: Callable[..., None], *args: Any) -> None:
        """main: called in the child with its `ChildEnd` and args; reads orders to the end."""
        self._main, self._args = main, args
        self._process: Any = None
        self._pipe: Connection | None = None

    def ask(
        self,
        order: Any,
        *,
        limit_s: float,
        heard: Callable[[Any], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> Any:
        """The end of one order. ChildFailed when it takes longer, is stopped, or the process
        dies; the process is gone then, and the next order starts another one."""
        deadline = time.monotonic() + limit_s
        try:
            pipe = self._start()
            pipe.send_bytes(json.dumps(order).encode())
            while True:
                if stopped():
                    raise ChildFailed("stopped")
                if time.monotonic() > deadline:
                    raise ChildFailed(f"it took longer than {limit_s:g} s and was stopped")
                if not pipe.poll(POLL_S):
                    continue
                message = json.loads(pipe.recv_bytes())
                if "end" in message:
                    return message["end"]
                heard(message["news"])
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise ChildFailed(self._epitaph()) from error
        except ChildFailed:
            self.kill()
            raise

    def kill(self) -> None:
        """The process is gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _start(self) -> Connection:
        if self._process is not None and not self._process.is_alive():
            self.kill()
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_run, args=(theirs, self._main, self._args), daemon=True
            )
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        return self._pipe

    def _epitaph(self) -> str:
        process = self._process
        if process is not None:
            process.join(1)
            code = process.exitcode
        else:
            code = None
        self.kill()
        if code is not None and code < 0:
            return f"the process that read it was ended by signal {-code}"
        return f"the process that read it died (exit code {code})"


def _run(pipe: Connection, main: Callable[..., None], args: tuple[Any, ...]) -> None:
    """The child. Ctrl-C is for the parent, which then kills us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(ChildEnd(pipe), *args)


def bound(*, memory: int | None = None, file_bytes: int | None = None) -> None:
    """Limits of this process, where the system knows them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", file_bytes)):
        if value is not None and hasattr(resource, name):
            with suppress(ValueError, OSError):  # above what we are allowed already
                resource.setrlimit(getattr(resource, name), (value, value))
