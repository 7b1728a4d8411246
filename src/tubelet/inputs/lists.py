"""List files: .txt (a path a line), .csv (columns path, id, start, end), .jsonl (the same keys).

Relative paths are relative to the list. A .csv whose first line names no column has the path in
its first column, then id, start, end. Ranges are [start, end) seconds.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.inputs.types import SYNTHETIC, Input, is_url, stem_of
from tubelet.store.remote.objects import object_scheme

COLUMNS = ("path", "id", "start", "end")


def read_list(path: Path) -> Iterator[Input]:
    """The inputs of a list. UsageError, with the line, for what cannot be right."""
    try:
        text = path.read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot read this list: {error.strerror}") from error
    kind = path.suffix.lower()
    if kind == ".csv":
        rows = _csv_rows(path, text)
    elif kind == ".jsonl":
        rows = _jsonl_rows(path, text)
    else:
        rows = _text_rows(text)
    empty = True
    for number, row in rows:
        empty = False
        yield _listed(path, number, row)
    if empty:
        raise UsageError(f"{path}: the list is empty")


def _text_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, {"path": line}


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text))
    names: list[str] | None = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if names is None:
                first = [cell.lower() for cell in cells]
                if "path" in first:
                    names = first
                    continue
                if set(first) & set(COLUMNS):
                    raise UsageError(
                        f"{path}:{reader.line_num}: a header without `path`; it may have "
                        f"{', '.join(COLUMNS)}"
                    )
                names = list(COLUMNS)
            yield reader.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f'{path}:{number}: need an object such as {{"path": "a.mp4"}}')
        yield number, row


def _listed(path: Path, number: int, row: Mapping[str, Any]) -> Input:
    where = f"{path}:{number}"
    video = row.get("path")
    if not isinstance(video, str) or not video:
        raise UsageError(f"{where}: no path; need a column or key `path`")
    start, end = (_seconds(where, name, row.get(name)) for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise UsageError(f"{where}: start {start}, end {end}: need 0 <= start < end, in seconds")
    remote = is_url(video) or bool(object_scheme(video)) or video.startswith(SYNTHETIC)
    target = video if remote or os.path.isabs(video) else str(path.parent / video)
    identity = row.get("id")
    if identity is None or identity == "":
        identity = _default_id(video, target, remote=remote)
    elif isinstance(identity, bool) or not isinstance(identity, (str, int)):
        raise UsageError(f"{where}: id is {identity!r}; it must be text")
    return Input(str(identity), target, start, end)


def _default_id(video: str, target: str, *, remote: bool) -> str:
    if remote:
        return remote_id(video)
    return Path(target).name if os.path.isdir(target) else stem_of(video)


def remote_id(name: str) -> str:
    """The stem of a URL's path; the description of a synthetic video."""
    if name.startswith(SYNTHETIC):
        return name.removeprefix(SYNTHETIC).replace("/", "_") or "synthetic"
    path = name.split("?")[0].split("#")[0].split("://", 1)[-1]
    _, slash, tail = path.rstrip("/").partition("/")
    return stem_of(tail) if slash and tail else "video"


def _seconds(where: str, name: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise UsageError(f"{where}: {name} is {value!r}; it must be seconds, 0 or more")
    return seconds
