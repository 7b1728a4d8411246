"""Progress on stderr: a rich bar on a terminal, one line per video otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Counts videos and windows. Use as a context; `done` closes a video."""

    def __init__(self, total: int) -> None:
        self.videos = self.failed = self.skipped = self.rows = 0
        self.started = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.fields[name]}"),
                BarColumn(),
                TextColumn("{task.completed:.1f}/{task.total:.0f} videos"),
                TextColumn("{task.fields[rows]} windows, {task.fields[rate]:.2f}/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=total, name="", rows=0, rate=0.0)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def finished(self) -> int:
        return self.videos + self.failed + self.skipped

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        """`rows` more windows; `fraction` of the current video is done, where that is known."""
        self.rows += rows
        if self._bar:
            self._bar.update(
                self._task,
                completed=self.finished + min(fraction or 0.0, 1.0),
                name=name[-40:],
                rows=self.rows,
                rate=self.rows / max(time.monotonic() - self.started, 1e-9),
            )

    def done(self, name: str, outcome: str) -> None:
        """One video is finished: outcome is a short text such as `5 rows` or `failed: ...`."""
        if not self._bar:
            print(f"{name}: {outcome}", file=sys.stderr, flush=True)
            return
        self._bar.update(self._task, completed=self.finished)
        if outcome.startswith("failed") or "warning" in outcome:
            self._bar.console.print(f"{name}: {outcome}", highlight=False, markup=False)

    def summary(self) -> str:
        seconds = time.monotonic() - self.started
        return (
            f"{self.videos} extracted, {self.skipped} already done, {self.failed} failed; "
            f"{self.rows} windows in {seconds:.1f} s"
        )
