"""List files: .txt (a path a line), .csv and .tsv (columns), .jsonl (an object a line).

    path,id,start,end              seconds, or clock times such as 1:02:03.5
    path,start_frame,stop_frame    numbers of the video's own frames, from 0, the stop left out
    path,fps                       rate of a folder of pictures

Relative paths are relative to the list. A .csv whose first line names no column has the path in
its first column, then id, start, end. Text is UTF-8, or UTF-16 with its byte order mark. Rows of
one video that have a range and no id are called `<stem>_<start>_<end>`. What a list says and
tubelet does not know is refused where it could mean a range, a rate or a name, and told once where
it could not (labels, splits).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.inputs.columns import PLAIN, Unknown, cells_as_row, header_of, range_words, to_input
from tubelet.inputs.types import VIDEO_SUFFIXES, Input, suffix_of

log = logging.getLogger("tubelet")

DELIMITERS = (",", "\t", ";")
LABELLED = re.compile(r"(?P<path>.*\S)\s+-?\d+(?:[\s,]+-?\d+)*")
"""A path, then whole numbers: the lists of TSN, PySlowFast and mmaction2 (frames, class)."""


@dataclass(frozen=True)
class Listed:
    """One line of a list: what it names, and whether it gave an id."""

    item: Input
    named: bool


def read_list(path: Path) -> list[Input]:
    """The inputs of a list. UsageError, with the line, for what cannot be right."""
    text = _text_of(path)
    unknown = Unknown(path)
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        rows = _column_rows(path, text, unknown)
    elif kind == ".jsonl":
        rows = _jsonl_rows(path, text, unknown)
    else:
        rows = _text_rows(path, text, unknown)
    listed = [to_input(path, number, row) for number, row in rows]
    if not listed:
        raise UsageError(f"{path}: the list is empty")
    for sentence in unknown.sentences():
        log.warning(sentence)
    return _with_distinct_ids([Listed(item, named) for item, named in listed])


def _with_distinct_ids(listed: Sequence[Listed]) -> list[Input]:
    """Several ranges of one video that share its stem get their range into their ids."""
    unnamed = [(line.item.id, line.item.path) for line in listed if not line.named]
    often = {key for key, count in Counter(unnamed).items() if count > 1}
    found: list[Input] = []
    for line in listed:
        item, words = line.item, range_words(line.item)
        if words and not line.named and (item.id, item.path) in often:
            item = replace(item, id=f"{item.id}_{words}")
        found.append(item)
    return found


def _text_of(path: Path) -> str:
    """The text of a list file. UsageError for what is no text file."""
    try:
        # A pipe would block for ever, or give its text only once.
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: not a plain file; write the list to one")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read this list: {error.strerror}") from error
    # The marks of UTF-32 begin with those of UTF-16.
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = "utf-32"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        if b"\0" in data[:4096]:
            raise UsageError(
                f"{path}: holds NUL characters: UTF-16 without its byte order mark, or no text "
                "file; save the list as UTF-8"
            )
        # Names of files need not be UTF-8.
        return data.decode("utf-8-sig", "surrogateescape")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: begins as {encoding.upper()} and is not: {error.reason} at byte "
            f"{error.start}; save the list as UTF-8"
        ) from error


def _text_rows(path: Path, text: str, unknown: Unknown) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        row = {"path": _without_labels(path, line, unknown)}
        _refuse_columns(path, number, row["path"])
        yield number, row


def _without_labels(path: Path, line: str, unknown: Unknown) -> str:
    """`videos/a.mp4 3` -> `videos/a.mp4`, where no file has the whole line as its name."""
    match = LABELLED.fullmatch(line)
    if match is None or _exists(path, line):
        return line
    video = match["path"]
    # A greedy match leaves all numbers but the last in the path: `video 120 3`.
    while (again := LABELLED.fullmatch(video)) and not _exists(path, video):
        video = again["path"]
    if suffix_of(video) not in VIDEO_SUFFIXES and not _exists(path, video):
        return line
    unknown.harmless("the numbers after the path (labels, frame counts)")
    return video


def _exists(path: Path, name: str) -> bool:
    try:
        return os.path.lexists(path.parent / name)
    except ValueError:
        return False


def _refuse_columns(path: Path, number: int, line: str) -> None:
    """A .txt list has paths alone; columns in it would become parts of a name that nobody has."""
    if line.startswith("{") and line.endswith("}"):
        raise UsageError(f"{path}:{number}: JSON in a .txt list; name the list .jsonl")
    for delimiter in DELIMITERS:
        first, found, _ = line.partition(delimiter)
        looks = first.strip().lower() == "path" or suffix_of(first.strip()) in VIDEO_SUFFIXES
        if found and looks and not _exists(path, line):
            raise UsageError(
                f"{path}:{number}: columns in a .txt list, which has a path a line; "
                "name the list .csv (or .tsv)"
            )


def _delimiter(path: Path, text: str) -> str:
    """What separates the columns, by the first line that is not empty."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    line = next((line for line in text.split("\n") if line.strip()), "")
    names = [d for d in DELIMITERS if "path" in _plain_cells(line, d)]
    if names:
        return names[0]
    # Without a header: a comma unless there is none, for a name may hold a semicolon.
    if "," in line or os.path.lexists(path.parent / line.strip()):
        return ","
    for delimiter in DELIMITERS[1:]:
        if suffix_of(line.split(delimiter)[0].strip()) in VIDEO_SUFFIXES and delimiter in line:
            return delimiter
        if header_of(path, 1, _plain_cells(line, delimiter), explain=False):
            return delimiter
    return ","


def _plain_cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _column_rows(
    path: Path, text: str, unknown: Unknown
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(path, text))
    names: Sequence[str] | None = None
    with_header = False
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            where = f"{path}:{reader.line_num}"
            if names is None:
                names = header_of(path, reader.line_num, cells)
                with_header = names is not None
                if names is not None:
                    unknown.refuse_or_note(where, names)
                    continue
                names = PLAIN
            if len(cells) == 1 and not with_header:
                cells = [_without_labels(path, cells[0], unknown)]
            yield reader.line_num, cells_as_row(where, names, cells)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _jsonl_rows(path: Path, text: str, unknown: Unknown) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f'{where}: need an object such as {{"path": "a.mp4"}}')
        unknown.refuse_or_note(where, row)
        yield number, row


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """json's own way keeps the last of two equal keys and says nothing."""
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"the key {key!r} stands there twice")
        row[key] = value
    return row
