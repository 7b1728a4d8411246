"""What a preset is: one published convention of cutting, preparing and storing features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from tubelet.clips.transform import ViewConfig
from tubelet.clips.windows import Index, Resample, WindowConfig
from tubelet.flow.types import Rounding
from tubelet.types import ClipSpec

Offset = Literal["half-window", "half-stride", "window-start", "proportional"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One convention. What is None is the model's own.

    models: ids, the published one first; an id without a tag needs the user's own weights.
    fps, resample: the timeline. frames, interval, stride, length, tail, index, rows: the windows,
    as in `window.WindowConfig`. short_side, crop, fit, long_side, resize: the pixels, as in
    `transform.ViewConfig`. flow, flow_rounding: how models that take optical flow get it, as the
    options of those names. logits, keep, dtype: what is stored. layout and tap: what `tubelet pack`
    should write, and of which array. offset: where in its window the consumers place a row, for
    `tubelet align --rule`.
    exact: what these settings reproduce. unsure: what differs or is not known to anybody.
    example: (frames of a video, its rows), for the tests and the explanation.
    """

    name: str
    title: str
    models: tuple[str, ...]
    frames: int | None
    interval: int | None
    stride: int | None
    tail: str
    layout: str
    offset: Offset
    sources: tuple[str, ...]
    exact: str
    unsure: tuple[str, ...]
    example: tuple[int, int]
    length: int | None = None
    fps: Fraction | None = None
    resample: Resample = "ffmpeg-near"
    index: Index = "every-kth"
    short_side: int | None = None
    crop: int | None = None
    fit: Literal["short-side", "enlarge", "stretch"] = "short-side"
    long_side: int | None = None
    resize: Literal["float", "uint8"] = "float"
    logits: bool = False
    keep: Literal["clip", "time"] = "clip"
    dtype: Literal["float32", "float16"] = "float32"
    tap: str = "pool"
    rows: int | None = None
    flow: str | None = None
    flow_rounding: Rounding = "none"

    def window(self, clip: ClipSpec) -> WindowConfig:
        """The windows for a model with this `clip`."""
        return WindowConfig(
            frames=self.frames or clip.frames,
            interval=self.interval or clip.interval,
            stride=self.stride,
            length=self.length,
            tail=self.tail,
            fps=self.fps,
            resample=self.resample,
            index=self.index,
            rows=self.rows,
        )

    def view(self, clip: ClipSpec) -> ViewConfig:
        """The pixels for a model with this `clip`."""
        return ViewConfig(
            short_side=self.short_side or clip.short_side,
            crop=self.crop or clip.crop,
            mean=clip.mean,
            std=clip.std,
            resize=self.resize,
            fit=self.fit,
            long_side=self.long_side,
        )

    def choices(self) -> Mapping[str, Any]:
        """The same as values of the command line's options, by parameter name."""
        return {
            "models": self.models[:1],
            "fps": "native" if self.fps is None else str(self.fps),
            "window": self.frames,
            "interval": self.interval,
            "stride": self.stride,
            "tail": self.tail,
            "short_side": self.short_side,
            "crop": self.crop,
            "resize": self.resize,
            "logits": self.logits,
            "keep": self.keep,
            "taps": "pool" if self.tap in ("pool", "logits") else f"pool,{self.tap}",
            "dtype": self.dtype,
            "length": self.length,
            "resample": self.resample,
            "index": self.index,
            "row_count": self.rows,
            "fit": self.fit,
            "long_side": self.long_side,
            "flow": self.flow,
            "flow_rounding": self.flow_rounding,
        }

    @property
    def needs_weights(self) -> bool:
        """Whether the published weights are not in the zoo: --weights must name a file."""
        return "." not in self.models[0]

    @property
    def seconds_per_row(self) -> Fraction | None:
        """Seconds between the starts of two rows, where the rate is fixed."""
        if self.fps is None or self.frames is None or self.interval is None:
            return None
        step = self.stride or self.length or self.frames * self.interval
        return step / self.fps
