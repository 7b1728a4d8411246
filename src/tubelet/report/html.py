"""The few shapes that the page is made of. Bodies are HTML already; captions and names are text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def figure(body: str, caption: str, *, title: str = "") -> str:
    head = f"<h4>{escape(title)}</h4>" if title else ""
    return f"<figure>{head}{body}<figcaption>{escape(caption)}</figcaption></figure>"


def note(text: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{escape(text)}</p>'


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """heads are text, cells are HTML; a head that starts with # is a column of numbers."""
    kinds = [' class="n"' if head.startswith("#") else "" for head in heads]
    names = [head.removeprefix("#") for head in heads]
    head = "".join(f"<th{k}>{escape(n)}</th>" for k, n in zip(kinds, names, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"
        for cells in lines
    )
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
