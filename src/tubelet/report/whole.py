"""The section about the whole set: maps, lengths, windows that are alike, windows that are odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from tubelet.report.charts import HUES, histogram, scatter
from tubelet.report.html import figure, note, table
from tubelet.report.model import ModelReport
from tubelet.report.stored import ALIKE, Whole
from tubelet.report.words import count, span


def whole(report: ModelReport, k: int) -> str:
    """Maps on the left, lengths on the right; below, what is alike and what is odd."""
    found = report.whole
    if found is None:
        return '<p class="missing">There are no rows.</p>'
    n = len(report.collection)
    norms = found.norms
    spread = f"{norms.min():.3g} to {norms.max():.3g}, median {np.median(norms):.3g}"
    words = f"{count(n, 'row')}; {spread}. Rows of norm 0, or far from the rest: faults, black."
    norms = figure(histogram(norms, f"Row norms: {spread}"), words, title="Row norms")
    return (
        f'<div class="halves"><div>{_maps(report, found, k)}</div>'
        f"<div>{norms}{_lonely(report, found)}</div></div>{_alike(report, found)}"
    )


def _maps(report: ModelReport, found: Whole, k: int) -> str:
    """The map, coloured by video or by class; a second one where UMAP was asked for."""
    rows = found.rows[found.points]
    videos = _videos(report, rows)
    classes = None if found.best is None else _classes(report, found.best[found.points])
    ways = [("v", "video", videos)] + ([("c", "class", classes)] if classes else [])
    marks = [[f"{way}{kinds[i]}" for way, _, (kinds, _) in ways] for i in range(len(rows))]
    titles = [_title(report, row, i, found) for i, row in enumerate(rows.tolist())]
    lonely = [int(np.searchsorted(found.points, p)) for p, _ in found.lonely]
    inputs = "".join(
        f'<input type="radio" name="by{k}" id="by{k}{way}" class="by{way}"'
        f'{" checked" if way == "v" else ""}><label class="choice" for="by{k}{way}">by {name}'
        "</label> "
        for way, name, _ in ways
    )
    legends = "".join(
        f'<ul class="legend of{way}">'
        + "".join(f'<li><b class="{way}{kind}"></b>{escape(name)}</li>' for kind, name in legend)
        + "</ul>"
        for way, _, (_, legend) in ways
    )
    shares = " and ".join(f"{100 * s:.0f} %" for s in found.share)
    n = len(report.collection)
    shown = (
        "" if len(rows) == n else f" {len(rows):,} of {n:,} rows, evenly chosen, and the odd ones."
    )
    drawn = scatter(found.coordinates, marks, titles, "Map of the rows by PCA", lonely=lonely)
    figures = figure(
        drawn,
        f"PCA of rows at length one: the axes hold {shares} of the variance. Rings: odd windows, "
        f"listed beside.{shown}",
    )
    if found.umap is not None:
        drawn = scatter(found.umap, marks, titles, "Map of the rows by UMAP", lonely=lonely)
        figures += figure(
            drawn,
            "UMAP of the same rows (cosine, 15 neighbours at most, seed 0). Distances between "
            "groups mean little here.",
        )
    return f"<h4>Map of all rows</h4>{inputs}{figures}{legends}"


def _title(report: ModelReport, row: int, i: int, found: Whole) -> str:
    identity, index = report.place(row)
    c = report.collection
    text = f"{identity}\nrow {index}, {span(c.start_s[row], c.end_s[row])}"
    if found.best is not None and report.scores is not None:
        best = int(found.best[found.points[i]])
        text += f"\n{report.scores.name(best)}" if best >= 0 else ""
    return text


Colouring = tuple[list[str], list[tuple[str, str]]]
"""(colour of every point, [(colour, name)] of the legend); x stands for the rest."""


def _videos(report: ModelReport, rows: NDArray[np.int64]) -> Colouring:
    """By video; by first folder where that makes few groups of many videos; else the largest."""
    names = [report.collection.video_of(row) for row in rows.tolist()]
    if len(set(names)) > HUES:
        folders = [name.partition("/")[0] if "/" in name else "" for name in names]
        if 1 < len(set(folders)) <= HUES:
            names = [f"{folder}/" for folder in folders]
    return _coloured(names)


def _classes(report: ModelReport, best: NDArray[np.int64]) -> Colouring:
    scores = report.scores
    assert scores is not None
    return _coloured([scores.name(b) if b >= 0 else "no scores" for b in best.tolist()])


def _coloured(names: Sequence[str]) -> Colouring:
    counts = Counter(names)
    largest = [name for name, _ in counts.most_common(HUES if len(counts) <= HUES else HUES - 1)]
    place = {name: str(k) for k, name in enumerate(sorted(largest))}
    legend = [(k, name) for name, k in place.items()]
    rest = len(counts) - len(largest)
    if rest:
        legend.append(("x", f"{rest} others"))
    return [place.get(name, "x") for name in names], legend


def _where(report: ModelReport, row: int) -> str:
    identity, _ = report.place(row)
    when = span(report.collection.start_s[row], report.collection.end_s[row])
    return f'{escape(identity)}<br><span class="small">{when}</span>'


def _picture(report: ModelReport, row: int) -> str:
    uri = report.thumbs.get(report.place(row))
    return f'<img src="{uri}" alt="">' if uri else ""


def _lonely(report: ModelReport, found: Whole) -> str:
    """Windows unlike all others."""
    head = "<h4>Odd windows</h4>"
    if not found.lonely:
        return head + note("None is further from its nearest neighbours than the rest.")
    rows = [(int(found.rows[place]), distance) for place, distance in found.lonely]
    lines = [[_picture(report, r), _where(report, r), f"{1 - d:.3f}"] for r, d in rows]
    return (
        head
        + table(["", "window", "#mean cosine to its 5 nearest"], lines)
        + note(
            "Less alike their nearest other moments than mean minus 3 standard deviations: titles, "
            "black frames, faults, or something rare."
        )
    )


def _alike(report: ModelReport, found: Whole) -> str:
    """The most alike windows of different videos."""
    if not found.alike:
        return ""
    n, there, looked = found.duplicates, len(report.collection), len(found.rows)
    verdict = f"{count(n, 'row') if n else 'no row'} {'has' if n < 2 else 'have'} a near-duplicate"
    if looked < there:
        verdict += f", of {looked:,} that were compared, evenly chosen of {there:,}"
    pairs = [(int(found.rows[a]), int(found.rows[b]), cosine) for a, b, cosine in found.alike]
    lines = [
        [_picture(report, a), _where(report, a), _picture(report, b), _where(report, b), f"{c:.4f}"]
        for a, b, c in pairs
    ]
    return (
        "<h4>Most alike windows of different videos</h4>"
        + note(f"Above a cosine of {ALIKE}, {verdict}. The best pair of each two videos:")
        + table(["", "window", "", "window", "#cosine"], lines)
    )
