"""Bars as SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#9ca3af", "#2563eb", "#059669", "#d97706", "#7c3aed", "#dc2626")
FONT = "font-family='sans-serif' font-size='11' fill='#111'"


def bars_svg(
    groups: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    unit: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Horizontal bars: one group per name, one bar per kind; `marks` are lines at a value."""
    kinds = list(dict.fromkeys(kind for bars in groups.values() for kind in bars))
    values = [v for bars in groups.values() for v in bars.values()]
    most = max([*values, *(value for value, _ in marks)]) * 1.12
    left, width, bar = 150, 520, 14
    rows = sum(len(bars) for bars in groups.values())
    height = 60 + rows * bar + len(groups) * 10
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + width + 70}' height='{height}'>",
        "<rect width='100%' height='100%' fill='white'/>",
        f"<text x='8' y='18' {FONT} font-weight='bold'>{escape(title)}</text>",
    ]
    for i, kind in enumerate(kinds):
        x, colour = left + i * 130, COLOURS[i % len(COLOURS)]
        parts.append(
            f"<rect x='{x}' y='26' width='10' height='10' fill='{colour}'/>"
            f"<text x='{x + 14}' y='35' {FONT}>{escape(kind)}</text>"
        )
    y = 46
    for name, bars in groups.items():
        middle = y + len(bars) * bar / 2 + 4
        parts.append(f"<text x='8' y='{middle:.0f}' {FONT}>{escape(name)}</text>")
        for kind, value in bars.items():
            colour, long = COLOURS[kinds.index(kind) % len(COLOURS)], value / most * width
            parts.append(
                f"<rect x='{left}' y='{y}' width='{long:.1f}' height='{bar - 3}' fill='{colour}'/>"
                f"<text x='{left + long + 4:.1f}' y='{y + 9}' {FONT}>{value:.3g}"
                f"{escape(unit)}</text>"
            )
            y += bar
        y += 10
    for value, label in marks:
        x = left + value / most * width
        parts.append(
            f"<line x1='{x:.1f}' y1='42' x2='{x:.1f}' y2='{y}' stroke='#111' "
            f"stroke-dasharray='3 3'/>"
            f"<text x='{x + 3:.1f}' y='{y + 8}' {FONT}>{escape(label)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
