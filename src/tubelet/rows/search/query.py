"""What `--like` means: a moment, a span or a whole video of the set, or another video."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError, did_you_mean
from tubelet.rows.search.engine import Searcher
from tubelet.rows.similarity import flat, normalise
from tubelet.types import Features

Extract = Callable[[str, float | None, float | None], Features]
"""(path, start_s, end_s) -> features by the set's own recipe."""


@dataclass(frozen=True)
class Query:
    """vector [D]: what is looked for. own: rows of the set that it is made of or that overlap it.

    start_s, end_s: what was asked for, None for a whole video. rows: how many went in.
    """

    vector: NDArray[np.float32]
    own: range
    id: str
    start_s: float | None
    end_s: float | None
    rows: int
    from_set: bool

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        names = ("id", "start_s", "end_s", "rows", "from_set")
        return {name: getattr(self, name) for name in names}


def query_of(
    text: str, searcher: Searcher, *, span_s: float | None = None, extract: Extract
) -> Query:
    """`ID@12.5`, `ID@12.5-14`, `ID`, or a path in place of ID.

    span_s: seconds from the given one on, instead of writing the end. A whole video, and a span,
    is the mean of its rows. UsageError for what is neither in the set nor a file.
    """
    name, start_s, end_s = _parsed(text, searcher.collection.ids)
    if span_s is not None:
        if start_s is None or end_s is not None:
            raise UsageError(f"--span {span_s:g} needs a start: --like {name}@SECONDS")
        end_s = start_s + span_s
    if start_s is not None and end_s is not None and not start_s < end_s:
        raise UsageError(f"{text!r}: a span of {start_s:g} to {end_s:g} s; it must end later")
    if name in searcher.collection.ids:
        return _of_the_set(searcher, name, start_s, end_s)
    if not os.path.exists(name):
        near = did_you_mean(name, searcher.collection.ids)
        raise UsageError(
            f"{name!r} is neither a video of {searcher.collection.folder.path} nor a file{near}"
        )
    return _of_a_file(name, start_s, end_s, extract)


def _parsed(text: str, ids: tuple[str, ...]) -> tuple[str, float | None, float | None]:
    """The id or path is what stands before the last @, or everything where that is known."""
    name, at, when = text.rpartition("@")
    if not at or text in ids or os.path.exists(text):
        return text, None, None
    start, dash, end = when.partition("-")
    try:
        times = [float(start), *([float(end)] if dash else [])]
    except ValueError:
        times = []
    if not times or not all(map(math.isfinite, times)):
        raise UsageError(f"{text!r}: need {name}@SECONDS, or @SECONDS-SECONDS")
    return name, times[0], times[1] if dash else None


def _of_the_set(searcher: Searcher, name: str, start_s: float | None, end_s: float | None) -> Query:
    rows = searcher.collection.span(name)
    if start_s is None:
        if rows.start == rows.stop:
            raise UsageError(f"{name} has no rows; there is nothing to look for")
        vector = searcher.mean(np.arange(rows.start, rows.stop))
        return Query(
            vector, range(rows.start, rows.stop), name, None, None, rows.stop - rows.start, True
        )
    if end_s is None:
        vector, own = searcher.moment(name, start_s)
        return Query(vector, own, name, start_s, None, 1, True)
    vector, own = searcher.span(name, start_s, end_s)
    count = len(searcher.collection.rows_between(name, start_s, end_s))
    return Query(vector, own, name, start_s, end_s, max(1, count), True)


def _of_a_file(path: str, start_s: float | None, end_s: float | None, extract: Extract) -> Query:
    """The rows of the file are made by `extract`; a moment is the row that is nearest to it."""
    features = extract(path, None if end_s is None else start_s, end_s)
    if not len(features.values):
        raise UsageError(f"{path}: no rows: {'; '.join(features.provenance['warnings'])}")
    values = features.values
    if start_s is not None and end_s is None:
        if not features.start_s.min() <= start_s <= features.end_s.max():
            raise UsageError(f"{path} ends at {features.end_s.max():g} s; {start_s:g} is outside")
        values = values[features.at(start_s)][None]
    vector = normalise(flat(values).mean(axis=0)[None])[0][0]
    return Query(vector, range(0), path, start_s, end_s, len(values), False)
