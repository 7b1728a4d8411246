"""Pictures as SVG, written by hand: a confusion matrix, lines over a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from numpy.typing import NDArray

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#4b5563", "#be185d")
FONT = "font-family='sans-serif' font-size='11' fill='#111'"


def confusion_svg(table: NDArray[Any], names: Sequence[str]) -> str:
    """Rows are true classes, columns predicted ones; darker is a larger share of the row."""
    classes = len(table)
    cell = max(2, min(32, 900 // classes))
    labelled = classes <= 60
    left = 12 + (max(len(n) for n in names) * 7 if labelled else 20)
    side = cell * classes
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + side + 12}' "
        f"height='{side + left + 30}'>",
        "<rect width='100%' height='100%' fill='white'/>",
        f"<text x='{left}' y='14' {FONT}>true class (rows) x predicted class (columns)</text>",
    ]
    for i, row in enumerate(table):
        total = max(int(row.sum()), 1)
        for j, count in enumerate(row):
            if not count:
                continue
            share = count / total
            shade = "#059669" if i == j else "#dc2626"
            x, y = left + j * cell, 22 + i * cell
            title = f"{escape(names[i])} as {escape(names[j])}: {count} of {total}"
            parts.append(
                f"<rect x='{x}' y='{y}' width='{cell}' height='{cell}' fill='{shade}' "
                f"fill-opacity='{max(share, 0.08):.3f}'><title>{title}</title></rect>"
            )
        if labelled:
            y = 22 + i * cell + cell / 2 + 4
            parts.append(f"<text x='4' y='{y:.0f}' {FONT}>{escape(names[i])}</text>")
            x, top = left + i * cell + cell / 2, side + 28
            parts.append(
                f"<text x='{x:.0f}' y='{top}' {FONT} transform='rotate(60 {x:.0f} {top})'>"
                f"{escape(names[i])}</text>"
            )
    parts.append(
        f"<rect x='{left}' y='22' width='{side}' height='{side}' fill='none' stroke='#999'/></svg>"
    )
    return "\n".join(parts) + "\n"


def lines_svg(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x: str, y: str
) -> str:
    """One line per name through its (x, y) points, with axes from 0 or below."""
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_low, y_high = min(0.0, *(p[1] for p in points)), max(p[1] for p in points)
    width, height, left, top = 560, 300, 60, 30

    def place(px: float, py: float) -> str:
        along = (px - x_low) / ((x_high - x_low) or 1)
        up = (py - y_low) / ((y_high - y_low) or 1)
        return f"{left + along * width:.1f},{top + (1 - up) * height:.1f}"

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width + left + 190}' "
        f"height='{height + top + 50}'>",
        "<rect width='100%' height='100%' fill='white'/>",
        f"<text x='{left}' y='18' {FONT} font-weight='bold'>{escape(title)}</text>",
        f"<rect x='{left}' y='{top}' width='{width}' height='{height}' fill='none' stroke='#999'/>",
        f"<text x='{left + width / 2:.0f}' y='{top + height + 36}' {FONT}>{escape(x)}</text>",
        f"<text x='12' y='{top + height / 2:.0f}' {FONT} "
        f"transform='rotate(-90 12 {top + height / 2:.0f})'>{escape(y)}</text>",
    ]
    for value in (0, 0.25, 0.5, 0.75, 1):
        px, py = x_low + (x_high - x_low) * value, y_low + (y_high - y_low) * value
        bottom, at = place(px, y_low).split(","), place(x_low, py).split(",")
        parts.append(
            f"<text x='{bottom[0]}' y='{top + height + 16}' {FONT} text-anchor='middle'>{px:.3g}"
            f"</text><text x='{left - 4}' y='{at[1]}' {FONT} text-anchor='end'>{py:.3g}</text>"
        )
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(place(*point) for point in curve)
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"
            f"<rect x='{left + width + 12}' y='{top + i * 18}' width='12' height='3' "
            f"fill='{colour}'/><text x='{left + width + 28}' y='{top + 5 + i * 18}' {FONT}>"
            f"{escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
