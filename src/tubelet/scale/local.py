"""Many videos on this machine, one after the other: skip what is done, record what fails."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from tubelet import __version__
from tubelet.errors import DamagedVideo, StoreError, TubeletError, UsageError
from tubelet.inputs import Input, source_size
from tubelet.pipeline import Extractor, extract_video
from tubelet.store.base import Folder, check_id, open_folder
from tubelet.store.failures import Failures
from tubelet.types import Features


class Reporter(Protocol):
    """Who hears of progress; `cli.progress.Progress` on a terminal."""

    videos: int
    failed: int
    skipped: int

    def advance(self, name: str, rows: int, fraction: float | None) -> None: ...
    def done(self, name: str, outcome: str) -> None: ...


@dataclass(frozen=True)
class Job:
    """What to do: inputs and the folder. strict: a damaged video fails. fail_fast: stop then."""

    inputs: Sequence[Input]
    out: Path
    fmt: str = "npy"
    overwrite: bool = False
    strict: bool = False
    fail_fast: bool = False
    debug: bool = False


def run(job: Job, extractors: Sequence[Extractor], report: Reporter) -> int:
    """Extract every input. Returns the number of failed ones; each is in OUT/failures.jsonl.

    UsageError and StoreError about OUT itself are raised before any input is tried, or when OUT
    stops being writable (a full disk): then nothing more can be kept.
    """
    for item in job.inputs:
        check_id(item.id)
    folders = _open_folders(job, extractors)
    failures = Failures(job.out)
    failed = 0
    for item in job.inputs:
        size = source_size(item.path)
        if not job.overwrite and all(f.is_done(item.id, source_size=size) for f in folders):
            report.skipped += 1
            failures.forget(item.id)
            report.done(item.id, "already done")
            continue
        try:
            outcome = _one(item, job, extractors, folders, report)
        except (StoreError, UsageError):
            raise
        except TubeletError as error:
            if job.debug:
                raise
            failed += 1
            report.failed += 1
            failures.add(item.id, item.path, error)
            report.done(item.id, f"failed: {error}")
            if job.fail_fast:
                break
        else:
            report.videos += 1
            failures.forget(item.id)
            report.done(item.id, outcome)
    return failed


def _one(
    item: Input,
    job: Job,
    extractors: Sequence[Extractor],
    folders: Sequence[Folder],
    report: Reporter,
) -> str:
    """Extract and store one video; what happened, in words."""
    features = extract_video(
        item.path,
        extractors,
        start_s=item.start_s,
        end_s=item.end_s,
        on_rows=lambda rows, fraction: report.advance(item.id, rows, fraction),
    )
    warnings: list[str] = features[0].provenance["warnings"]
    if job.strict and features[0].provenance["damaged"]:
        raise DamagedVideo(f"{item.path}: {'; '.join(warnings)} (--strict)")
    for folder, rows in zip(folders, features, strict=True):
        folder.write(item.id, rows)
    return _outcome(features[0], warnings)


def _outcome(features: Features, warnings: list[str]) -> str:
    rows = len(features.values)
    noted = f"; warning: {'; '.join(warnings)}" if warnings else ""
    return f"{rows} row{'' if rows == 1 else 's'}{noted}"


def _open_folders(job: Job, extractors: Sequence[Extractor]) -> list[Folder]:
    several = len(extractors) > 1
    names = [e.name for e in extractors]
    if len(set(names)) < len(names):
        raise UsageError(f"a model is named twice: {', '.join(names)}")
    return [
        open_folder(
            job.out / _folder_name(e.name) if several else job.out,
            recipe=e.recipe(),
            run=_run_facts(e),
            fmt=job.fmt,
            overwrite=job.overwrite,
        )
        for e in extractors
    ]


def _folder_name(model: str) -> str:
    """A model's name as a folder: a path of a YAML gives its stem."""
    return Path(model).stem if model.endswith((".yaml", ".yml")) else model.replace("/", "_")


def _run_facts(extractor: Extractor) -> dict[str, Any]:
    """What does not decide the numbers but may explain their last bit."""
    return {
        "device": extractor.device,
        "batch_size": extractor.batch_size,
        "tubelet": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "av")},
    }
