"""The stages in order, one after the other:

    path -> frames -> windows -> clips -> features

`Extractor` holds one model and one recipe; `extract_video` runs several of them over one decode.
This is the readable path; it decides the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tubelet.config import to_plain
from tubelet.decode.base import open_video
from tubelet.errors import FeatureError, UsageError, did_you_mean
from tubelet.gather import Gatherer, Row
from tubelet.transform import Prepared, ViewConfig, black, prepare, to_clip, view_config
from tubelet.types import Features, Frame, Image, VideoInfo, VideoReader
from tubelet.window import WindowConfig, row_limit

if TYPE_CHECKING:
    from torch import Tensor

Keep = Literal["clip", "time", "space-time"]
Precision = Literal["fp32", "bf16", "fp16", "auto"]
Merge = Literal["mean", "keep"]


@dataclass(frozen=True)
class Options:
    """How rows are made of a model's outputs; all of it is part of the recipe.

    taps: names of `model.taps`. keep: which axes survive: a row is [D], [T', D] or [T', H', W', D].
    logits: class scores too. merge: views (crops, flips) are averaged, or kept as a first axis.
    color: matrix of the decoder, `auto` or `legacy601`. dtype: of the stored numbers. preset: name
    of the convention that window, view and these options follow, and what overrides it.
    """

    taps: tuple[str, ...] = ("pool",)
    keep: Keep = "clip"
    logits: bool = False
    merge: Merge = "mean"
    precision: Precision = "fp32"
    color: Literal["auto", "legacy601"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"
    preset: str | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("keep", Keep), ("merge", Merge), ("precision", Precision)):
            if getattr(self, name) not in get_args(kinds):
                known = ", ".join(get_args(kinds))
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {known}")


@dataclass
class Output:
    """Rows of one video, as they are made."""

    values: dict[str, list[NDArray[Any]]] = field(default_factory=dict[str, list[NDArray[Any]]])
    start_s: list[float] = field(default_factory=list[float])
    end_s: list[float] = field(default_factory=list[float])
    frames: list[list[int]] = field(default_factory=list[list[int]])
    padded: list[int] = field(default_factory=list[int])


class Extractor:
    """One model with one recipe. Call it with a path for `Features`.

    model: a name for `create_model`, or a network that satisfies `types.VideoModel`.
    window, view: defaults from the model's `clip`. device: auto, cpu, cuda, cuda:N, mps.
    batch_size: clips per forward pass. Above 1 a row's last bits may depend on its neighbours.
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
    ) -> None:
        if isinstance(model, str):
            from tubelet.models.registry import create_model

            name = name or model
            model = create_model(model)
        self.name = name or type(model).__name__
        self.options = options or Options()
        self.device = resolve_device(device)
        self.precision = resolve_precision(self.options.precision, self.device)
        self.model = model.to(self.device).eval()
        clip = model.clip
        self.window = window or WindowConfig(clip.frames, clip.interval)
        self.view = view or view_config(clip)
        self.batch_size = batch_size
        self._check()

    def _check(self) -> None:
        for tap in self.options.taps:
            if tap not in self.model.taps:
                known = self.model.taps
                raise UsageError(
                    f"tap {tap!r} is unknown to {self.name}{did_you_mean(tap, known)} "
                    f"It has {', '.join(known)}"
                )
        if self.batch_size < 1:
            raise UsageError(f"batch size is {self.batch_size}; it must be at least 1")

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers; its hash names comparable rows."""
        options = to_plain(self.options)
        del options["precision"]
        return {
            "model": self.name,
            "weights": {
                "id": getattr(self.model, "weights_id", None),
                "sha256": getattr(self.model, "weights_sha256", None),
            },
            "window": to_plain(self.window),
            "view": to_plain(self.view),
            **options,
            "precision": self.precision,
            "decoder": "every frame in display order; undecodable packets skipped and counted",
        }

    def __call__(
        self, path: str, *, start_s: float | None = None, end_s: float | None = None
    ) -> Features:
        """All rows of a video, or of its part [start_s, end_s). Raises VideoError, FeatureError."""
        return extract_video(path, [self], start_s=start_s, end_s=end_s)[0]

    def stream(self, path: str) -> Iterator[tuple[Row[Prepared], dict[str, NDArray[Any]]]]:
        """(row, {tap: array}) as soon as each window is complete, in bounded memory."""
        with open_video(path, color=self.options.color) as reader:
            for _, rows in gather_rows(reader, [self], None, None):
                yield from zip(rows, self.forward(rows), strict=True)

    def forward(self, rows: Sequence[Row[Prepared]]) -> list[dict[str, NDArray[Any]]]:
        """The model on a batch of windows: for each row {tap: [D] or as `keep` says}."""
        import torch

        views = self.view.views
        clip = torch.cat([to_clip(row.pixels) for row in rows]).to(self.device)
        wanted = [_source_tap(tap, self.options.keep) for tap in self.options.taps]
        with torch.inference_mode(), _autocast(self.device, self.precision):
            maps = self.model.features(clip, taps=tuple(dict.fromkeys([*wanted, "pool"])))
            logits = self.model.classify(maps["pool"]) if self.options.logits else None
        out = {
            tap: reduce_map(maps[source], self.options.keep)
            for tap, source in zip(self.options.taps, wanted, strict=True)
        }
        if logits is not None:
            out["logits"] = logits
        arrays = {name: self._merge(t, len(rows), views) for name, t in out.items()}
        return [{name: a[i] for name, a in arrays.items()} for i in range(len(rows))]

    def _merge(self, values: Tensor, rows: int, views: int) -> NDArray[Any]:
        """[rows * V, ...] -> [rows, ...] or [rows, V, ...], in the stored dtype."""
        grouped = values.float().reshape(rows, views, *values.shape[1:])
        if views == 1 or self.options.merge == "mean":
            grouped = grouped.mean(dim=1)
        array = grouped.cpu().numpy()
        if not np.isfinite(array).all():
            raise FeatureError("the model gave NaN or infinity; try --precision fp32")
        stored = array.astype(self.options.dtype)
        if not np.isfinite(stored).all():
            raise FeatureError("a value exceeds float16 (65504); use --dtype float32")
        return stored


def extract_video(
    path: str,
    extractors: Sequence[Extractor],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    on_rows: Callable[[int, float | None], None] | None = None,
) -> list[Features]:
    """One decode, one `Features` per extractor. on_rows(rows, share of the video) is told."""
    outputs, tally = [Output() for _ in extractors], Tally()
    with open_video(path, color=extractors[0].options.color) as reader:
        for lane, rows in gather_rows(reader, extractors, start_s, end_s, tally):
            for row, values in zip(rows, extractors[lane].forward(rows), strict=True):
                _append(outputs[lane], row, values)
            if on_rows:
                length = reader.info.duration_s
                on_rows(len(rows), rows[-1].end_s / length if length else None)
        return [
            _features(extractor, output, reader, tally.decoded)
            for extractor, output in zip(extractors, outputs, strict=True)
        ]


@dataclass
class Tally:
    """Frames decoded so far, wanted or not."""

    decoded: int = 0


class Shot:
    """A frame that remembers its RGB and its prepared views while it is the current one."""

    def __init__(self, frame: Frame) -> None:
        self.index, self.time_s, self.duration_s = frame.index, frame.time_s, frame.duration_s
        self._frame = frame
        self._image: Image | None = None
        self._views: dict[ViewConfig, Prepared] = {}

    def rgb(self) -> Image:
        if self._image is None:
            self._image = self._frame.rgb()
        return self._image

    def prepared(self, view: ViewConfig) -> Prepared:
        if view not in self._views:
            self._views[view] = prepare(self.rgb(), view)
        return self._views[view]


def _select(
    frames: Iterator[Frame], start_s: float | None, end_s: float | None, tally: Tally
) -> Iterator[Shot]:
    """Frames that appear in [start_s, end_s)."""
    for frame in frames:
        tally.decoded += 1
        if start_s is not None and frame.time_s < start_s:
            continue
        if end_s is not None and frame.time_s >= end_s:
            return
        yield Shot(frame)


def gather_rows(
    reader: VideoReader,
    extractors: Sequence[Extractor],
    start_s: float | None,
    end_s: float | None,
    tally: Tally | None = None,
) -> Iterator[tuple[int, list[Row[Prepared]]]]:
    """(extractor's index, its next batch of complete rows)."""
    gatherers = [
        Gatherer(
            e.window,
            prepare=lambda shot, view=e.view: shot.prepared(view),  # pyright: ignore
            black=black(e.view),
            native_fps=reader.info.fps,
            limit=row_limit(reader.info.stream_s, e.window),
        )
        for e in extractors
    ]
    waiting: list[list[Row[Prepared]]] = [[] for _ in extractors]
    for shot in _select(reader.frames(), start_s, end_s, tally or Tally()):
        for lane, gatherer in enumerate(gatherers):
            for row in gatherer.feed(shot):
                yield from _batched(waiting, lane, row, extractors[lane].batch_size)
    for lane, gatherer in enumerate(gatherers):
        for row in gatherer.finish():
            yield from _batched(waiting, lane, row, extractors[lane].batch_size)
        if waiting[lane]:
            yield lane, waiting[lane]


def _batched(
    waiting: list[list[Row[Prepared]]], lane: int, row: Row[Prepared], size: int
) -> Iterator[tuple[int, list[Row[Prepared]]]]:
    waiting[lane].append(row)
    if len(waiting[lane]) >= size:
        rows, waiting[lane] = waiting[lane], []
        yield lane, rows


def _append(output: Output, row: Row[Prepared], values: dict[str, NDArray[Any]]) -> None:
    for name, value in values.items():
        output.values.setdefault(name, []).append(value)
    output.start_s.append(row.start_s)
    output.end_s.append(row.end_s)
    output.frames.append([row.window.own[0], row.window.own[-1]])
    output.padded.append(row.window.padded)


def _features(extractor: Extractor, output: Output, reader: VideoReader, decoded: int) -> Features:
    taps = extractor.options.taps
    width = {"pool": extractor.model.width}
    arrays = {
        name: np.stack(output.values[name])
        if name in output.values
        else np.zeros((0, width.get(name, 0)), extractor.options.dtype)
        for name in (*taps, *(("logits",) if extractor.options.logits else ()))
    }
    start, end = np.array(output.start_s, np.float64), np.array(output.end_s, np.float64)
    logits = arrays.pop("logits", None)
    first = "pool" if "pool" in arrays else taps[0]
    return Features(
        values=arrays.pop(first),
        start_s=start,
        end_s=end,
        center_s=(start + end) / 2,
        provenance={
            **source_facts(reader.info),
            "decoded_frames": decoded,
            "padded": output.padded,
            "first_last_frame": output.frames,
            "warnings": warnings_of(reader, extractor, len(start)),
            "damaged": reader.events.damaged,
            "tap": first,
        },
        taps=arrays,
        logits=logits,
    )


def source_facts(info: VideoInfo) -> dict[str, Any]:
    """What a sidecar says about its source."""
    return {
        "source": info.path,
        "size_bytes": info.size_bytes,
        "fps": str(info.fps),
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


def warnings_of(reader: VideoReader, extractor: Extractor, rows: int) -> list[str]:
    """What a user should know about these rows."""
    events = reader.events
    found = list(events.messages)
    counts = {
        "corrupt_packets": "packets could not be decoded",
        "corrupt_frames": "frames were decoded with errors",
        "bad_timestamps": "frames had missing or unordered timestamps",
        "missing_frames": "frames are missing",
        "size_changes": "frames changed size and were scaled to the first one's",
    }
    found += [
        f"{getattr(events, name)} {what}" for name, what in counts.items() if getattr(events, name)
    ]
    if rows == 0:
        found.append(f"no rows: shorter than one window of {extractor.window.span} frames (drop)")
    return found


def _source_tap(tap: str, keep: Keep) -> str:
    """With axes kept, "pool" is read from the map that it is the mean of."""
    return "grid" if tap == "pool" and keep != "clip" else tap


def reduce_map(values: Tensor, keep: Keep) -> Tensor:
    """[B, D, T, H, W] -> [B, D], [B, T, D] or [B, T, H, W, D]; other ranks stay as they are."""
    if values.ndim != 5:
        return values
    if keep == "clip":
        return values.mean(dim=(2, 3, 4))
    if keep == "time":
        return values.mean(dim=(3, 4)).transpose(1, 2)
    return values.permute(0, 2, 3, 4, 1)


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu. UsageError for a device that is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(kind, False):
        have = ", ".join(k for k, v in present.items() if v)
        raise UsageError(f"device {device!r} is not available; this machine has {have}")
    return device


def resolve_precision(precision: Precision, device: str) -> str:
    """`auto` picks the fastest precision with a stated error bound; today that is fp32 on CPUs
    without bfloat16 units and bf16 elsewhere."""
    if precision != "auto":
        return precision
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capable = device == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if capable else "fp32"


def _autocast(device: str, precision: str) -> Any:
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype is not None)


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
