"""One HTML file: head, style, sections, and a policy that forbids every request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from tubelet import __version__
from tubelet.report.model import Choices, ModelReport
from tubelet.report.pixels import VIRIDIS
from tubelet.report.sections import details, recipe, videos
from tubelet.report.style import script, style
from tubelet.report.whole import whole
from tubelet.report.words import clock, count


def page(out: Path, reports: Sequence[ModelReport], choices: Choices) -> str:
    """The whole page as text."""
    title = f"{out.resolve().name}: features"
    code, digest = script()
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            "style-src 'unsafe-inline'",
            f"script-src '{digest}'",
        )
    )
    body = "".join(model(report, choices, k) for k, report in enumerate(reports))
    several = len(reports) > 1
    links = "".join(f'<a href="#m{k}">{escape(r.name)}</a>' for k, r in enumerate(reports))
    if not several:
        links = (
            '<a href="#m0-set">The set</a><a href="#m0-shown">Videos in full</a>'
            '<a href="#m0-list">All videos</a>'
        )
    colours = ",".join(f"rgb({','.join(map(str, c))})" for c in VIRIDIS.astype(int).tolist())
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style(colours)}</style></head><body>"
        f'<header class="top"><h1>{escape(str(out))}</h1>'
        f'<p class="note">Features of {escape(", ".join(r.name for r in reports))}; '
        "what the network saw, and what its rows say.</p>"
        f"{tiles(reports)}<nav>{links}</nav></header><main>{body}</main>"
        f"<footer>tubelet {__version__}, {made}. One file; it makes no request."
        f"</footer><script>{code}</script></body></html>"
    )


def tiles(reports: Sequence[ModelReport]) -> str:
    """The run in numbers. Videos and hours are those of the first model."""
    first = reports[0]
    seconds = sum(line.duration_s or 0 for line in first.lines)
    warned = sum(bool(line.warnings) for line in first.lines)
    failed = len({f["id"] for r in reports for f in r.failures})
    failed += sum(line.problem is not None for line in first.lines)
    facts = [
        (f"{len(first.lines):,}", "videos", ""),
        (clock(seconds), "of video", ""),
        (f"{sum(len(r.collection) for r in reports):,}", "rows", ""),
        (" + ".join(str(r.collection.width) for r in reports), "numbers per row", ""),
        (str(warned), "with warnings", "warn" if warned else ""),
        (str(failed), "failed", "bad" if failed else ""),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile {k}"><b>{n}</b><span>{w}</span></div>' for n, w, k in facts)
        + "</div>"
    )


def model(report: ModelReport, choices: Choices, k: int) -> str:
    """Everything about one model."""
    shown, there = len(report.details), sum(line.rows > 0 for line in report.lines)
    which = "all of them" if shown == there else f"{shown} of {there:,}, "
    if shown < there:
        which += "as chosen" if choices.chosen else "evenly over the ids"
    return (
        f'<section id="m{k}"><h2>How the rows were made</h2>{recipe(report)}</section>'
        f'<section id="m{k}-set"><h2>The set</h2>{whole(report, k)}</section>'
        f'<section id="m{k}-shown"><h2>Videos in full</h2>'
        f'<p class="note">{count(shown, "video")}: {which}. {_legend(report, choices)}</p>'
        f"{details(report)}</section>"
        f'<section id="m{k}-list"><h2>All videos</h2>{videos(report, k)}</section>'
    )


def _legend(report: ModelReport, choices: Choices) -> str:
    """How a card is read."""
    scores = (
        f"Class scores: {report.scores.how}."
        if report.scores
        else f"No class scores: {report.no_scores}."
    )
    return (
        f"{escape(scores)} Novelty is the mean cosine within the 4 rows before and after a place, "
        "minus that across it; dashed lines are its peaks, likely boundaries. Contact sheets are "
        "the frames as they enter the network, decoded again by this recipe, taken back from "
        f"normalised numbers to pixels and made smaller; from the first {choices.until_s:g} s of a "
        "video."
    )
