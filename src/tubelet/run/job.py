"""What a run is asked to do, and what it tells whoever watches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tubelet.errors import UsageError
from tubelet.inputs import Input
from tubelet.run.out import Place
from tubelet.run.share.shard import Shard
from tubelet.store.failures import Failure


@dataclass(frozen=True)
class Job:
    """Inputs and OUT (`out.place_of`).

    strict: a damaged video fails. fail_fast: stop at the first failure. retry_failed: only inputs
    that are in failures.jsonl. workers: processes; each has as many threads as this one, so that
    the bytes do not depend on their number. debug_frames: contact sheets per video. debug:
    tracebacks with the failures. shard: only this share of the inputs. devices: where the workers'
    models run, in turn; () for where they are. timeout: seconds without a frame or row after which
    the process that reads a video is killed and the video fails; the videos are then always read in
    other processes than this one. None or 0: no limit.
    part_s: several workers share a video of at least two parts of so many seconds; None: they never
    do.
    """

    inputs: Sequence[Input]
    out: Place
    fmt: str = "npy"
    overwrite: bool = False
    strict: bool = False
    fail_fast: bool = False
    retry_failed: bool = False
    workers: int = 1
    debug_frames: int = 0
    debug: bool = False
    shard: Shard | None = None
    devices: tuple[str, ...] = ()
    timeout: float | None = None
    part_s: float | None = 300.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}; it must be at least 1")
        if self.timeout is not None and not 0 <= self.timeout < math.inf:
            raise UsageError(f"timeout is {self.timeout}; it must be seconds, 0 for no limit")
        if self.debug_frames < 0:
            raise UsageError(f"debug frames is {self.debug_frames}; it must be at least 0")


@dataclass(frozen=True)
class Outcome:
    """What became of one video. text: for people. seconds: how much video its rows cover.
    failure: its line in failures.jsonl, where this run wrote it. known: it had one before."""

    id: str
    kind: Literal["extracted", "skipped", "failed"]
    text: str
    rows: int = 0
    seconds: float = 0.0
    traceback: str = ""
    failure: Failure | None = None
    known: bool = False

    @classmethod
    def failed(cls, failure: Failure, *, traceback: str = "") -> Outcome:
        """A bug or a full memory is told with its type."""
        text = f"{failure.type}: {failure.message}" if failure.unexpected else failure.message
        if failure.type == "WorkerDied":
            text = failure.message
        return cls(failure.id, "failed", text, traceback=traceback, failure=failure)


class Reporter(Protocol):
    """Who hears of progress; `cli.progress.Progress` for people. No rows: a video is begun."""

    def expect(self, videos: int) -> None: ...
    def advance(self, name: str, rows: int, fraction: float | None) -> None: ...
    def done(self, outcome: Outcome) -> None: ...
    def note(self, text: str) -> None: ...


Stopping = Callable[[], bool]
"""Whether somebody has asked for an end: begin no further video."""


def nobody() -> bool:
    """A run that is never asked to end."""
    return False
