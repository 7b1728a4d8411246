"""Drawings as SVG in the page's colours. Numbers in, text out; nothing here reads files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from tubelet.report.pixels import colours, png_uri
from tubelet.report.stored import Detail
from tubelet.report.words import clock, span
from tubelet.rows.similarity import cells

WIDTH, GUTTER, RIGHT = 760, 150, 10
STRIP, GAP, CURVE, AXIS = 17, 4, 50, 24
COLUMNS = 400
"""Most columns of a timeline; more rows than that share one."""
HUES = 10
"""Colours of the style sheet: --h0 ... --h9; --other for the rest."""

Floats = NDArray[np.floating]


def ticks(length: float, most: int = 8) -> list[float]:
    """Round times from 0 to length."""
    for step in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000):
        if length / step <= most:
            break
    return [step * i for i in range(int(length / step) + 1)]


def _tick(t: float) -> str:
    return f"{t:g} s" if t < 60 else clock(t)


class TimelineChart:
    """Lanes over one time axis: class strips, novelty, norms; a tooltip per row."""

    def __init__(self, detail: Detail) -> None:
        self.detail = detail
        n = len(detail.center_s)
        self.edges = cells(detail.start_s, detail.end_s, detail.center_s)
        self.begin, self.stop = (
            float(self.edges[0]),
            float(max(self.edges[-1], self.edges[0] + 1e-3)),
        )
        columns = min(n, COLUMNS)
        self.cuts = np.linspace(0, n, columns + 1).round().astype(int)
        self.parts: list[str] = []
        self.y = 4.0

    def x(self, t: float) -> float:
        share = (t - self.begin) / (self.stop - self.begin)
        return round(GUTTER + share * (WIDTH - GUTTER - RIGHT), 1)

    def spans(self) -> list[tuple[int, int, float, float]]:
        """(first row, past the last row, x, width) of every column."""
        found = []
        for a, b in zip(self.cuts[:-1].tolist(), self.cuts[1:].tolist(), strict=True):
            left, right = self.x(float(self.edges[a])), self.x(float(self.edges[b]))
            found.append((a, b, left, max(round(right - left, 1), 0.1)))
        return found

    def label(self, text: str, y: float, *, kind: str = "label") -> None:
        short = text if len(text) <= 22 else text[:21] + "…"
        self.parts.append(
            f'<text class="{kind}" x="{GUTTER - 8}" y="{y:.1f}" text-anchor="end">'
            f"{escape(short)}<title>{escape(text)}</title></text>"
        )

    def strips(self) -> None:
        """A line per class; the stronger the colour, the higher the score."""
        classes = self.detail.classes
        if classes is None:
            return
        for k, (name, scores) in enumerate(zip(classes.names, classes.scores, strict=True)):
            self.label(name, self.y + 12.5)
            self.parts.append(
                f'<rect class="lane" x="{GUTTER}" y="{self.y}" height="{STRIP}" '
                f'width="{WIDTH - GUTTER - RIGHT}"/>'
            )
            for a, b, x, width in self.spans():
                score = float(scores[a:b].mean())
                if score >= 0.02:
                    self.parts.append(
                        f'<rect class="h{k}" x="{x}" y="{self.y}" width="{width + 0.4:.1f}" '
                        f'height="{STRIP}" opacity="{min(1.0, score) ** 0.6:.2f}"/>'
                    )
            self.y += STRIP + GAP
        self.y += 6

    def curve(self, values: Floats, name: str, kind: str, *, bottom: float, peaks: bool) -> None:
        """A line over the columns; peaks keeps the largest value of a column, else the mean."""
        top = float(values.max()) if len(values) else 1.0
        room = max(top - bottom, 1e-9)
        heights, middles = [], []
        for a, b, x, width in self.spans():
            value = float(values[a:b].max() if peaks else values[a:b].mean())
            heights.append(self.y + CURVE - CURVE * (value - bottom) / room)
            middles.append(x + width / 2)
        middles = [float(GUTTER), *middles, float(WIDTH - RIGHT)]
        heights = [heights[0], *heights, heights[-1]]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(middles, heights, strict=True))
        right, base = WIDTH - RIGHT, self.y + CURVE
        self.parts.append(
            f'<line class="base" x1="{GUTTER}" x2="{right}" y1="{base}" y2="{base}"/>'
        )
        self.parts.append(
            f'<polygon class="{kind} fill" points="{GUTTER},{base} {points} {right},{base}"/>'
            f'<polyline class="{kind}" points="{points}"/>'
        )
        self.label(name, self.y + 14)
        self.label(f"{bottom:.3g} to {top:.3g}", self.y + 30, kind="faint")
        self.y += CURVE + 14

    def axis(self) -> None:
        for t in ticks(self.stop):
            if self.begin - 1e-6 <= t <= self.stop + 1e-6:
                x = self.x(t)
                self.parts.append(
                    f'<line class="tick" x1="{x}" x2="{x}" y1="{self.y - 6}" y2="{self.y - 1}"/>'
                    f'<text class="faint" x="{x}" y="{self.y + 12}" text-anchor="middle">'
                    f"{_tick(t)}</text>"
                )
        self.y += AXIS

    def bounds(self, height: float) -> None:
        for i in self.detail.bounds:
            x = self.x(float(self.edges[i]))
            self.parts.append(f'<line class="bound" x1="{x}" x2="{x}" y1="2" y2="{height:.1f}"/>')

    def tooltips(self, height: float) -> None:
        d = self.detail
        for a, b, x, width in self.spans():
            rows = f"row {a}" if b - a == 1 else f"rows {a} to {b - 1}"
            text = f"{rows}, {span(d.start_s[a], d.end_s[b - 1])}"
            if d.classes is not None:
                means = d.classes.scores[:, a:b].mean(axis=1)
                best = int(means.argmax())
                text += f"\n{d.classes.names[best]} {means[best]:.2f}"
            text += (
                f"\nnorm {float(d.norms[a:b].mean()):.3g}, novelty {float(d.curve[a:b].max()):.3f}"
            )
            self.parts.append(
                f'<rect class="touch" x="{x}" y="0" width="{width}" height="{height:.1f}">'
                f"<title>{escape(text)}</title></rect>"
            )

    def svg(self) -> str:
        d = self.detail
        self.strips()
        self.curve(d.curve, "novelty", "novelty", bottom=0.0, peaks=True)
        low = float(d.norms.min())
        high = float(d.norms.max())
        self.curve(
            d.norms, "row norm", "norm", bottom=max(0.0, low - (high - low) / 2), peaks=False
        )
        lanes = self.y - 10
        self.axis()
        self.bounds(lanes)
        self.tooltips(lanes)
        words = f"Timeline of {d.id}: {len(d.center_s)} rows, {len(d.bounds)} likely boundaries"
        return svg(WIDTH, self.y, self.parts, words)


def svg(width: float, height: float, parts: Sequence[str], words: str, kind: str = "chart") -> str:
    """A drawing with its description for those who cannot see it."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )


def matrix(detail: Detail) -> tuple[str, float, float]:
    """(data URI of the self-similarity matrix, cosine of the darkest, of the lightest colour)."""
    values = detail.similarity
    low = float(np.quantile(values, 0.02)) if values.size else 0.0
    high = float(values.max()) if values.size else 1.0
    return png_uri(colours(values, low, high)), low, high


def scatter(
    coordinates: Floats,
    labels: Sequence[Sequence[str]],
    titles: Sequence[str],
    words: str,
    *,
    lonely: Sequence[int] = (),
) -> str:
    """Points with several ways to be coloured: labels[i] are the classes of point i."""
    width, height, edge = 560, 400, 14
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    # One scale for both axes, so that distances on the map mean the same in every direction.
    scale = min(
        (width - 2 * edge) / max(float(high[0] - low[0]), 1e-9),
        (height - 2 * edge) / max(float(high[1] - low[1]), 1e-9),
    )
    middle = (low + high) / 2
    places = (coordinates - middle) * scale * (1, -1) + (width / 2, height / 2)
    radius = 4.5 if len(places) < 300 else 3 if len(places) < 1200 else 2.2
    parts = [
        f'<rect class="plot" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>'
    ]
    for (x, y), kinds, title in zip(places, labels, titles, strict=True):
        parts.append(
            f'<circle class="{" ".join(kinds)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
            f"<title>{escape(title)}</title></circle>"
        )
    parts += [
        f'<circle class="ring" cx="{places[i][0]:.1f}" cy="{places[i][1]:.1f}" r="{radius + 4}"/>'
        for i in lonely
    ]
    return svg(width, height, parts, words, "map")


def histogram(values: Floats, words: str, *, bins: int = 40) -> str:
    """How often which value; the axis starts at the smallest one."""
    width, height, base = 560, 150, 122
    counts, edges = np.histogram(values, bins=bins if float(np.ptp(values)) > 0 else 1)
    parts = [f'<line class="base" x1="0" x2="{width}" y1="{base}" y2="{base}"/>']
    bar = width / len(counts)
    for k, n in enumerate(counts.tolist()):
        if n:
            tall = max(1.5, (base - 12) * n / int(counts.max()))
            parts.append(
                f'<rect class="bar" x="{k * bar + 0.5:.1f}" y="{base - tall:.1f}" '
                f'width="{max(bar - 1, 0.5):.1f}" height="{tall:.1f}"><title>{n} rows of norm '
                f"{edges[k]:.3g} to {edges[k + 1]:.3g}</title></rect>"
            )
    shown = [edges[0], edges[len(edges) // 2], edges[-1]]
    for x, value, anchor in zip(
        (0, width / 2, width), shown, ("start", "middle", "end"), strict=True
    ):
        parts.append(
            f'<text class="faint" x="{x}" y="{base + 18}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    return svg(width, height, parts, words)
