"""The rows of one video by one model while they are made, and everything known about them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.errors import FeatureError
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.timing import TIMER
from tubelet.store.formats.rows import Rows
from tubelet.types import DecodeEvents, Features, VideoInfo


@dataclass(frozen=True)
class Source:
    """What to read: a path, and the part [start_s, end_s) of it.

    fps, pattern: of a folder of frames, its rate and which files are its frames. name: what
    progress calls it.
    """

    path: str
    start_s: float | None = None
    end_s: float | None = None
    fps: Fraction | None = None
    name: str = ""
    pattern: str | None = None


@dataclass
class Tally:
    """How far a decode has come: where an error belongs, and how many frames there were.

    stage: open, decode. frame: index of the last frame decoded. decoded: wanted or not.
    """

    stage: str = "open"
    frame: int | None = None
    decoded: int = 0

    def enter(self, stage: str) -> None:
        """The next stage begins."""
        self.stage = stage
        HEARTBEAT.enter(stage)

    def count(self, index: int) -> None:
        """One more frame, number `index`, is decoded."""
        self.decoded += 1
        self.frame = index
        HEARTBEAT.beat(frame=index)
        TIMER.count("decode", 1)


@dataclass(frozen=True)
class Fault:
    """What stopped the rows of one model."""

    stage: str
    error: Exception
    frame: int | None


class Reading(Protocol):
    """One video while it is read: what it is, its rows of every lane, what went wrong so far."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def events(self) -> DecodeEvents: ...
    def rows(self) -> Iterator[tuple[int, Row[Any]]]: ...


class Recording:
    """Rows of one video as they are made. spool: a folder for what does not fit in memory.

    arrays: "pool" first, then the other taps, then "logits", [N, ...] each.
    `fault` is set when the model failed; the rows are worth nothing then. name, length_s: of the
    video, as far as its header knows, for progress.
    """

    def __init__(self, names: tuple[str, ...], *, dtype: str, spool: Path | None = None) -> None:
        self.name = ""
        self.length_s: float | None = None
        self.arrays = {name: Rows(spool) for name in names}
        self.fault: Fault | None = None
        self.expected: int | None = None
        self.provenance: dict[str, Any] = {}
        self._dtype = dtype
        self._start_s, self._end_s, self._center_s = array("d"), array("d"), array("d")
        self._first, self._last, self._padded = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._start_s)

    @property
    def complete(self) -> bool:
        """Nothing more will come: every row is here, or the model failed."""
        return self.expected is not None and (self.fault is not None or len(self) >= self.expected)

    def begin(self, source: Source, info: VideoInfo) -> None:
        """The video is open."""
        self.name, self.length_s = source.name, info.duration_s

    def declare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """What a row would be, where there is none."""
        for name, shape in shapes.items():
            self.arrays[name].declare(shape, self._dtype)

    def append(self, row: Row[Any], values: Mapping[str, NDArray[Any]]) -> None:
        """One more row. FeatureError, naming its time, for NaN and infinity."""
        for name, made in stored_row(row, values, self._dtype).items():
            self.arrays[name].append(made)
        self._start_s.append(row.start_s)
        self._end_s.append(row.end_s)
        self._center_s.append(row.center_s)
        self._first.append(row.window.own[0])
        self._last.append(row.window.own[-1])
        self._padded.append(row.window.padded)

    def fail(self, stage: str, error: Exception, frame: int | None) -> None:
        """The model failed on this video."""
        self.fault = self.fault or Fault(stage, error, frame)

    def finish(self, facts: Mapping[str, Any], *, expected: int) -> None:
        """The video has been read to its end and gave `expected` rows."""
        self.expected = expected
        self.provenance = dict(facts)

    def columns(self) -> dict[str, NDArray[Any]]:
        """What is known per row, [N] each; `extend` takes them."""
        names = ("start_s", "end_s", "center_s", "first", "last", "padded")
        return {name: np.array(getattr(self, f"_{name}")) for name in names}

    def extend(
        self, columns: Mapping[str, NDArray[Any]], rows: Mapping[str, Iterable[NDArray[Any]]]
    ) -> None:
        """The rows of another recording of this video, which come next."""
        for name, values in columns.items():
            getattr(self, f"_{name}").extend(values.tolist())
        for name, own in rows.items():
            for row in own:
                self.arrays[name].append(row)

    def times(self) -> dict[str, NDArray[np.float64]]:
        """start_s, end_s, center_s [N]."""
        return {
            "start_s": np.array(self._start_s, np.float64),
            "end_s": np.array(self._end_s, np.float64),
            "center_s": np.array(self._center_s, np.float64),
        }

    def facts(self) -> dict[str, Any]:
        """The provenance with what is known per row."""
        return {
            **self.provenance,
            "padded": self._padded.tolist(),
            "first_last_frame": [[a, b] for a, b in zip(self._first, self._last, strict=True)],
        }

    def features(self) -> Features:
        """Everything in memory."""
        arrays = {name: rows.array() for name, rows in self.arrays.items()}
        pool, logits = arrays.pop("pool"), arrays.pop("logits", None)
        return Features(pool, **self.times(), provenance=self.facts(), taps=arrays, logits=logits)

    def close(self) -> None:
        for rows in self.arrays.values():
            rows.close()


def stored_row(
    row: Row[Any], values: Mapping[str, NDArray[Any]], dtype: str
) -> dict[str, NDArray[Any]]:
    """A row in the stored dtype. FeatureError, naming its time, for what is not finite there."""
    where = f"row {row.window.index}, {row.start_s:.3f} - {row.end_s:.3f} s"
    return {name: stored(v, dtype, where=f"{name} of {where}") for name, v in values.items()}


def stored(values: NDArray[Any], dtype: str, *, where: str) -> NDArray[Any]:
    """In the stored dtype. FeatureError for what is not finite there."""
    if not np.isfinite(values).all():
        raise FeatureError(f"{where}: the model gave NaN or infinity; try --precision fp32")
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if not np.isfinite(cast).all():
        raise FeatureError(f"{where}: a value exceeds float16 (65504); use --dtype float32")
    return cast


def pass_facts(source: Source, video: Reading, tally: Tally) -> dict[str, Any]:
    """What a sidecar says about a video that has been read to its end."""
    return {
        **source_facts(video.info),
        "range_s": [source.start_s, source.end_s],
        "decoded_frames": tally.decoded,
        "damaged": video.events.damaged,
        "tap": "pool",
        "warnings": warnings_of(video.events),
    }


def source_facts(info: VideoInfo) -> dict[str, Any]:
    """What a sidecar says about its source."""
    return {
        "source": info.path,
        "size_bytes": info.size_bytes,
        "fps": float(info.fps),
        "fps_exact": str(info.fps),
        "duration_s": info.duration_s,
        "start_s_container": info.start_s,
        "frame_size": [info.width, info.height],
        "codec": info.codec,
        "container": info.container,
        "pixel_format": info.pixel_format,
        "rotation": info.rotation,
        "backend": info.backend,
        "notes": list(info.notes),
    }


def warnings_of(events: DecodeEvents) -> list[str]:
    """What went wrong while decoding, in words."""
    found = list(events.messages)
    counts = {
        "corrupt_packets": "packets could not be decoded",
        "corrupt_frames": "frames were decoded with errors",
        "bad_timestamps": "frames had missing or unordered timestamps",
        "missing_frames": "frames are missing",
        "size_changes": "frames changed size and were scaled to the first one's",
    }
    for name, what in counts.items():
        if count := getattr(events, name):
            found.append(f"{count} {what}")
    return found
