"""One style for all drawings: boxes, arrows and words on a card that follows light and dark.

Colours tell what a box does; they are the same everywhere:

    data    grey     a map, tokens, a video
    learn   blue     a convolution or a linear layer
    pool    green    a pool or a mean
    mix     purple   a product between positions: attention
    join    orange   a sum or a concatenation

A drawing is WIDTH wide, about the width of a README, and no letter is smaller than SMALL there.
Words are measured with the widths of a wide font; a box that is too narrow for its words is an
error, so that no drawing is clipped with another font.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

WIDTH = 840
SIZE, SMALL = 14, 12.5
LINE = 18  # from one line of words to the next

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
LIGHT = {
    "paper": "#ffffff", "frame": "#d1d9e0", "ink": "#1f2328", "faint": "#59636e",
    "data": ("#f6f8fa", "#818b98"), "learn": ("#ddf4ff", "#0969da"), "pool": ("#dafbe1", "#1a7f37"),
    "mix": ("#fbefff", "#8250df"), "join": ("#fff1e5", "#bc4c00"),
}  # fmt: skip
DARK = {
    "paper": "#0d1117", "frame": "#3d444d", "ink": "#f0f6fc", "faint": "#9198a1",
    "data": ("#21262d", "#9198a1"), "learn": ("#0c2d6b", "#58a6ff"), "pool": ("#0b3a1c", "#3fb950"),
    "mix": ("#371b63", "#bc8cff"), "join": ("#4a2206", "#f0883e"),
}  # fmt: skip
KINDS = ("data", "learn", "pool", "mix", "join")

NARROW, MIDDLE, BROAD = set("ijl.,:;'|!()[]/ ·"), set('frt-{}"'), set("mwMW@%→←×Σ⊕")


def width_of(words: str, size: float = SIZE, *, bold: bool = False) -> float:
    """At most as wide as this, in common fonts."""
    em = 0.0
    for letter in words:
        if letter in NARROW:
            em += 0.36
        elif letter in MIDDLE:
            em += 0.42
        elif letter in BROAD:
            em += 0.92
        else:
            em += 0.70 if letter.isupper() else 0.62
    return em * size * (1.1 if bold else 1)


def times(numbers: Iterable[int]) -> str:
    """(8, 56, 56) as 8×56×56"""
    return "×".join(str(n) for n in numbers)


def _style() -> str:
    def rules(colours: dict) -> str:  # type: ignore[type-arg]
        lines = [
            f".paper{{fill:{colours['paper']};stroke:{colours['frame']}}}",
            f"text{{fill:{colours['ink']}}}.faint{{fill:{colours['faint']}}}",
            f".edge{{fill:none;stroke:{colours['ink']}}}.tip{{fill:{colours['ink']}}}",
            f".thin{{fill:none;stroke:{colours['faint']}}}",
            f".grid{{fill:none;stroke:{colours['frame']}}}",
        ]
        for kind in KINDS:
            fill, stroke = colours[kind]
            lines += [
                f".{kind}{{fill:{fill};stroke:{stroke}}}.{kind}-ink{{fill:{stroke}}}",
                f".{kind}-dot{{fill:{stroke};stroke:{colours['paper']}}}",
            ]
        return "".join(lines)

    dark = f"@media(prefers-color-scheme:dark){{{rules(DARK)}}}"
    return f"text{{font-family:{FONT}}}{rules(LIGHT)}{dark}"


class Canvas:
    """Marks are drawn in the order of the calls. Coordinates are pixels from the top left."""

    def __init__(self, height: float, *, title: str, about: str) -> None:
        self.height, self.title, self.about = height, title, about
        self.marks: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        *,
        words: Sequence[str] = (),
        kind: str = "data",
    ) -> None:
        """A rounded box with lines of words in its middle; the first one is bold."""
        self._inside(x, y, w, h)
        self.marks.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" '
            'stroke-width="1.5"/>'
        )
        first = y + h / 2 - (len(words) - 1) * LINE / 2 + 5
        assert len(words) * LINE <= h + 4, f"{words} are higher than {h}"
        for i, line in enumerate(words):
            assert width_of(line, SMALL if i else SIZE, bold=not i) <= w - 2, (
                f"{line!r} is wider than {w}"
            )
            self.text(x + w / 2, first + i * LINE, line, anchor="middle", bold=not i, small=i > 0)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        kind: str = "",
        bold: bool = False,
        small: bool = False,
    ) -> None:
        """y is the base line. kind: "faint", or a box's for words in its colour."""
        size = SMALL if small else SIZE
        wide = width_of(words, size, bold=bold)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[anchor]
        self._inside(left, y - size, wide, size)
        style = f"{kind}-ink" if kind in KINDS else kind
        mark = f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"'
        mark += f' text-anchor="{anchor}"' if anchor != "start" else ""
        mark += f' class="{style}"' if style else ""
        mark += ' font-weight="600"' if bold else ""
        self.marks.append(f"{mark}>{escape(words)}</text>")

    def heading(self, words: str, *, x: float = 20, y: float = 30) -> None:
        self.text(x, y, words, bold=True)

    def rect(self, x: float, y: float, w: float, h: float, *, kind: str) -> None:
        """A plain rectangle."""
        self._inside(x, y, w, h)
        self.marks.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"/>'
        )

    def dot(self, x: float, y: float, r: float, *, kind: str) -> None:
        self.marks.append(
            f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{r:g}" stroke-width="1.5"/>'
        )

    def point(self, x: float, y: float, r: float, *, kind: str, hollow: bool) -> None:
        """A mark of a plot; hollow: only its outline."""
        style = kind if hollow else f"{kind}-dot"
        self.marks.append(
            f'<circle class="{style}" cx="{x:g}" cy="{y:g}" r="{r:g}" stroke-width="1.5"/>'
        )

    def sign(self, x: float, y: float, words: str = "+") -> None:
        """A sum, a product: a small circle with a sign."""
        self.dot(x, y, 11, kind="join")
        self.text(x, y + 5, words, anchor="middle", bold=True)

    def line(self, *points: tuple[float, float], dashed: bool = False, kind: str = "edge") -> None:
        """kind: "edge", "thin", or "grid" behind a plot."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        width = 1.5 if kind == "edge" else 1
        self.marks.append(
            f'<polyline class="{kind}" points="{path}" stroke-width="{width}"{dash}/>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through the points with a tip at the last; its last piece is level or upright."""
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        assert not (dx and dy), f"{points} end aslant"
        self.line(*points[:-1], (x1 - 7 * dx, y1 - 7 * dy), dashed=dashed)
        a = (x1 - 9 * dx + 4.5 * dy, y1 - 9 * dy + 4.5 * dx)
        b = (x1 - 9 * dx - 4.5 * dy, y1 - 9 * dy - 4.5 * dx)
        path = " ".join(f"{x:g},{y:g}" for x, y in ((x1, y1), a, b))
        self.marks.append(f'<polygon class="tip" points="{path}"/>')

    def legend(self, y: float, **meanings: str) -> None:
        """A row of colours with what they stand for."""
        x = 20.0
        for kind, words in meanings.items():
            self.box(x, y - 11, 14, 14, kind=kind)
            self.text(x + 20, y, words, kind="faint", small=True)
            x += 44 + width_of(words, SMALL)

    def svg(self) -> str:
        h = f"{self.height:g}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {h}" '
                f'width="{WIDTH}" height="{h}" role="img" aria-labelledby="title about">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="about">{escape(self.about)}</desc>',
                f"<style>{_style()}</style>",
                f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" '
                f'height="{self.height - 1:g}" rx="8"/>',
                *self.marks,
                "</svg>\n",
            ]
        )

    def _inside(self, x: float, y: float, w: float, h: float) -> None:
        fits = x >= 4 and y >= 4 and x + w <= WIDTH - 4 and y + h <= self.height - 4
        assert fits, f"({x:g}, {y:g}, {w:g}, {h:g}) leaves the drawing"
