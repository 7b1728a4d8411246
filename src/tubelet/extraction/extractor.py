"""One model with one recipe: windows as pixels -> rows. It decides the numbers.

`pipeline` brings the windows of a video here and takes the rows away.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from numpy.typing import NDArray

from tubelet import __version__
from tubelet.clips.gather import Row
from tubelet.clips.modality import flow_facts, uses_flow
from tubelet.clips.transform import Prepared, ViewConfig, black, to_clip, view_config
from tubelet.clips.windows import WindowConfig
from tubelet.config import to_plain
from tubelet.errors import UsageError, did_you_mean
from tubelet.extraction.lanes import Lane
from tubelet.extraction.pipeline import extract_video, stream_rows
from tubelet.extraction.recording import Source
from tubelet.extraction.shared_maps import FrameMaps, frame_maps
from tubelet.flow.base import FlowConfig, flow_config
from tubelet.flow.pool import shared_pool
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.timing import TIMER
from tubelet.models.device import (
    arithmetic,
    resolve_device,
    resolve_precision,
    resolve_runtime,
    sent,
)
from tubelet.models.weights.load import digest_of
from tubelet.types import Features

if TYPE_CHECKING:
    from torch import Tensor

Keep = Literal["clip", "time", "space-time"]
"""Which axes of a tap survive in a row."""

Precision = Literal["fp32", "bf16", "fp16", "auto"]
Merge = Literal["mean", "keep"]
Runtime = Literal["fast", "reference", "compile"]


@dataclass(frozen=True)
class Options:
    """How rows are made of a model's outputs; all of it is part of the recipe.

    taps: names of `model.taps` beside "pool", which is always there. keep: which axes survive: a
    row is [D], [T', D] or [T', H', W', D].
    logits: class scores too. merge: views (crops, flips) are averaged, or kept as a first axis.
    color: matrix of the decoder, `auto` or `legacy601`. dtype: of the stored numbers. preset: name
    of the convention that window, view and these options follow, and what overrides it.
    flow: how a model that takes optical flow gets it (None: TV-L1, as the paper); flow_cache: a
    folder where flows are kept, not part of the recipe: it changes no number.
    """

    taps: tuple[str, ...] = ("pool",)
    keep: Keep = "clip"
    logits: bool = False
    merge: Merge = "mean"
    precision: Precision = "fp32"
    color: Literal["auto", "legacy601"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"
    preset: str | None = None
    flow: FlowConfig | None = None
    flow_cache: Path | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("keep", Keep), ("merge", Merge), ("precision", Precision)):
            if getattr(self, name) not in get_args(kinds):
                known = ", ".join(get_args(kinds))
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {known}")


class Extractor:
    """One model with one recipe. Call it with a path for `Features`.

    model: a name for `create_model`, or a network that satisfies `types.VideoModel`.
    window, view: defaults from the model's `clip`. device: auto, cpu, cuda, cuda:N, mps.
    batch_size: clips per forward pass. Above 1 a row's last bits may depend on its neighbours.
    runtime: "fast" runs a network rebuilt for inference where there is one (`models.fast`),
    "reference" the readable one, "compile" the same behind torch.compile; `self.runtime` tells
    which it became.
    """

    def __init__(
        self,
        model: Any = "i3d_inception.k400",
        *,
        window: WindowConfig | None = None,
        view: ViewConfig | None = None,
        options: Options | None = None,
        device: str = "auto",
        batch_size: int = 1,
        name: str | None = None,
        runtime: Runtime = "fast",
    ) -> None:
        if isinstance(model, str):
            from tubelet.models.registry import create_model

            name = name or model
            model = create_model(model)
        self.name = name or type(model).__name__
        self.options = options or Options()
        self.device = resolve_device(device)
        self.precision = resolve_precision(self.options.precision, self.device)
        clip = model.clip
        self.window = window or WindowConfig(clip.frames, clip.interval)
        self.view = view or view_config(clip)
        size = (self.window.frames, self.view.crop)
        if hasattr(model, "resized") and size != (clip.frames, clip.crop):
            model = model.resized(frames=size[0], crop=size[1])  # position tables, as when loading
        self.weights_sha256 = digest_of(model)
        self.model, self.runtime = resolve_runtime(
            model, runtime, device=self.device, precision=self.precision
        )
        self.flow: FlowConfig | None = None
        if uses_flow(self.view):
            self.flow = self.options.flow or flow_config()
            shared_pool(self.flow)  # raises UsageError where its library is missing
        self.batch_size = batch_size
        self._check()
        self.taps = ("pool", *(t for t in model.taps if t in self.options.taps and t != "pool"))
        self.maps: FrameMaps | None = None
        if self.runtime == "fast":
            wanted = [source_tap(tap, self.options.keep) for tap in self.taps]
            self.maps = frame_maps(self.model, self.window, wanted)
        self.names = (*self.taps, *(("logits",) if self.options.logits else ()))

    def _check(self) -> None:
        for tap in self.options.taps:
            if tap not in self.model.taps:
                known = self.model.taps
                raise UsageError(
                    f"tap {tap!r} is unknown to {self.name}; "
                    f"it has {', '.join(known)}{did_you_mean(tap, known)}"
                )
        if self.batch_size < 1:
            raise UsageError(f"batch size is {self.batch_size}; it must be at least 1")

    def move_to(self, device: str) -> None:
        """Run there from now on. The recipe stays: `device` must be of the same kind."""
        self.device = resolve_device(device)
        self.model = self.model.to(self.device)

    @property
    def lane(self) -> Lane:
        """How this model's rows are cut out of a video."""
        options = self.options
        return Lane(self.window, self.view, self.flow, options.color, options.flow_cache)

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers; its hash names comparable rows."""
        options = to_plain(self.options)
        del options["precision"], options["flow"], options["flow_cache"]
        if self.flow is not None:
            options["flow"] = flow_facts(shared_pool(self.flow))
        return {
            "model": getattr(self.model, "model_id", None) or self.name,
            "weights": {
                "id": getattr(self.model, "weights_id", None),
                "sha256": self.weights_sha256,
            },
            "window": to_plain(self.window),
            "view": to_plain(self.view),
            **options,
            "taps": list(self.taps),
            "precision": self.precision,
            "decoder": "every frame in display order; undecodable packets skipped and counted",
        }

    def run_facts(self) -> dict[str, Any]:
        """What does not decide the numbers but may explain their last bit.

        threads: of the CPU; reductions are split among them, so their number can change a bit.
        frame_maps: up to which stage maps of frames are shared by overlapping windows, see `reuse`.
        """
        import torch

        return {
            "device": self.device,
            "threads": torch.get_num_threads() if self.device == "cpu" else None,
            "batch_size": self.batch_size,
            "runtime": self.runtime,
            "frame_maps": self.maps.stage if self.maps else None,
            "tubelet": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "av")},
        }

    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """What a row is, for videos without rows: the shapes of one black window."""
        nothing = [black(self.view)] * self.window.frames
        return {name: a.shape for name, a in self.forward_clips([nothing])[0].items()}

    def __call__(
        self, path: str, *, start_s: float | None = None, end_s: float | None = None
    ) -> Features:
        """All rows of a video, or of its part [start_s, end_s). Raises VideoError, FeatureError."""
        return extract_video(path, [self], start_s=start_s, end_s=end_s)[0]

    def stream(
        self, path: str, *, start_s: float | None = None, end_s: float | None = None
    ) -> Iterator[tuple[Row[Prepared], dict[str, NDArray[Any]]]]:
        """(window, {tap: array}) as soon as each row is made, in bounded memory."""
        return stream_rows(Source(path, start_s, end_s), self)

    def forward(self, rows: Sequence[Row[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        """The model on a batch of windows: for each row {tap: [D] or as `keep` says}, float32."""
        return self.forward_clips([row.pixels for row in rows])

    def forward_clips(self, clips: Sequence[Sequence[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        """As `forward`, from the W prepared frames of each window."""
        with HEARTBEAT.expected("model", limits=len(clips) * self.view.views), TIMER.timed("model"):
            TIMER.count("model", len(clips))
            return self._forward_clips(clips)

    def _forward_clips(self, clips: Sequence[Sequence[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        import torch

        views = self.view.views
        wanted = [source_tap(tap, self.options.keep) for tap in self.taps]
        taps = tuple(dict.fromkeys([*wanted, "pool"]))
        with torch.inference_mode(), arithmetic(self.device, self.precision, self.runtime):
            if self.maps is not None:
                shared = self.maps.of(clips, self.model, self.device)
                maps = self.model.features_after(shared, self.maps.stage, taps)
            else:
                clip = sent(torch.cat([to_clip(pixels) for pixels in clips]), self.device)
                maps = self.model.features(clip, taps=taps)
            logits = self.model.classify(maps["pool"]) if self.options.logits else None
        out = {
            tap: reduce_map(channels_second(tap, maps[source]), self.options.keep)
            for tap, source in zip(self.taps, wanted, strict=True)
        }
        if logits is not None:
            out["logits"] = logits
        arrays = {name: self._merge(t, len(clips), views) for name, t in out.items()}
        return [{name: a[i] for name, a in arrays.items()} for i in range(len(clips))]

    def _merge(self, values: Tensor, rows: int, views: int) -> NDArray[Any]:
        """[rows * V, ...] -> [rows, ...] or [rows, V, ...]."""
        grouped = values.float().reshape(rows, views, *values.shape[1:])
        if views == 1 or self.options.merge == "mean":
            grouped = grouped.mean(dim=1)
        return grouped.cpu().numpy()


def extract(
    path: str,
    model: str = "i3d_inception.k400",
    *,
    window: WindowConfig | None = None,
    taps: Sequence[str] = ("pool",),
    device: str = "auto",
    precision: Precision = "fp32",
) -> Features:
    """Features of one video with one model; see `Extractor` for more."""
    options = Options(taps=tuple(taps), precision=precision)
    return Extractor(model, window=window, options=options, device=device)(path)


def source_tap(tap: str, keep: Keep) -> str:
    """With axes kept, "pool" is read from the map that it is the mean of."""
    return "grid" if tap == "pool" and keep != "clip" else tap


def channels_second(tap: str, values: Tensor) -> Tensor:
    """ "dense_logits" [B, t, h, w, classes] in the order of the maps."""
    return values.movedim(-1, 1) if tap.endswith("dense_logits") else values


def reduce_map(values: Tensor, keep: Keep) -> Tensor:
    """[B, D, T, H, W] -> [B, D], [B, T, D] or [B, T, H, W, D]; other ranks stay as they are."""
    if values.ndim != 5:
        return values
    if keep == "clip":
        return values.mean(dim=(2, 3, 4))
    if keep == "time":
        return values.mean(dim=(3, 4)).transpose(1, 2)
    return values.permute(0, 2, 3, 4, 1)
