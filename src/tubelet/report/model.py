"""What a report shows, and what it has found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.report.stored import Detail, VideoLine, Whole
from tubelet.rows.collection import Collection
from tubelet.rows.scores import Scores


@dataclass(frozen=True)
class Choices:
    """What a report shows.

    videos: how many in full, over all models; chosen: their ids instead. windows: contact sheets
    per video, within its first until_s seconds (a sheet costs decoding up to its window). roots:
    folders to look for sources in. umap: a second map (extra `umap`). scores: compute class
    scores with cached weights where none are stored.
    """

    videos: int = 24
    chosen: tuple[str, ...] = ()
    windows: int = 3
    until_s: float = 60.0
    roots: tuple[Path, ...] = ()
    umap: bool = False
    scores: bool = True

    def __post_init__(self) -> None:
        if self.videos < 0 or self.windows < 0:
            raise UsageError("the numbers of videos and of windows must be at least 0")


@dataclass
class ModelReport:
    """One model's folder. thumbs: (id, row) -> a small picture of its middle frame."""

    collection: Collection
    lines: list[VideoLine]
    failures: list[dict[str, Any]]
    scores: Scores | None
    no_scores: str
    details: list[Detail] = field(default_factory=list[Detail])
    whole: Whole | None = None
    thumbs: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])

    @property
    def name(self) -> str:
        return str(self.collection.recipe["model"])

    def place(self, row: int) -> tuple[str, int]:
        """(id, row of that video) of a row of the collection."""
        identity = self.collection.video_of(row)
        return identity, row - self.collection.span(identity).start
