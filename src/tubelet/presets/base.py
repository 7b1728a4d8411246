"""What a preset is: one published convention of cutting, preparing and storing features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Literal

from tubelet.clips.transform import ViewConfig, view_config
from tubelet.clips.windows import Index, Resample, WindowConfig
from tubelet.errors import UsageError
from tubelet.flow.types import Rounding
from tubelet.types import ClipSpec

Offset = Literal["half-window", "half-stride", "window-start", "proportional"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How features are cut, prepared and stored. What is None is the model's own.

    fps, resample: the timeline. frames, interval, stride, length, tail, index, rows: the windows,
    as in `windows.WindowConfig`. short_side, crop, crops, flip, fit, long_side, resize: the pixels,
    as in `transform.ViewConfig`; 10 crops are five and their mirrored views. flow, flow_rounding:
    how models that take optical flow get it, as the options of those names. logits, keep, dtype:
    what is stored.
    """

    fps: Fraction | None = None
    resample: Resample = "hold"
    frames: int | None = None
    interval: int | None = None
    stride: int | None = None
    length: int | None = None
    tail: str = "pad"
    index: Index = "every-kth"
    rows: int | None = None
    short_side: int | None = None
    crop: int | None = None
    crops: Literal[1, 3, 5, 10] = 1
    flip: bool = False
    fit: Literal["short-side", "enlarge", "stretch"] | None = None
    long_side: int | None = None
    resize: Literal["float", "uint8"] = "float"
    flow: str | None = None
    flow_rounding: Rounding = "none"
    logits: bool = False
    keep: Literal["clip", "time", "space-time"] = "clip"
    dtype: Literal["float32", "float16"] = "float32"

    def window(self, clip: ClipSpec) -> WindowConfig:
        """The windows for a model with this `clip`."""
        return WindowConfig(
            frames=clip.frames if self.frames is None else self.frames,
            interval=clip.interval if self.interval is None else self.interval,
            stride=self.stride,
            length=self.length,
            tail=self.tail,
            fps=self.fps,
            resample=self.resample,
            index=self.index,
            rows=self.rows,
        )

    def windows(self, clips: Sequence[ClipSpec]) -> list[WindowConfig]:
        """One window configuration per model, over one plan.

        Each model keeps its own W and K; all share the stride, and the length that rows are counted
        with is the longest model's, so that row i starts at the same frame for all of them.
        """
        own = [self.window(clip) for clip in clips]
        length = max(config.span for config in own)
        return [c if c.span == length else replace(c, length=length) for c in own]

    def view(self, clip: ClipSpec) -> ViewConfig:
        """The pixels for a model with this `clip`.

        Naming only one of short side and crop keeps the other, moved where it would not fit.
        """
        own = view_config(clip)
        crop, short = self.crop, self.short_side
        if crop is None:
            crop = min(own.crop, short or own.crop)
        if short is None:
            short = max(own.short_side, crop)
        if crop > short:
            raise UsageError(f"--crop {crop} is larger than --short-side {short}")
        if self.crops == 10 and self.flip:
            raise UsageError("--flip: the ten crops of --crops 10 are mirrored already")
        fit, long = self.fit, self.long_side
        if fit is None:
            fit, long = own.fit, own.long_side
            if long is not None:  # frames that the model squashes keep its shape
                long = round(long * short / own.short_side)
        return replace(
            own,
            short_side=short,
            crop=crop,
            crops=5 if self.crops == 10 else self.crops,
            flip=self.flip or self.crops == 10,
            resize=self.resize,
            fit=fit,
            long_side=long,
        )


@dataclass(frozen=True, kw_only=True)
class Preset(Convention):
    """One published convention, and where it comes from.

    models: ids, the published one first; an id without a tag needs the user's own weights. layout
    and tap: what `tubelet pack` should write, and of which array. offset: where in its window the
    consumers place a row, for `tubelet align --rule`. exact: what these settings reproduce. unsure:
    what differs or is not known to anybody. example: (frames of a video, its rows), for the tests
    and the explanation.
    """

    name: str
    title: str
    models: tuple[str, ...]
    layout: str
    offset: Offset
    sources: tuple[str, ...]
    exact: str
    unsure: tuple[str, ...]
    example: tuple[int, int]
    resample: Resample = "ffmpeg-near"
    fit: Literal["short-side", "enlarge", "stretch"] = "short-side"
    tap: str = "pool"

    def applied_to(self, base: Convention, *, given: Collection[str]) -> Convention:
        """`base` with everything that this preset says, but for the fields `given` by the user."""
        own = {f.name: getattr(self, f.name) for f in fields(Convention) if f.name not in given}
        return replace(base, **own)

    @property
    def taps(self) -> tuple[str, ...]:
        """What has to be stored so that `tap` can be packed."""
        return ("pool",) if self.tap in ("pool", "logits") else ("pool", self.tap)

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
