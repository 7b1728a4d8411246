"""The recipe, the cards of videos, and the list of all of them."""

from __future__ import annotations

from html import escape

from tubelet.report.charts import TimelineChart, matrix
from tubelet.report.html import figure, note
from tubelet.report.model import ModelReport
from tubelet.report.pixels import Sheet
from tubelet.report.stored import Classes, Detail, VideoLine
from tubelet.report.words import clock, count, sentences, span
from tubelet.rows.similarity import cells

RUNS = 8


def recipe(report: ModelReport) -> str:
    """The recipe in words, and its hash."""
    record = report.collection.folder.record
    items = sentences(record["recipe"], record.get("run") or {})
    items.append(("Recipe", f"{record['hash']}: rows with this hash are comparable"))
    return (
        '<dl class="recipe">'
        + "".join(f"<dt>{escape(topic)}</dt><dd>{escape(text)}</dd>" for topic, text in items)
        + "</dl>"
    )


def details(report: ModelReport) -> str:
    """A card per video that is shown in full."""
    if not report.details:
        return note("No video has rows.", "missing")
    return "".join(card(detail) for detail in report.details)


def card(detail: Detail) -> str:
    """What is known of one video."""
    record = detail.record
    facts = [
        clock(record.get("duration_s")),
        count(len(detail.center_s), "row"),
        f"{float(record['fps']):.4g} frames/s" if record.get("fps") else "",
        "{} × {}".format(*record["frame_size"]) if record.get("frame_size") else "",
        str(record.get("codec") or ""),
    ]
    spans = "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact)
    warned = "".join(
        f'<p class="{kind}">{escape("; ".join(record[key]))}</p>'
        for key, kind in (("warnings", "warnings"), ("notes", "missing"))
        if record.get(key)
    )
    head = f'<article class="card"><header><h3>{escape(detail.id)}</h3>{spans}</header>{warned}'
    if not len(detail.center_s):
        return f"{head}</article>"
    return (
        f'{head}<div class="pair"><figure>{TimelineChart(detail).svg()}{_runs(detail)}</figure>'
        f"{_matrix(detail)}</div>{_sheets(detail)}</article>"
    )


def _runs(detail: Detail) -> str:
    """The best class over time, in words."""
    classes: Classes | None = detail.classes
    if classes is None:
        return ""
    edges = cells(detail.start_s, detail.end_s, detail.center_s)
    longest = sorted(classes.runs, key=lambda run: run[0] - run[1])[:RUNS]
    items = [
        f"<li><i>{span(edges[a], edges[b + 1])}</i> {escape(name)} <i>{score:.2f}</i></li>"
        for a, b, name, score in sorted(longest)
    ]
    rest = len(classes.runs) - len(items)
    if rest:
        items.append(f"<li><i>and {count(rest, 'shorter stretch').replace('hs', 'hes')}</i></li>")
    return f'<ul class="runs">{"".join(items)}</ul>'


def _matrix(detail: Detail) -> str:
    uri, low, high = matrix(detail)
    n = len(detail.center_s)
    cells = len(detail.similarity)
    what = f"{n} × {n} rows" if cells == n else f"{n} rows in {cells} × {cells} cells"
    if detail.step > 1:
        what += f" of every {detail.step} rows"
    words = f"Self-similarity of {detail.id}: {what}"
    body = (
        f'<img class="matrix" src="{uri}" alt="{escape(words)}"><div class="scale"></div>'
        f'<div class="ends"><span>{low:.2f}</span><span>cosine</span><span>{high:.2f}</span></div>'
    )
    return figure(body, f"{what}, time from the top left", title="Self-similarity")


def _sheets(detail: Detail) -> str:
    """What the model saw, or why that cannot be shown."""
    why = f"What the model saw cannot be shown: {detail.unseen}."
    missing = note(why, "missing") if detail.unseen else ""
    figures = "".join(_sheet(detail, sheet) for sheet in detail.sheets)
    return f'<div class="sheets">{figures}{missing}</div>' if figures or missing else ""


def _sheet(detail: Detail, sheet: Sheet) -> str:
    record, i = detail.record, sheet.row
    frames = record.get("first_last_frame")
    padded = (record.get("padded") or [0] * (i + 1))[i]
    width, height = sheet.size
    parts = [
        f"row {i}, {detail.start_s[i]:.2f} to {detail.end_s[i]:.2f} s",
        f"frames {frames[i][0]} to {frames[i][1]}" if frames else "",
        f"{len(sheet.shown)} of the window's {sheet.window} shown"
        if len(sheet.shown) < sheet.window
        else f"all {sheet.window} shown",
        f"the last {padded} are filled up" if padded else "",
        ("lines: " if len(sheet.lines) > 1 else "") + ", ".join(sheet.lines),
    ]
    words = "; ".join(filter(None, parts))
    alt = escape(f"What the model saw of {detail.id}: {words}")
    return figure(f'<img src="{sheet.data}" width="{width}" height="{height}" alt="{alt}">', words)


def videos(report: ModelReport, k: int) -> str:
    """Every video and every failure, as a table."""
    failed = [
        VideoLine(
            f["id"],
            None,
            0,
            None,
            None,
            (),
            f"{f.get('stage', '')}: {f.get('message', f.get('type', ''))}",
        )
        for f in report.failures
    ]
    lines = [*report.lines, *failed]
    if not lines:
        return note("There are no videos here.", "missing")
    heads = [
        ("video", ""),
        ("duration", "n"),
        ("rows", "n"),
        ("size", ""),
        ("frames/s", "n"),
        ("", ""),
    ]
    head = "".join(
        f'<th class="{kind}"><button type="button">{name or "remarks"}</button></th>'
        for name, kind in heads
    )
    body = "".join(_line(line) for line in lines)
    search = (
        f'<input type="search" hidden data-of="t{k}" aria-label="Filter videos" '
        'placeholder="filter by name or remark">'
        if len(lines) > 12
        else ""
    )
    return (
        f'{search}<table class="sortable" id="t{k}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _line(line: VideoLine) -> str:
    size = f"{line.size[0]} × {line.size[1]}" if line.size else ""
    fps = f"{line.fps:.5g}" if line.fps else ""
    kind, remark = ("b", line.problem) if line.problem else ("w", "; ".join(line.warnings))
    return (
        f'<tr><td class="id">{escape(line.id)}</td>'
        f'<td class="n" data-v="{line.duration_s or -1}">'
        f"{clock(line.duration_s) if line.duration_s is not None else ''}</td>"
        f'<td class="n">{line.rows}</td><td>{size}</td>'
        f'<td class="n" data-v="{line.fps or -1}">{fps}</td>'
        f'<td class="{kind}">{escape(remark)}</td></tr>'
    )
