"""One pass over a video for several sets of windows at once: frames -> rows of every lane.

frames ──┬─▶ lane 0: windows, view (RGB) ─▶ rows
         └─▶ lane 1: windows, view (flow) ─▶ rows
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tubelet.clips.gather import Gatherer, Row
from tubelet.clips.modality import FlowSource, Shot, in_step, open_source, preparer
from tubelet.clips.transform import Prepared, ViewConfig, black, prepare_frame
from tubelet.clips.windows import WindowConfig, row_limit, timeline
from tubelet.decode.base import open_video
from tubelet.decode.segment import open_segment
from tubelet.decode.types import Color
from tubelet.extraction.recording import Reading, Source, Tally
from tubelet.flow.base import FlowConfig
from tubelet.inputs import in_range
from tubelet.machine.timing import TIMER
from tubelet.types import DecodeEvents, Frame, VideoInfo, VideoReader


@dataclass(frozen=True)
class Lane:
    """The windows of one model, and how their pixels are made. flow: None for RGB."""

    window: WindowConfig
    view: ViewConfig
    flow: FlowConfig | None = None
    color: Color = "auto"
    flow_cache: Path | None = None


def _select(
    frames: Iterator[Frame], start_s: float | None, end_s: float | None, tally: Tally
) -> Iterator[Frame]:
    """Frames that appear in [start_s, end_s)."""
    for frame in frames:
        tally.count(frame.index)
        if start_s is not None and frame.time_s < start_s:
            continue
        if end_s is not None and frame.time_s >= end_s:
            return
        yield frame


def _count(
    reader: VideoReader, config: WindowConfig, start_s: float | None, end_s: float | None
) -> int | None:
    """Positions of the timeline, in a pass of its own, for windows that depend on them."""
    if not config.rule.counted:
        return None
    frames = _select(reader.frames(), start_s, end_s, Tally())
    spans = [(frame.time_s, frame.time_s + frame.duration_s) for frame in frames]
    return len(timeline([t for t, _ in spans], spans[-1][1], config)) if spans else 0


def each_row(
    reader: VideoReader,
    lanes: Sequence[Lane],
    start_s: float | None,
    end_s: float | None,
    tally: Tally,
    rows: Sequence[range] | None = None,
) -> Iterator[tuple[int, Row[Prepared]]]:
    """(lane's index, its next complete row).

    rows: of each lane those that are wanted; the frames of others may be unread. None for all.
    """
    totals = [_count(reader, e.window, start_s, end_s) for e in lanes]
    sources: dict[FlowConfig, FlowSource] = {}
    for e in lanes:
        if e.flow is not None and e.flow not in sources:
            color, cache = e.color, e.flow_cache
            sources[e.flow] = open_source(e.flow, reader.info, color=color, cache=cache)
    # A frame that several lanes want remembers what the first one made of it.
    shared = len(lanes) > 1 or bool(sources)
    gatherers = [
        Gatherer(
            e.window,
            prepare=_of_read_frames(
                preparer(e.view, sources[e.flow] if e.flow else None)
                if shared
                else partial(_pixels_of, view=e.view)
            ),
            black=black(e.view, mean_colour=e.window.rule.mean_colour),
            native_fps=reader.info.fps,
            limit=row_limit(reader.info.stream_s, e.window),
            total=total,
            pairs=e.flow is not None,
        )
        for e, total in zip(lanes, totals, strict=True)
    ]
    frames = _select(reader.frames(), start_s, end_s, tally)
    try:
        found = _each_complete(map(Shot, frames) if shared else frames, gatherers)
        if rows is not None:
            found = ((k, row) for k, row in found if row.window.index in rows[k])
        # Flows may still be under way: `in_step` hands a row out when its own are there.
        yield from in_step(found, sources) if sources else found
    finally:
        for source in sources.values():
            source.close()


def _pixels_of(frame: Frame, _: None, *, view: ViewConfig) -> Prepared:
    return prepare_frame(frame, view)


def _of_read_frames(make: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same pixels, and None where a frame they need is unread (`decode.part`)."""

    def prepare(frame: Any, pair: tuple[Any, Any] | None) -> Any:
        if any(getattr(f, "unread", False) for f in pair or (frame,)):
            return None
        return make(frame, pair)

    return prepare


def _each_complete(
    frames: Iterator[Any], gatherers: Sequence[Gatherer[Any]]
) -> Iterator[tuple[int, Row[Any]]]:
    """(lane's index, its next complete row)."""
    for frame in frames:
        for lane, gatherer in enumerate(gatherers):
            for row in gatherer.feed(frame):
                yield lane, row
    for lane, gatherer in enumerate(gatherers):
        for row in gatherer.finish():
            yield lane, row


Opening = Callable[[Source, Sequence[Lane], Tally], AbstractContextManager[Reading]]
"""How a video is read for the rows of some lanes; the tally is kept up to date."""


@dataclass(frozen=True)
class Here:
    """A video that this process decodes. `wanted`: as in `each_row`."""

    reader: VideoReader
    source: Source
    lanes: Sequence[Lane]
    tally: Tally
    wanted: Sequence[range] | None = None

    @property
    def info(self) -> VideoInfo:
        return self.reader.info

    @property
    def events(self) -> DecodeEvents:
        return self.reader.events

    def rows(self) -> Iterator[tuple[int, Row[Prepared]]]:
        span = self.source.start_s, self.source.end_s
        rows = each_row(self.reader, self.lanes, *span, self.tally, self.wanted)
        return TIMER.each("decode", rows)


@contextmanager
def open_here(source: Source, lanes: Sequence[Lane], tally: Tally) -> Iterator[Here]:
    """Decode the video, or the part that is asked for, in this process."""
    with _open(source, lanes[0].color) as reader:
        yield Here(in_range(reader, source.start_s, source.end_s), source, lanes, tally)


def _open(source: Source, color: Color) -> VideoReader:
    """A file that a part is wanted of is read from a key frame before that part."""
    # `path` may be an open reader (`from_frames`), which has frames of its own.
    if source.start_s and isinstance(source.path, str) and os.path.isfile(source.path):
        return open_segment(source.path, source.start_s, source.end_s, color=color)
    return open_video(source.path, color=color, fps=source.fps, pattern=source.pattern)
