"""OUT -> report.html: gather, look at the sources, write one file."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import TubeletError, UsageError, WeightsError
from tubelet.extraction.lanes import Lane
from tubelet.extraction.recipe import lane_of
from tubelet.machine.atomic import atomic_file
from tubelet.report.model import Choices, ModelReport
from tubelet.report.pixels import middle_of, rows_of, sheet_of
from tubelet.report.stored import (
    Detail,
    choose,
    detail_of,
    lines_of,
    spread,
    whole_of,
)
from tubelet.rows.collection import load_collection
from tubelet.rows.scores import scores_of
from tubelet.store.listing import read_folders

Note = Callable[[str], None]


def write_report(
    out: Path, dest: Path, choices: Choices | None = None, *, note: Note = lambda text: None
) -> list[ModelReport]:
    """Write the page and return what it shows. note: told what is being done.

    UsageError for what is no output folder and for a missing extra; StoreError where the page
    cannot be written.
    """
    from tubelet.report.page import page

    choices = choices or Choices()
    reducer = umap_reducer() if choices.umap else None
    folders = read_folders(out)
    each = -(-choices.videos // len(folders))
    reports = [model_report(folder.path, choices, count=each, note=note) for folder in folders]
    if reducer:
        for report in reports:
            _check_umap(report)
    for report in reports:
        look(report, choices, note)
        if reducer and report.whole is not None:
            note("computing the UMAP")
            report.whole.umap = reducer(report)
    text = page(out, reports, choices)
    with atomic_file(dest) as file:
        file.write(text.encode("utf-8", "replace"))
    return reports


def model_report(path: Path, choices: Choices, *, count: int, note: Note) -> ModelReport:
    """What one model's folder says; `look` adds what its videos show."""
    note(f"reading {path}")
    collection = load_collection(path)
    scores, no_scores = None, ""
    try:
        scores = scores_of(collection.recipe, compute=choices.scores)
    except WeightsError as error:
        no_scores = str(error)
    lines, failures = lines_of(collection)
    report = ModelReport(collection, lines, failures, scores, no_scores)
    report.whole = whole_of(collection, scores)
    for identity in choose(collection, count, choices.chosen):
        detail = detail_of(collection, identity, scores)
        detail.wanted = spread(detail, windows=choices.windows, until_s=choices.until_s)
        report.details.append(detail)
    return report


def look(report: ModelReport, choices: Choices, note: Note) -> None:
    """Contact sheets of the details, and small pictures of what the set's lists name."""
    try:
        lane = lane_of(report.collection.recipe)
    except TubeletError as error:
        for detail in report.details:
            detail.unseen = str(error)
        return
    details = {detail.id: detail for detail in report.details}
    extra = _named_rows(report, choices.until_s) if choices.windows else {}
    videos = [*details, *(i for i in extra if i not in details)]
    for k, identity in enumerate(videos, 1):
        note(f"decoding {k} of {len(videos)}: {identity}")
        _look_at(report, identity, details.get(identity), extra.get(identity, []), lane, choices)


def _look_at(
    report: ModelReport,
    identity: str,
    detail: Detail | None,
    extra: Sequence[int],
    lane: Lane,
    choices: Choices,
) -> None:
    wanted = detail.wanted if detail else []
    if not wanted and not extra:
        return
    try:
        record = detail.record if detail else report.collection.folder.video(identity)
        for row in rows_of(record, lane, [*wanted, *extra], roots=choices.roots):
            index = row.window.index
            if detail is not None and index in wanted:
                detail.sheets.append(sheet_of(row, lane.view))
            if index in extra:
                report.thumbs[identity, index] = middle_of(row, lane.view)
    except TubeletError as error:
        if detail is not None:
            detail.unseen = str(error)


def _named_rows(report: ModelReport, until_s: float) -> dict[str, list[int]]:
    """id -> rows that the lists of the set show, where decoding up to them is not too long."""
    if report.whole is None:
        return {}
    c, whole = report.collection, report.whole
    places = [p for a, b, _ in whole.alike for p in (a, b)] + [p for p, _ in whole.lonely]
    found: dict[str, list[int]] = {}
    for row in whole.rows[places].tolist() if places else []:
        identity, index = report.place(row)
        if c.end_s[row] <= c.start_s[c.span(identity).start] + until_s:
            found.setdefault(identity, []).append(index)
    return found


def _check_umap(report: ModelReport) -> None:
    """UsageError for rows too few for it: before anything is decoded."""
    rows = 0 if report.whole is None else len(report.whole.points)
    if rows < 5:
        raise UsageError(f"--umap: {report.collection.folder.path} has {rows} rows; it needs 5")


def umap_reducer() -> Callable[[ModelReport], NDArray[np.float32]]:
    """UsageError where umap-learn is not installed."""
    try:
        umap = importlib.import_module("umap")
    except ImportError as error:
        raise UsageError("--umap needs umap-learn: pip install 'tubelet[umap]'") from error

    def reduce(report: ModelReport) -> NDArray[np.float32]:
        assert report.whole is not None
        unit = report.collection.vectors[report.whole.rows[report.whole.points]]
        near = min(15, len(unit) - 1)
        reducer = umap.UMAP(n_neighbors=near, metric="cosine", random_state=0, n_jobs=1)
        return np.asarray(reducer.fit_transform(unit), np.float32)

    return reduce
