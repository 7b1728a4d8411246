"""Progress on stderr: a rich bar on a terminal, one line per video otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any

from tubelet.machine.timing import Works, in_words
from tubelet.run.job import Outcome

NARROW, WIDE = 96, 150
"""Columns of a terminal, below and from which the line tells less and all."""


class Progress:
    """Counts videos and windows. Use as a context; `done` closes a video."""

    def __init__(self, total: int) -> None:
        self.videos = self.failed = self.skipped = self.rows = 0
        self.hours = 0.0
        self.started = time.monotonic()
        self._windows = 0
        self._shares: dict[str, float] = {}
        self.works = Works()  # is told by the run where the time goes
        self.hint: str | None = None  # told once, behind the first video
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=total, name="", facts="")

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

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    def expect(self, videos: int) -> None:
        """So many videos are this run's, of those that were named."""
        if self._bar:
            self._bar.update(self._task, total=videos)

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        """`rows` more windows; `fraction` of this video is done, where that is known."""
        self._windows += rows
        self._shares[name] = min(fraction or 0.0, 1.0)
        self._show(name)

    def done(self, outcome: Outcome) -> None:
        """One video is finished."""
        self._shares.pop(outcome.id, None)
        if outcome.kind == "extracted":
            self.videos += 1
            self.rows += outcome.rows
            self.hours += outcome.seconds / 3600
        elif outcome.kind == "failed":
            self.failed += 1
        else:
            self.skipped += 1
        self._show(outcome.id)
        told = "failed: " if outcome.kind == "failed" else ""
        if not self._bar or told or "warning" in outcome.text:
            self.note(f"{outcome.id}: {told}{outcome.text}")
        for line in outcome.traceback.splitlines():
            self.note(line)
        if self.hint and outcome.kind == "extracted":
            self.note(self.hint)
            self.hint = None

    def note(self, text: str) -> None:
        """One line for people. Control characters of file names are made visible."""
        safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if self._bar:
            self._bar.console.print(safe, highlight=False, markup=False)
        else:
            print(safe, file=sys.stderr, flush=True)

    def _show(self, name: str) -> None:
        if self._bar:
            hours = f", {self.hours * 3600 / self.seconds:.1f} h/h" if self.hours else ""
            room = self._bar.console.width
            self._bar.update(
                self._task,
                completed=self.finished + sum(self._shares.values()),
                name=name[-40:] if room >= WIDE else name[-12:],
                facts=f"{self._windows} rows, {self._windows / self.seconds:.2f}/s{hours}"
                f"{self._busy(room)}",
            )

    def _busy(self, room: int) -> str:
        """How busy the stages are: all of them, the busiest one, or nothing where it is narrow."""
        work = self.works.now()
        shares = {k: share for k, share in work.busy.items() if share} if work else {}
        if not shares or room < NARROW:
            return ""
        if room < WIDE:
            most = max(shares, key=lambda stage: shares[stage])
            shares = {most: shares[most]}
        return f"; busy: {', '.join(f'{stage} {share:.0%}' for stage, share in shares.items())}"

    def counts(self) -> dict[str, Any]:
        """The closing numbers. hours: of video that was extracted now. work: see `meter.Work`."""
        work = self.works.now()
        return {
            "videos": self.videos,
            "skipped": self.skipped,
            "failed": self.failed,
            "rows": self.rows,
            "hours": round(self.hours, 6),
            "seconds": round(self.seconds, 3),
            "hours_per_hour": round(self.hours * 3600 / self.seconds, 3),
            "work": work.plain() if work is not None else None,
        }

    def summary(self) -> str:
        """The closing line, and one about the stages where they did anything."""
        work = self.works.now()
        stages = f"\n{in_words(work.plain())}" if work is not None and self.rows else ""
        pace = ""
        if self.hours:
            pace = f"; {self.hours:.2f} h of video, {self.hours * 3600 / self.seconds:.2f} h per h"
        return (
            f"{self.videos} extracted, {self.skipped} already done, {self.failed} failed; "
            f"{self.rows} rows in {self.seconds:.1f} s{pace}{stages}"
        )


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(40 if console.width >= WIDE else 10),
        TextColumn("{task.completed:.1f}/{task.total:.0f} videos"),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
        console=console,
    )
