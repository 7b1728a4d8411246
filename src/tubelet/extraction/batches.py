"""Windows of one video or several -> batches -> rows of their recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared
from tubelet.errors import FeatureError
from tubelet.extraction.recording import Recording


class Forward(Protocol):
    """What makes rows of windows; `pipeline.Extractor`."""

    batch_size: int

    def forward(self, rows: Sequence[Row[Prepared]]) -> Sequence[Mapping[str, NDArray[Any]]]: ...


E = TypeVar("E", bound=Forward)


class Batches(Generic[E]):
    """Windows on their way through the models: one line per extractor, shared by all videos.

    A batch may hold windows of several videos when the batch size is above 1. What goes wrong in
    a model is written into the recordings that it concerns, and never raised.
    """

    def __init__(
        self,
        extractors: Sequence[E],
        on_rows: Callable[[Recording, float], None] | None = None,
    ) -> None:
        self.extractors = extractors
        self._on_rows = on_rows
        self._waiting: list[list[tuple[Recording, Row[Prepared]]]] = [[] for _ in extractors]

    def push(self, lane: int, recording: Recording, row: Row[Prepared]) -> None:
        """One more window of a video for extractor `lane`."""
        self._waiting[lane].append((recording, row))
        if len(self._waiting[lane]) >= self.extractors[lane].batch_size:
            self._run(lane)

    def flush(self) -> None:
        """Run what waits, however few."""
        for lane, waiting in enumerate(self._waiting):
            if waiting:
                self._run(lane)

    def _run(self, lane: int) -> None:
        batch = [(rec, row) for rec, row in self._waiting[lane] if rec.fault is None]
        self._waiting[lane] = []
        if not batch:
            return
        try:
            outputs = self.extractors[lane].forward([row for _, row in batch])
        except Exception as error:  # noqa: BLE001 whatever it is, it is this batch's failure
            for recording, row in batch:
                recording.fail("model", error, row.window.own[-1])
            return
        for (recording, row), values in zip(batch, outputs, strict=True):
            try:
                if recording.fault is None:
                    recording.append(row, values)
            except FeatureError as error:
                recording.fail("model", error, row.window.own[-1])
            except Exception as error:  # noqa: BLE001 a full disk, or a bug: this video's failure
                recording.fail("store", error, row.window.own[-1])
            if self._on_rows:
                self._on_rows(recording, row.end_s)
