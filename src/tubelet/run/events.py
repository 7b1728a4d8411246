"""A reporter that turns what a worker says into events for its driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tubelet.run.job import Outcome


class EventReporter:
    """send: called with ("advance" | "done" | "note", value). Rows are told at most every tick_s
    seconds, and before whatever ends their video."""

    def __init__(self, send: Callable[[tuple[str, Any]], None], *, tick_s: float = 0.0) -> None:
        self._send, self._tick_s = send, tick_s
        self._name, self._rows, self._last = "", 0, 0.0
        self._fraction: float | None = None

    def expect(self, videos: int) -> None:
        """The driver knows."""

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        if name != self._name:
            self.flush()
        self._name, self._fraction = name, fraction
        self._rows += rows
        if rows == 0 or time.monotonic() - self._last >= self._tick_s:
            self._tell()

    def flush(self) -> None:
        """The rows since the last tick."""
        if self._rows:
            self._tell()

    def _tell(self) -> None:
        self._send(("advance", (self._name, self._rows, self._fraction)))
        self._rows, self._last = 0, time.monotonic()

    def done(self, outcome: Outcome) -> None:
        self.flush()
        self._send(("done", outcome))

    def note(self, text: str) -> None:
        self._send(("note", text))
