"""The columns of a list and what each may hold: one row -> one `Input`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError, did_you_mean
from tubelet.inputs.types import (
    SYNTHETIC,
    VIDEO_SUFFIXES,
    Input,
    check_name,
    is_url,
    stem_of,
    suffix_of,
)
from tubelet.store.remote.objects import object_scheme

PLAIN = ("path", "id", "start", "end")
"""What the columns of a list without a header are."""
COLUMNS = (*PLAIN, "start_frame", "stop_frame", "fps")

# What other lists call these columns.
OTHER_NAMES = {
    "path": "path file filename file_name filepath file_path video video_path video_file "
    "video_name url uri source src clip_path input",
    "id": "id video_id videoid clip_id clip segment_id segment name uid vid key identifier",
    "start": "start start_s start_sec start_secs start_second start_seconds start_time starttime "
    "time_start t_start tstart t0 begin begin_s begin_time onset from",
    "end": "end end_s end_sec end_secs end_second end_seconds end_time endtime time_end t_end tend "
    "t1 stop stop_s stop_time finish offset to",
    "start_frame": "start_frame startframe frame_start first_frame begin_frame start_f f_start f0",
    "stop_frame": "stop_frame stopframe end_frame endframe frame_end last_frame frame_stop "
    "f_end f1",
    "fps": "fps frame_rate framerate rate frames_fps video_fps",
}
MEANT = {name: column for column, names in OTHER_NAMES.items() for name in names.split()}
RISKY = re.compile(r"time|sec|frame|start|end|begin|stop|duration|length|fps|rate|range|trim|crop")
"""A column of such a name may change which part of a video is meant: never passed over."""

CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")


class Unknown:
    """Columns and keys of a list that nobody reads: refused, or told once at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: dict[str, None] = {}

    def refuse_or_note(self, where: str, names: Iterable[str]) -> None:
        """UsageError for a name that could mean something that tubelet knows."""
        for name in names:
            if name in ("", *COLUMNS) or repr(name[:60]) in self._told:
                continue
            plain = name.strip().lower().replace(" ", "_").replace("-", "_")
            meant = MEANT.get(plain)
            near = f"; did you mean {meant!r}?" if meant else did_you_mean(plain, COLUMNS)
            if near or RISKY.search(plain):
                raise UsageError(
                    f"{where}: column {name[:60]!r} is unknown{near}{'' if near else ';'} "
                    f"a list may have {', '.join(COLUMNS)}; rename or remove the column"
                )
            self.harmless(f"{name[:60]!r}")

    def harmless(self, what: str) -> None:
        self._told[what] = None

    def sentences(self) -> Iterator[str]:
        if self._told:
            yield f"{self._path}: not used: {', '.join(self._told)}"


def header_of(
    path: Path, number: int, cells: Sequence[str], *, explain: bool = True
) -> list[str] | None:
    """The columns that a first line names, None where it names none.

    UsageError (unless explain is False) for a header without `path`, and for a column named twice.
    """
    first = [cell.lower() for cell in cells]
    if "path" in first:
        twice = [name for name in first if name and first.count(name) > 1]
        if twice and explain:
            raise UsageError(f"{path}:{number}: the column {twice[0]!r} stands there twice")
        return first
    known = [cell for cell in first if cell in MEANT]
    # A line with a number or the name of a video is a row, whatever its other cells are.
    is_row = any(cell.replace(".", "").isdecimal() for cell in first)
    if not known or is_row or suffix_of(first[0]) in VIDEO_SUFFIXES:
        return None
    if not explain:
        return first
    meant = next((cell for cell in known if MEANT[cell] == "path"), None)
    hint = f" ({meant!r}?)" if meant else ""
    raise UsageError(
        f"{path}:{number}: a header without `path`{hint}; it may have {', '.join(COLUMNS)}"
    )


def cells_as_row(where: str, names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Cells by column. UsageError for more cells than columns: one of them would be lost."""
    if any(cells[len(names) :]):
        raise UsageError(
            f"{where}: {len(cells)} cells, but there are {len(names)} columns "
            f"({', '.join(names)}); quote what holds the separator, or name the columns"
        )
    return dict(zip(names, cells, strict=False))


def to_input(path: Path, number: int, row: Mapping[str, Any]) -> tuple[Input, bool]:
    """(the input that a row names, whether the row gave its id). UsageError with the line."""
    where = f"{path}:{number}"
    video = row.get("path")
    if not isinstance(video, str) or not video:
        raise UsageError(f"{where}: no path; need a column or key `path`")
    check_name(video, where=where)
    start, end = (_seconds(where, name, row.get(name)) for name in ("start", "end"))
    first, stop = (_frame(where, name, row.get(name)) for name in ("start_frame", "stop_frame"))
    if end is not None and end <= (start or 0):
        raise UsageError(f"{where}: start {start}, end {end}: need 0 <= start < end, in seconds")
    if stop is not None and stop <= (first or 0):
        raise UsageError(
            f"{where}: start_frame {first}, stop_frame {stop}: need 0 <= start_frame < stop_frame"
        )
    if (first, stop) != (None, None) and (start, end) != (None, None):
        raise UsageError(f"{where}: a range in seconds and one in frames; give one of them")
    remote = is_url(video) or bool(object_scheme(video)) or video.startswith(SYNTHETIC)
    target = video if remote or os.path.isabs(video) else str(path.parent / video)
    fps = _rate(where, row.get("fps"))
    if fps is not None and (remote or os.path.isfile(target)):
        raise UsageError(
            f"{where}: fps is the rate of a folder of pictures; {video!r} has its own timestamps. "
            "Leave the cell empty"
        )
    identity = row.get("id")
    named = identity is not None and identity != ""
    if not named:
        identity = _default_id(video, target, remote=remote)
    elif isinstance(identity, bool) or not isinstance(identity, (str, int)):
        raise UsageError(f"{where}: id is {_shown(identity)}; it must be text")
    name = _text(where, identity)
    check_name(name, where=where)
    item = Input(name, target, start, end, fps=fps, start_frame=first, stop_frame=stop)
    return item, named


def range_words(item: Input) -> str:
    """A range as part of an id: `2.5_10`, `0_end`, `f10_f40`; "" for a whole video."""
    if item.start_frame is not None or item.stop_frame is not None:
        stop = "end" if item.stop_frame is None else f"f{item.stop_frame}"
        return f"f{item.start_frame or 0}_{stop}"
    if item.start_s is None and item.end_s is None:
        return ""
    end = "end" if item.end_s is None else _number(item.end_s)
    return f"{_number(item.start_s or 0.0)}_{end}"


def _number(seconds: float) -> str:
    """Every digit, for two ranges must not get one name; without an exponent and without `.0`."""
    digits = f"{Decimal(repr(seconds)):f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _text(where: str, identity: object) -> str:
    try:
        return str(identity)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        raise UsageError(f"{where}: id is a number of thousands of digits; give a name") from None


def _shown(value: object) -> str:
    """A value for a message, of bounded length."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


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
    """Seconds, or a clock time H:MM:SS or M:SS with fractions."""
    if value is None or value == "":
        return None
    clock = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if clock:
        hours, minutes, rest = clock.groups()
        exact = 3600 * int(hours or 0) + 60 * int(minutes) + Fraction(rest.replace(",", "."))
        return float(exact)
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise UsageError(
            f"{where}: {name} is {_shown(value)}; it must be seconds, 0 or more, "
            "or a time such as 1:02:03.5"
        )
    return seconds


def _frame(where: str, name: str, value: Any) -> int | None:
    """The number of a frame."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else _shown(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UsageError(
            f"{where}: {name} is {_shown(value)}; it must be a whole number, 0 or more"
        )
    return int(text)


def _rate(where: str, value: Any) -> Fraction | None:
    """Frames per second."""
    if value is None or value == "":
        return None
    from tubelet.decode.frames_dir import rate_of

    text = value if isinstance(value, str) else _shown(value)
    return rate_of(text, where=where)
