"""What flows between the stages. Standard library and numpy only.

Axes: B batch, C channels, T time, H height, W width; N windows of a video, D feature width.
Names that end in `_s` are seconds since the container's start time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.uint8]
"""One RGB picture [H, W, 3], rotation applied."""


class Box(NamedTuple):
    """Rows top .. bottom and columns left .. right of a picture, the ends excluded."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class VideoInfo:
    """What the container says about its video stream. Hints, except width, height and rotation.

    `width` and `height` are those of the frames as delivered, after rotation. `frames` and
    `duration_s` are the header's promises: what is decoded decides. `fps` is the average rate.
    `stream_s` is the video stream's own duration, None where the header lacks it or a frame count.
    """

    path: str
    width: int
    height: int
    fps: Fraction
    frames: int | None
    duration_s: float | None
    start_s: float
    codec: str
    container: str
    pixel_format: str
    rotation: int
    backend: str
    size_bytes: int
    notes: tuple[str, ...] = ()
    stream_s: float | None = None


class Frame(Protocol):
    """One decoded frame. `rgb()` converts when called: frames nobody wants cost no conversion."""

    @property
    def index(self) -> int:
        """Position in decoder (display) order, from 0."""
        ...

    @property
    def time_s(self) -> float:
        """When the frame appears: PTS minus the container's start time."""
        ...

    @property
    def duration_s(self) -> float:
        """How long it is shown."""
        ...

    def rgb(self) -> Image: ...


@runtime_checkable
class CuttableFrame(Frame, Protocol):
    """A frame that can convert a part of itself for less work."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of `rgb()`."""
        ...

    def cut(self, box: Box) -> NDArray[np.uint8] | None:
        """The pixels of a box of `rgb()` and nothing else, as contiguous [rows, W', 4]: red, green,
        blue, anything; W' is at least the box's width. None where it cannot."""
        ...


@dataclass
class DecodeEvents:
    """What went wrong while decoding; every count that is not zero becomes a warning of the row.

    corrupt_packets: packets marked as damaged by the container or refused by the decoder.
    corrupt_frames: frames that the decoder marked as damaged and those that may build on
    damage, up to the next key frame; delivered all the same.
    bad_timestamps: frames timed by the average rate for want of a usable PTS.
    missing_frames: frames that should exist and do not (packets without error and without
    frame, gaps in the numbers of a folder). size_changes: pictures scaled to the first size.
    """

    corrupt_packets: int = 0
    corrupt_frames: int = 0
    bad_timestamps: int = 0
    missing_frames: int = 0
    size_changes: int = 0
    messages: list[str] = field(default_factory=list[str])

    @property
    def damaged(self) -> bool:
        return bool(self.corrupt_packets or self.corrupt_frames or self.missing_frames)


class VideoReader(Protocol):
    """One open video. Sequential: `frames()` starts from the first frame each time it is called."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def events(self) -> DecodeEvents: ...
    def frames(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...
    def __enter__(self) -> VideoReader: ...
    def __exit__(self, *exc: object) -> None: ...


Modality = Literal["rgb", "flow", "rgb+flow"]
MODALITIES: Mapping[int, Modality] = {3: "rgb", 2: "flow", 5: "rgb+flow"}
"""Channels of a clip -> what they are."""


@dataclass(frozen=True)
class ClipSpec:
    """How pixels become the tensor that a set of weights was trained on.

    frames: W, frames of a clip (of the fast pathway). interval: K, every K-th frame.
    short_side: length of the short side after resizing. crop: side of the square crop.
    mean, std: per channel, for pixels in [0, 1]. alpha: the slow pathway sees frames / alpha.
    channels: 3 RGB, 2 optical flow (horizontal, vertical), 5 RGB then flow. Flow of -20 ... 20
    pixels counts as [0, 1]. sampling: how the reference places evaluation views, see
    `clips/views.py`. long_side: frames are squashed to short_side x long_side (height x width),
    whatever their aspect ratio; None keeps it.
    """

    frames: int
    interval: int
    short_side: int
    crop: int
    mean: tuple[float, ...] = (0.45, 0.45, 0.45)
    std: tuple[float, ...] = (0.225, 0.225, 0.225)
    alpha: int | None = None
    channels: int = 3
    sampling: Literal["dense", "dense-offset", "every-kth", "uniform"] = "dense"
    long_side: int | None = None

    @property
    def modality(self) -> Modality:
        """What the channels are."""
        return MODALITIES[self.channels]


class VideoModel(Protocol):
    """What every network offers. `clip` tensors are float32 [B, C, T, H, W], normalised.

    taps, in order of computation: stage names ("stem", "res2", ... or "block0", ...), "grid",
    "head_pool" (ResNet and SlowFast: the mean over the test head's windows), "dense_logits",
    "pool". `features` returns for a stage tap its map [B, C, T', H', W'], for "grid" the map
    [B, D, T', H', W'] of what "pool" [B, D] is made of, for "dense_logits" the classifier's output
    at every position [B, t, h, w, classes] ([B, classes] where the head has one position by
    construction), before softmax or sigmoid. `classify` gives the logits [B, classes] of "pool"
    [B, D]; calling the model is classify(features(clip)["pool"]).
    """

    clip: ClipSpec
    taps: tuple[str, ...]
    width: int
    num_classes: int
    activation: Literal["softmax", "sigmoid", "none"]

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]: ...
    def classify(self, pool: Tensor) -> Tensor: ...
    def predict(self, clip: Tensor) -> Tensor: ...
    def __call__(self, clip: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Window:
    """One row: the frames that one clip is made of.

    `frames` are indices of the video's own frames in decoder order, -1 for a black frame (of the
    mean colour under the tail rule `center-mean`). After the first `lead` (0 unless windows are
    centred), `real` of them are the window's own; the other `padded` ones fill it up.
    """

    index: int
    frames: tuple[int, ...]
    real: int
    lead: int = 0

    @property
    def own(self) -> tuple[int, ...]:
        """The frames that are not filled up."""
        return self.frames[self.lead : self.lead + self.real]

    @property
    def padded(self) -> int:
        return len(self.frames) - self.real


@dataclass(frozen=True)
class Features:
    """Rows of one video. `values` [N, D] (or [N, T', D], [N, T', H', W', D]); times in seconds.

    start_s, end_s, center_s: [N] float64, PTS minus the container's start time.
    provenance: everything needed to make the rows again.
    """

    values: NDArray[np.floating[Any]]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    center_s: NDArray[np.float64]
    provenance: Mapping[str, Any]
    taps: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict[str, Any])
    logits: NDArray[np.floating[Any]] | None = None

    def rows_between(self, t0: float, t1: float) -> NDArray[np.intp]:
        """Rows whose centre lies in [t0, t1) seconds."""
        return np.flatnonzero((self.center_s >= t0) & (self.center_s < t1))

    def at(self, t: float) -> int:
        """The row whose centre is nearest to t seconds; the earlier one on a tie."""
        if not len(self.center_s):
            raise IndexError("at(): these features have no rows")
        return int(np.argmin(np.abs(self.center_s - t)))

    def plot(self, **choices: Any) -> dict[str, Any]:
        """Draw class timeline, novelty, norms and self-similarity with matplotlib (extra `plot`).

        parts: some of "classes" (softmax of logits where they are stored: no scores of a network
        of many labels), "novelty", "norms", "similarity".
        labels: names of the classes; classes: how many are shown. Returns {part: Axes}.
        UsageError for unknown parts, features without rows, and a missing matplotlib.
        """
        # The one call up the ladder: a method is where notebooks look for it.
        return importlib.import_module("tubelet.rows.plots").plot(self, **choices)
