"""What a run is asked to do, and what it tells whoever watches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.run.claims.disk import Claims
from tubelet.run.share.shard import Shard
from tubelet.store.failures import Failures
from tubelet.store.folder import Folder, open_folder
from tubelet.store.listing import ids_below
from tubelet.store.remote.objects import ObjectFolder
from tubelet.store.remote.spool import (
    Book,
    ObjectFailures,
    SpooledFolder,
    book_of,
    open_spooled,
    spool_of,
)


@dataclass(frozen=True)
class Job:
    """Inputs and the folder.

    strict: a damaged video fails. fail_fast: stop at the first failure. retry_failed: only inputs
    that are in failures.jsonl. workers: processes; each has as many threads as this one, so that
    the bytes do not depend on their number. debug_frames: contact sheets per video. debug:
    tracebacks with the failures. shard: only this share of the inputs. devices: where the workers'
    models run, in turn; () for where they are. timeout: seconds without a frame or row after which
    the process that reads a video is killed and the video fails; the videos are then always read in
    other processes than this one. None or 0: no limit.
    store: where OUT is, when that is no disk; `out` is then the spool (`Job.to`).
    """

    inputs: Sequence[Input]
    out: Path
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
    store: ObjectFolder | None = None

    @classmethod
    def to(cls, out: Path | ObjectFolder, inputs: Sequence[Input], **choices: Any) -> Job:
        """A job whose OUT is on a disk or a store."""
        if isinstance(out, ObjectFolder):
            return cls(inputs, spool_of(out), store=out, **choices)
        return cls(inputs, out, **choices)

    @property
    def book(self) -> Book:
        """The failures of OUT."""
        return Failures(self.out) if self.store is None else ObjectFailures(self.store)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}; it must be at least 1")
        if self.timeout is not None and not 0 <= self.timeout < math.inf:
            raise UsageError(f"timeout is {self.timeout}; it must be seconds, 0 for no limit")
        if self.debug_frames < 0:
            raise UsageError(f"debug frames is {self.debug_frames}; it must be at least 0")


@dataclass(frozen=True)
class Outcome:
    """What became of one video. seconds: how much video its rows cover."""

    id: str
    kind: Literal["extracted", "skipped", "failed"]
    text: str
    rows: int = 0
    seconds: float = 0.0
    traceback: str = ""


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


def open_folders(
    job: Job, extractors: Sequence[Extractor], facts: Mapping[str, Any] | None = None
) -> list[Folder]:
    """OUT for one model, OUT/<model> for each of several. UsageError for what cannot be.

    facts: of this run, recorded beside the recipe.
    """
    names = [folder_name(e.name) for e in extractors]
    if len(set(names)) < len(names):
        raise UsageError(f"two models share the folder name {_twice(names)!r}")
    several = len(extractors) > 1
    folders: list[Folder] = []
    for name, e in zip(names, extractors, strict=True):
        path = job.out / name if several else job.out
        choices: dict[str, Any] = {
            "recipe": e.recipe(),
            "run": {
                **e.run_facts(),
                "workers": job.workers,
                **(facts or {}),
            },
            "fmt": job.fmt,
            "overwrite": job.overwrite,
        }
        if job.store is None:
            folders.append(open_folder(path, **choices))
        else:
            store = job.store.below(name) if several else job.store
            folders.append(open_spooled(path, store, **choices))
    return folders


def books(job: Job, folders: Sequence[Folder]) -> list[Book]:
    """The failures of OUT, and of each model's folder when there are several."""
    return [job.book, *(book_of(folder) for folder in folders if folder.path != job.out)]


def here(job: Job, folders: Sequence[Folder]) -> tuple[Job, list[Folder]]:
    """A job of another machine: what belongs to a store is made on a disk of this one."""
    if job.store is None:
        return job, list(folders)
    spool = spool_of(job.store)
    moved = [replace(f, path=spool / f.path.relative_to(job.out)) for f in folders]
    return replace(job, out=spool), moved


def folder_name(model: str) -> str:
    """A model's name as a folder: a path of a YAML gives its stem."""
    return Path(model).stem if model.endswith((".yaml", ".yml")) else model.replace("/", "_")


def _twice(names: Sequence[Any]) -> Any:
    return next(name for name in names if names.count(name) > 1)


def resume(folders: Sequence[Folder], claims: Claims) -> None:
    """Send to the store what an earlier run finished on this machine and did not send."""
    for folder in folders:
        if isinstance(folder, SpooledFolder):
            for identity in ids_below(folder.path):
                if claims.take(identity):
                    folder.resume(identity)
                    claims.release(identity)


def finish(job: Job, folders: Sequence[Folder]) -> None:
    """What is due when a run ends."""
    for book in books(job, folders):
        book.finish()
