"""Annotation files of grounding datasets: read, and written again with a record per moment.

Each reader gives the moments in the file's order, and a function that writes the file with one
record per moment added. JSON files keep their structure and gain a key; the text of Charades-STA
has no place for one and becomes JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tubelet.errors import UnknownName, UsageError, did_you_mean
from tubelet.rows.align import Moment

Records = Sequence[dict[str, Any]]
Document = tuple[list[Moment], Callable[[Records], str]]
KEY = "feature_rows"


def read_annotations(text: str, fmt: str) -> Document:
    """UnknownName for a format that is not there; UsageError, with the place, for broken files."""
    if fmt not in FORMATS:
        raise UnknownName(
            f"format {fmt!r} is unknown; it is one of "
            f"{', '.join(FORMATS)}{did_you_mean(fmt, FORMATS)}"
        )
    moments, write = FORMATS[fmt](text)
    if not moments:
        raise UsageError(f"no moment in this file; is it {fmt}?")
    return moments, write


def charades_sta(text: str) -> Document:
    """Lines `VIDEO START END##SENTENCE`, seconds."""
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        head, mark, sentence = line.strip().partition("##")
        parts = head.split()
        if not mark or len(parts) != 3:
            raise UsageError(f"line {number}: need `VIDEO START END##SENTENCE`, not {line[:60]!r}")
        start, end = (_seconds(part, f"line {number}") for part in parts[1:])
        lines.append({"video": parts[0], "start_s": start, "end_s": end, "sentence": sentence})
    moments = [Moment(line["video"], line["start_s"], line["end_s"]) for line in lines]

    def write(records: Records) -> str:
        joined = ({**line, **record} for line, record in zip(lines, records, strict=True))
        return "".join(_line(record) for record in joined)

    return moments, write


def activitynet_captions(text: str) -> Document:
    """{VIDEO: {"duration", "timestamps": [[start, end], ...], "sentences"}}, seconds."""
    data = _object(text)
    moments = [
        Moment(video, *_pair(pair, video), _optional(entry.get("duration"), video))
        for video, entry in data.items()
        for pair in _list(entry, "timestamps", video)
    ]
    return moments, _keyed(data, lambda entry: len(entry["timestamps"]))


def youcookii(text: str) -> Document:
    """{"database": {VIDEO: {"duration", "annotations": [{"segment": [start, end], ...}]}}}."""
    whole = _object(text)
    data = whole.get("database")
    if not isinstance(data, dict):
        raise UsageError("no object `database` in this file; is it youcookii?")
    segments = [
        (video, segment, _optional(entry.get("duration"), video))
        for video, entry in data.items()
        for segment in _list(entry, "annotations", video, missing=[])
    ]
    moments = [
        Moment(video, *_pair(segment.get("segment"), video), duration)
        for video, segment, duration in segments
    ]

    def write(records: Records) -> str:
        for (_, segment, _), record in zip(segments, records, strict=True):
            segment[KEY] = record
        return json.dumps(whole, ensure_ascii=False) + "\n"

    return moments, write


def tacos(text: str) -> Document:
    """{VIDEO.avi: {"fps", "num_frames", "timestamps": [[first, last], ...]}}, frames."""
    data = _object(text)
    moments: list[Moment] = []
    for video, entry in data.items():
        pairs = _list(entry, "timestamps", video)
        fps = _seconds(entry.get("fps"), f"{video}: fps")
        if not fps > 0:
            raise UsageError(f"{video}: fps is {fps}; it must be positive")
        frames = _optional(entry.get("num_frames"), video)
        duration = None if frames is None else frames / fps
        for pair in pairs:
            first, last = _pair(pair, video)
            name = video.removesuffix(".avi")
            moments.append(Moment(name, first / fps, last / fps, duration))
    return moments, _keyed(data, lambda entry: len(entry["timestamps"]))


def qvhighlights(text: str) -> Document:
    """Lines {"vid", "duration", "relevant_windows": [[start, end], ...], ...}, seconds."""
    lines: list[dict[str, Any]] = []
    moments: list[Moment] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        entry = _object(line, where)
        video = entry.get("vid")
        if not isinstance(video, str):
            raise UsageError(f"{where}: no `vid`; is this qvhighlights?")
        duration = _optional(entry.get("duration"), where)
        # Lines of the test split have no windows.
        pairs = _list(entry, "relevant_windows", where, missing=[])
        moments += [Moment(video, *_pair(pair, where), duration) for pair in pairs]
        lines.append(entry)

    def write(records: Records) -> str:
        rest = iter(records)
        out: list[str] = []
        for entry in lines:
            count = len(entry.get("relevant_windows", []))
            out.append(_line({**entry, KEY: [next(rest) for _ in range(count)]}))
        return "".join(out)

    return moments, write


FORMATS: dict[str, Callable[[str], Document]] = {
    "charades-sta": charades_sta,
    "activitynet-captions": activitynet_captions,
    "youcookii": youcookii,
    "tacos": tacos,
    "qvhighlights": qvhighlights,
}


def matches(videos: Iterable[str], ids: Sequence[str]) -> dict[str, str | None]:
    """Annotated video -> the id of its features, None where there are none.

    An id fits when it is the video's name, with or without ActivityNet's `v_`; where no id does,
    one whose last part is that name, if there is only one.
    """
    last: dict[str, list[str]] = {}
    for identity in ids:
        last.setdefault(identity.rpartition("/")[2], []).append(identity)
    known = set(ids)
    found: dict[str, str | None] = {}
    for video in videos:
        names = (video, video[2:] if video.startswith("v_") else f"v_{video}")
        whole = [name for name in names if name in known]
        parts = [last[name][0] for name in names if len(last.get(name, [])) == 1]
        found[video] = next(iter([*whole, *parts]), None)
    return found


def _keyed(
    data: dict[str, Any], count: Callable[[dict[str, Any]], int]
) -> Callable[[Records], str]:
    """Writes {video: {..., KEY: [record, ...]}}."""

    def write(records: Records) -> str:
        rest = iter(records)
        joined = {
            video: {**entry, KEY: [next(rest) for _ in range(count(entry))]}
            for video, entry in data.items()
        }
        return json.dumps(joined, ensure_ascii=False) + "\n"

    return write


def _object(text: str, where: str = "this file") -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where}: need an object, not {type(data).__name__}")
    return data


def _list(entry: Any, key: str, where: str, missing: list[Any] | None = None) -> list[Any]:
    value = entry.get(key, missing) if isinstance(entry, dict) else None
    if not isinstance(value, list):
        raise UsageError(f"{where}: no list `{key}`; is --format right?")
    return value


def _pair(pair: Any, where: str) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise UsageError(f"{where}: {pair!r} is not [start, end]")
    return _seconds(pair[0], where), _seconds(pair[1], where)


def _seconds(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {value!r} is not a number") from None


def _optional(value: Any, where: str) -> float | None:
    return None if value is None else _seconds(value, where)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
