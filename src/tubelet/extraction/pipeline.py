"""THE PIPELINE: one pass over a video, from its path to the rows of every model.

    path ──opening──▶ frames ──lanes, ahead──▶ windows as pixels ──batches──▶ rows ──▶ sinks

`pass_over` is what runs, whoever asks: `tubelet.extract`, `Extractor`, `classify`, and the workers
of a run. What a run adds is put around a step: `opening` reads a part of a video or asks another
process for it, `ahead` decodes in a thread or shows the windows to somebody, an extractor shares
maps between its windows, a sink keeps rows in memory, on a disk, or for whoever draws them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared
from tubelet.errors import FeatureError
from tubelet.extraction.lanes import Lane, Opening, open_here
from tubelet.extraction.recording import (
    Fault,
    Recording,
    Source,
    Tally,
    pass_facts,
    stored_row,
)
from tubelet.types import Features, VideoInfo

Values = Mapping[str, NDArray[Any]]
"""A row: {tap: array}."""

Rows = Iterator[tuple[int, Row[Prepared]]]
"""(extractor's index, its next complete window)."""


class Forward(Protocol):
    """What makes rows of windows; an `Extractor`."""

    names: tuple[str, ...]
    options: Any
    batch_size: int

    @property
    def lane(self) -> Lane: ...
    def forward(self, rows: Sequence[Row[Prepared]]) -> Sequence[Values]: ...
    def row_shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    def run_facts(self) -> Mapping[str, Any]: ...


class Sink(Protocol):
    """Where the rows of one video and one model go; `fault` is set when no more are wanted."""

    fault: Fault | None

    def begin(self, source: Source, info: VideoInfo) -> None: ...
    def append(self, row: Row[Prepared], values: Values) -> None: ...
    def fail(self, stage: str, error: Exception, frame: int | None) -> None: ...
    def finish(self, facts: Mapping[str, Any], *, expected: int) -> None: ...


S = TypeVar("S", bound=Sink)


def pass_over(
    source: Source,
    batches: Batches[S],
    sinks: Sequence[S],
    *,
    lanes: Sequence[int] = (0,),
    tally: Tally | None = None,
    opening: Opening = open_here,
    ahead: Callable[[Rows], Rows] = iter,
) -> Iterator[None]:
    """One decode of a video for the extractors `lanes` of `batches`, one sink for each.

    A generator that pauses after each window, so that rows can be taken while the video is read;
    it has to be run to its end. Rows may wait in `batches` even then, for windows of the next
    video. Raises VideoError, also into the sinks; what fails in a model only reaches its sink.
    """
    tally = tally or Tally()
    models = [batches.extractors[lane] for lane in lanes]
    counts = [0] * len(models)
    try:
        with opening(source, [model.lane for model in models], tally) as video:  # path -> frames
            tally.enter("decode")
            for sink in sinks:
                sink.begin(source, video.info)
            for k, window in ahead(video.rows()):  # frames -> windows -> pixels
                counts[k] += 1
                batches.push(lanes[k], sinks[k], window)  # pixels -> rows -> sink
                if all(sink.fault for sink in sinks):
                    break
                yield
            facts = pass_facts(source, video, tally)
    except Exception as error:
        for sink in sinks:  # what waits in `batches` is wanted no more
            sink.fail(tally.stage, error, tally.frame)
        raise
    for model, sink, count in zip(models, sinks, counts, strict=True):
        empty = [] if count else [_no_rows(tally, model.lane, source)]
        own = {"warnings": facts["warnings"] + empty, "made_with": model.run_facts()}
        sink.finish({**facts, **own}, expected=count)


def _no_rows(tally: Tally, lane: Lane, source: Source) -> str:
    if source.start_s is None and source.end_s is None:
        frames, span = tally.decoded, lane.window.span
        return f"no rows: {frames} frames are fewer than one window of {span} (--tail drop)"
    return f"no rows: [{source.start_s}, {source.end_s}) s has no frame, or too few for one window"


class Batches(Generic[S]):
    """Windows on their way through the models: one line per extractor, shared by all videos.

    A batch may hold windows of several videos when the batch size is above 1. What goes wrong in
    a model is told to the sinks that it concerns, and never raised.
    """

    def __init__(
        self, extractors: Sequence[Forward], on_rows: Callable[[S, float], None] | None = None
    ) -> None:
        self.extractors = extractors
        self._on_rows = on_rows
        self._waiting: list[list[tuple[S, Row[Prepared]]]] = [[] for _ in extractors]

    def push(self, lane: int, sink: S, row: Row[Prepared]) -> None:
        """One more window of a video for extractor `lane`."""
        self._waiting[lane].append((sink, row))
        if len(self._waiting[lane]) >= self.extractors[lane].batch_size:
            self._run(lane)

    def flush(self) -> None:
        """Run what waits, however few."""
        for lane, waiting in enumerate(self._waiting):
            if waiting:
                self._run(lane)

    def _run(self, lane: int) -> None:
        batch = [(sink, row) for sink, row in self._waiting[lane] if sink.fault is None]
        self._waiting[lane] = []
        if not batch:
            return
        try:
            outputs = self.extractors[lane].forward([row for _, row in batch])
        except Exception as error:  # noqa: BLE001 whatever it is, it is this batch's failure
            for sink, row in batch:
                sink.fail("model", error, row.window.own[-1])
            return
        for (sink, row), values in zip(batch, outputs, strict=True):
            try:
                if sink.fault is None:
                    sink.append(row, values)
            except FeatureError as error:
                sink.fail("model", error, row.window.own[-1])
            except Exception as error:  # noqa: BLE001 a full disk, or a bug: this video's failure
                sink.fail("store", error, row.window.own[-1])
            if self._on_rows:
                self._on_rows(sink, row.end_s)


Watcher = Callable[[int, Row[Prepared]], None]
"""Called with (extractor's index, window) before the window goes to the model."""


def watched(ahead: Callable[[Rows], Rows], watch: Watcher) -> Callable[[Rows], Rows]:
    """`ahead`, with every window shown to `watch`."""

    def showing(rows: Rows) -> Rows:
        for k, row in ahead(rows):
            watch(k, row)
            yield k, row

    return showing


def record_video(
    source: Source,
    batches: Batches[Recording],
    *,
    lanes: Sequence[int] | None = None,
    spool: Path | None = None,
    tally: Tally | None = None,
    ahead: Callable[[Rows], Rows] = iter,
    opening: Opening | None = None,
) -> list[Recording]:
    """One decode, one `Recording` per extractor (of `lanes`, or all); see `pass_over`.

    Rows may still wait in `batches` for windows of the next video: see `Recording.complete`.
    Raises VideoError; what fails in a model is in `Recording.fault`.
    """
    chosen = range(len(batches.extractors)) if lanes is None else lanes
    models = [batches.extractors[lane] for lane in chosen]
    recordings = [Recording(m.names, dtype=m.options.dtype, spool=spool) for m in models]
    for _ in pass_over(
        source,
        batches,
        recordings,
        lanes=chosen,
        tally=tally,
        opening=opening or open_here,
        ahead=ahead,
    ):
        pass
    for model, recording in zip(models, recordings, strict=True):
        if recording.expected == 0:
            recording.declare(model.row_shapes())
    return recordings


def extract_video(
    path: str,
    extractors: Sequence[Forward],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> list[Features]:
    """One decode, one `Features` per extractor, in memory. Raises what any of them met."""
    batches: Batches[Recording] = Batches(extractors)
    recordings = record_video(Source(path, start_s, end_s), batches)
    batches.flush()
    for recording in recordings:
        if recording.fault:
            raise recording.fault.error
    return [recording.features() for recording in recordings]


class RowQueue:
    """A sink that keeps rows until they are taken."""

    def __init__(self, dtype: str) -> None:
        self.fault: Fault | None = None
        self._dtype = dtype
        self._made: deque[tuple[Row[Prepared], dict[str, NDArray[Any]]]] = deque()

    def begin(self, source: Source, info: VideoInfo) -> None:
        """Nothing is told of the video."""

    def append(self, row: Row[Prepared], values: Values) -> None:
        self._made.append((row, stored_row(row, values, self._dtype)))

    def fail(self, stage: str, error: Exception, frame: int | None) -> None:
        self.fault = self.fault or Fault(stage, error, frame)

    def finish(self, facts: Mapping[str, Any], *, expected: int) -> None:
        """Nor at its end."""

    def take(self) -> Iterator[tuple[Row[Prepared], dict[str, NDArray[Any]]]]:
        """What has come since the last call; then the error that stopped it, if one did."""
        while self._made:
            yield self._made.popleft()
        if self.fault:
            raise self.fault.error


def stream_rows(
    source: Source, extractor: Forward
) -> Iterator[tuple[Row[Prepared], dict[str, NDArray[Any]]]]:
    """(window, {tap: array}) of one video as soon as each is made, in bounded memory."""
    made = RowQueue(extractor.options.dtype)
    batches: Batches[RowQueue] = Batches([extractor])
    for _ in pass_over(source, batches, [made]):
        yield from made.take()
    batches.flush()
    yield from made.take()
