"""Ctrl-C: the first one finishes the videos under way and begins no other, the second drops them.

SIGTERM is not looked at here: who sends it (a batch system whose time is up) will not wait.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from tubelet.run.job import Outcome, Reporter

PATIENCE_S = 0.5
"""How long a video that was given to a worker a moment ago may take to be heard of."""


class GracefulStop:
    """A reporter in front of another one, which knows what is under way. Use as a context, in the
    main thread; `asked` tells that Ctrl-C has come. parts: a video may be a part of one, so that
    nobody knows how much of what is under way is left."""

    def __init__(self, report: Reporter, *, parts: bool = False) -> None:
        self._report, self._parts = report, parts
        self._open: dict[str, tuple[float, float | None]] = {}
        self._before: Any = None
        self.asked = False

    def __enter__(self) -> GracefulStop:
        main = threading.current_thread() is threading.main_thread()
        # Where Ctrl-C is ignored (nohup) or somebody else's, it stays so.
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not from here: the interrupted thread may be writing, and hold the locks.
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._open and time.monotonic() < end:
            time.sleep(PATIENCE_S / 10)
        self._report.note(f"finishing what is under way{self.left()}; Ctrl-C again drops it")

    def left(self) -> str:
        """What is under way, and for how long, in words."""
        told: list[str] = []
        for name, (began, fraction) in list(self._open.items()):
            words = name
            if fraction and not self._parts:
                seconds = (time.monotonic() - began) * (1 - fraction) / fraction
                words += f": {fraction:.0%} done, about {span(seconds)} left"
            told.append(words)
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        return f" ({'; '.join(told[:3])}{more})" if told else ""

    def expect(self, videos: int) -> None:
        self._report.expect(videos)

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        began, _ = self._open.get(name, (time.monotonic(), None))
        self._open[name] = began, fraction
        self._report.advance(name, rows, fraction)

    def done(self, outcome: Outcome) -> None:
        self._open.pop(outcome.id, None)
        self._report.done(outcome)

    def note(self, text: str) -> None:
        self._report.note(text)


def span(seconds: float) -> str:
    """A duration in words."""
    hours, rest = divmod(round(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60:02} min"
    return f"{rest // 60} min" if rest >= 120 else f"{rest} s"
