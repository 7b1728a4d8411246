"""What the user names -> videos with ids. Paths only; nothing is opened but list files.

`<id>` is relative to the argument it came from: a file gives its stem, a folder or glob the path
below its fixed part, a list its `id` column or the stem, a frame folder its full name. Only the
last extension goes. Two inputs with one id are refused before any work starts.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2v",
        ".ts",
        ".m2ts",
        ".mts",
        ".flv",
        ".wmv",
        ".asf",
        ".3gp",
        ".3g2",
        ".ogv",
        ".vob",
        ".mxf",
        ".gif",
        ".y4m",
        ".f4v",
        ".divx",
    }
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
LIST_SUFFIXES = frozenset({".txt", ".csv", ".jsonl"})
URL_SCHEMES = ("http://", "https://")
SYNTHETIC = "synthetic:"


@dataclass(frozen=True)
class Input:
    """One video, or the part of it in [start_s, end_s) seconds."""

    id: str
    path: str
    start_s: float | None = None
    end_s: float | None = None


def collect(arguments: Iterable[str]) -> list[Input]:
    """Every input of the command line, in order. UsageError for what cannot be right.

    A path that does not exist is kept: it becomes a failure of that input, unless it is the only
    kind of argument that could have given inputs at all (an empty folder, a glob without a match).
    """
    found: list[Input] = []
    for argument in arguments:
        found.extend(expand(argument))
    seen: dict[str, str] = {}
    for item in found:
        label = item.path
        if item.id in seen:
            raise UsageError(
                f"two inputs have the id {item.id!r}: {seen[item.id]} and {label}; "
                "extract them into different folders or give ids in a list"
            )
        seen[item.id] = label
    return found


def expand(argument: str) -> Iterator[Input]:
    """The inputs of one argument."""
    path = Path(argument)
    if argument.startswith((*URL_SCHEMES, SYNTHETIC)):
        yield Input(url_stem(argument), argument)
    elif path.is_dir():
        yield from _folder(path)
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from read_list(path)
    elif not path.exists() and glob.has_magic(argument):
        yield from _glob(argument)
    else:
        yield Input(path.stem if path.suffix else path.name, argument)


def url_stem(url: str) -> str:
    """The id of a URL: the last part of its path without query and extension."""
    tail = url.split("?")[0].split("#")[0].rstrip("/").rsplit("/", 1)[-1].split(":")[-1]
    return tail.rsplit(".", 1)[0] if "." in tail[1:] else tail or "video"


def is_frame_folder(path: Path) -> bool:
    """A folder that holds images and no video and no folder."""
    images = 0
    with os.scandir(path) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in VIDEO_SUFFIXES or entry.is_dir():
                return False
            images += suffix in IMAGE_SUFFIXES
    return images > 0


def _walk(root: Path) -> Iterator[Path]:
    """Videos and frame folders below root, sorted, each real folder entered once."""
    entered: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in entered:
            names.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        names[:] = sorted(n for n in names if not n.startswith("."))
        for name in list(names):
            child = Path(folder, name)
            if is_frame_folder(child):
                names.remove(name)
                yield child
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield Path(folder, name)


def _identity(path: Path, root: Path) -> str:
    below = path.relative_to(root)
    return (below if path.is_dir() else below.with_suffix("")).as_posix()


def _folder(root: Path) -> Iterator[Input]:
    if is_frame_folder(root):
        yield Input(root.resolve().name, str(root))
        return
    any_found = False
    for path in _walk(root):
        any_found = True
        yield Input(_identity(path, root), str(path))
    if not any_found:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"{root}: no videos in this folder (looked for {kinds})")


def _glob(pattern: str) -> Iterator[Input]:
    """Ids are the paths below the pattern's fixed part."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed) if fixed else Path()
    matches = sorted(glob.glob(pattern, recursive=True))
    files = [m for m in matches if not os.path.isdir(m) or is_frame_folder(Path(m))]
    if not files:
        raise UsageError(f"{pattern}: no file matches")
    for match in files:
        yield Input(_identity(Path(match), root), match)


def read_list(path: Path) -> Iterator[Input]:
    """A .txt (a path a line), .csv (columns path, id, start, end) or .jsonl list.

    Relative paths are relative to the list. A .csv without a header of those names has the path in
    its first column, then id, start, end.
    """
    try:
        text = path.read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot read this list: {error.strerror}") from error
    rows: Iterator[tuple[int, Mapping[str, Any]]]
    if path.suffix.lower() == ".csv":
        rows = _csv_rows(text)
    elif path.suffix.lower() == ".jsonl":
        rows = _jsonl_rows(path, text)
    else:
        lines = enumerate(text.splitlines(), 1)
        rows = ((n, {"path": s.strip()}) for n, s in lines if s.strip() and s.strip()[0] != "#")
    empty = True
    for number, row in rows:
        empty = False
        yield _listed(path, number, row)
    if empty:
        raise UsageError(f"{path}: the list is empty")


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = text.splitlines()
    if not lines:
        return
    first = [name.strip().lower() for name in next(csv.reader(lines[:1]))]
    named = "path" in first
    names = first if named else ["path", "id", "start", "end"]
    for number, cells in enumerate(csv.reader(lines), 1):
        if cells and not (named and number == 1):
            yield number, dict(zip(names, (c.strip() for c in cells), strict=False))


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f'{path}:{number}: need an object such as {{"path": "a.mp4"}}')
        yield number, row


def _listed(path: Path, number: int, row: Mapping[str, Any]) -> Input:
    where = f"{path}:{number}"
    video = row.get("path")
    if not isinstance(video, str) or not video:
        raise UsageError(f"{where}: no path; need a column or key `path`")
    times: list[float | None] = []
    for name in ("start", "end"):
        value = row.get(name)
        try:
            times.append(None if value in (None, "") else float(value))  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError):
            raise UsageError(f"{where}: {name} is {value!r}; it must be seconds") from None
    start, end = times
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UsageError(f"{where}: start {start}, end {end}: need 0 <= start < end, in seconds")
    remote = video.startswith((*URL_SCHEMES, SYNTHETIC))
    target = video if remote or os.path.isabs(video) else str(path.parent / video)
    identity = str(row.get("id") or "")
    if not identity:
        folder = not remote and os.path.isdir(target)
        stem = url_stem(video) if remote else Path(video).stem
        identity = Path(target).name if folder else stem
    return Input(identity, target, start, end)


def source_size(path: str) -> int | None:
    """Bytes of a file; of a frame folder the sum over its files; None for what is not on disk."""
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    try:
        return os.stat(path).st_size
    except OSError:
        return None
