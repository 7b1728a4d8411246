"""WINDOWS -> CLIPS: resize the short side, crop, normalise. Frames come as RGB and stay RGB.

The numbers are the reference's test transform: pixels / 255, (x - mean) / std, bilinear resize of
the short side without antialiasing (half-pixel centres), long side floored, crop offsets rounded
up. Resizing is linear and its weights sum to one, so resizing first and normalising afterwards is
the same number; and since only the crop is wanted, each output pixel reads its four input pixels
and nothing else is touched. `reference_view` is the plain form; a test holds the two equal.

Channels are never reversed. Every network of the zoo takes RGB; the reference's
REVERSE_INPUT_CHANNEL (SSv2, Charades) only undoes the BGR of its OpenCV image loader, and our
decoders deliver RGB (see `docs/decoding.md`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.types import Box, ClipSpec, CuttableFrame, Frame, Image

if TYPE_CHECKING:
    from torch import Tensor

FLOW = 2
"""Channels of optical flow. In a view they come last: 2 flow, 3 RGB, 5 RGB then flow."""

Prepared = NDArray[np.float32]
"""One frame as the network sees it: [V, H, W, C] normalised, V views (crops x flips)."""


CENTRE = 1
PLACES = {1: (CENTRE,), 3: (0, CENTRE, 2), 5: (3, 4, 5, 6, CENTRE)}
"""Number of crops -> where each is; the five are in torchvision's order."""


@dataclass(frozen=True)
class ViewConfig:
    """The spatial views of a frame.

    short_side, crop: pixels. crops: 1 (centre), 3 (left, centre, right; top, centre, bottom of an
    upright video) or 5 (upper left, upper right, lower left, lower right, centre). flip: add the
    mirrored view of each, behind all of them; 5 crops with it are the ten of the literature.
    resize: `float`, or `uint8`: the resized pixel is rounded to a level, as tools do that resize
    images and not tensors. fit: `short-side`; `enlarge`: only frames whose short side is shorter
    are resized; `stretch`: to short_side x
    long_side (height x width), whatever the aspect ratio.
    """

    short_side: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crops: Literal[1, 3, 5] = 1
    flip: bool = False
    resize: Literal["float", "uint8"] = "float"
    fit: Literal["short-side", "enlarge", "stretch"] = "short-side"
    long_side: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.short_side <= 4096:
            raise UsageError(
                f"crop {self.crop} of short side {self.short_side}: need 1 <= crop <= short side "
                "<= 4096; raise --short-side or lower --crop"
            )
        if self.crops not in PLACES:
            raise UsageError(f"crops is {self.crops}; it must be 1, 3 or 5 (10: 5 with flip)")
        if self.resize not in ("float", "uint8"):
            raise UsageError(f"resize is {self.resize!r}; it must be float or uint8")
        if self.fit not in ("short-side", "enlarge", "stretch"):
            raise UsageError(f"fit is {self.fit!r}; it must be short-side, enlarge or stretch")
        if (self.long_side is not None) != (self.fit == "stretch") or (
            self.long_side is not None and not self.short_side <= self.long_side <= 4096
        ):
            raise UsageError(
                f"long side {self.long_side}, fit {self.fit}: `stretch`, and only it, must have a "
                "long side between the short side and 4096"
            )

    @property
    def views(self) -> int:
        return self.crops * (2 if self.flip else 1)

    @property
    def places(self) -> tuple[int, ...]:
        """Of each crop its place, see `crop_corner`."""
        return PLACES[self.crops]


def view_config(clip: ClipSpec, *, crops: Literal[1, 3, 5] = 1, flip: bool = False) -> ViewConfig:
    """The default view of a set of weights."""
    fit = "short-side" if clip.long_side is None else "stretch"
    return ViewConfig(
        clip.short_side, clip.crop, clip.mean, clip.std, crops, flip,
        fit=fit, long_side=clip.long_side,
    )  # fmt: skip


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) after the short side is `short_side`; the long side is floored."""
    if width < height:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def fitted_size(height: int, width: int, view: ViewConfig) -> tuple[int, int]:
    """(height, width) that a frame is resized to before it is cropped."""
    if view.fit == "stretch" and view.long_side is not None:
        return view.short_side, view.long_side
    if view.fit == "enlarge" and min(height, width) >= view.short_side:
        return height, width
    return resized_size(height, width, view.short_side)


def crop_corner(height: int, width: int, crop: int, index: int) -> tuple[int, int]:
    """(top, left) of crop 0, 1 or 2: left, centre, right; top, centre, bottom when upright.

    3 to 6: upper left, upper right, lower left, lower right.
    """
    if index > 2:
        return (index - 3) // 2 * (height - crop), (index - 3) % 2 * (width - crop)
    top, left = math.ceil((height - crop) / 2), math.ceil((width - crop) / 2)
    if height > width:
        top = (0, top, height - crop)[index]
    else:
        left = (0, left, width - crop)[index]
    return top, left


def _axis(
    size: int, resized: int, start: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For output pixels start .. start+count: the two source pixels and the second one's weight."""
    # The reference multiplies by the float32 scale and subtracts 1/2 in one rounding.
    place = np.arange(start, start + count) + 0.5
    centre = (place * float(np.float32(size / resized)) - 0.5).astype(np.float32)
    centre = np.maximum(centre, 0)
    low = centre.astype(np.intp)
    high = np.minimum(low + 1, size - 1)
    return low, high, (centre - low).astype(np.float32)


EVEN = 32
"""What boxes begin and end at: whole chroma samples, whole vectors."""


@lru_cache(maxsize=64)
def needed(height: int, width: int, view: ViewConfig) -> Box:
    """The box of a frame that `prepare` reads, widened to multiples of EVEN."""
    tall, wide = fitted_size(height, width, view)
    corners = [crop_corner(tall, wide, view.crop, index) for index in view.places]
    rows = [_axis(height, tall, top, view.crop) for top, _ in corners]
    columns = [_axis(width, wide, left, view.crop) for _, left in corners]
    top, bottom = min(a[0][0] for a in rows), max(a[1][-1] for a in rows) + 1
    left, right = min(a[0][0] for a in columns), max(a[1][-1] for a in columns) + 1
    return Box(
        int(top) // EVEN * EVEN,
        int(left) // EVEN * EVEN,
        min(-(-int(bottom) // EVEN) * EVEN, height),
        min(-(-int(right) // EVEN) * EVEN, width),
    )


BAND = 64
"""Output rows that are made at a time: what is in between stays in a core's cache."""


MOST_KEPT = 16
"""Scratch arrays; videos of many sizes must not pile them up."""


@dataclass(frozen=True)
class _Taps:
    """Where an output pixel's source pixels are, and their weights.

    where: flat positions [2 or 1, crop, 2 or 1, crop]: (upper, lower), y, (left, right), x; one
    where the second one's weights are all zero. wy [crop, 1], wx [crop * pixel].
    """

    where: NDArray[np.intp]
    wy: NDArray[np.float32]
    wx: NDArray[np.float32]


@lru_cache(maxsize=24)  # 2 MB each at a crop of 256
def _taps(
    size: tuple[int, int], view: ViewConfig, index: int, corner: tuple[int, int], pitch: int
) -> _Taps:
    """For pictures that begin at `corner` (top, left) of a frame of `size`, `pitch` to a row."""
    height, width = size
    tall, wide = fitted_size(height, width, view)
    top, left = crop_corner(tall, wide, view.crop, index)
    *ys, wy = _axis(height, tall, top, view.crop)
    *xs, wx = _axis(width, wide, left, view.crop)
    y = np.stack(ys if wy.any() else ys[:1]) - corner[0]
    x = np.stack(xs if wx.any() else xs[:1]) - corner[1]
    return _Taps(y[:, :, None, None] * pitch + x, wy[:, None], wx)


class _Scratch(threading.local):
    """Buffers of one thread, kept from frame to frame: fresh memory costs as much as the work."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array of any content, valid until the same one is asked for again."""
        if len(self._kept) > MOST_KEPT:
            self._kept.clear()
        if (name, shape) not in self._kept:
            self._kept[name, shape] = np.empty(shape, dtype)
        return self._kept[name, shape]


_SCRATCH = _Scratch()


def _gather(pixels: NDArray[np.uint8], where: NDArray[np.intp]) -> NDArray[np.uint8]:
    """The pixels [rows, pitch, 3 or 4] at flat positions: [..., crop * 3 or 4]."""
    channels = pixels.shape[2]
    *rest, crop = where.shape
    if channels == 4:
        found = _SCRATCH.get("pixels", where.shape, np.uint32)
        pixels.reshape(-1).view(np.uint32).take(where, out=found, mode="clip")
        return found.view(np.uint8)
    found = pixels.reshape(-1, channels).take(where.ravel(), axis=0)
    return found.reshape(*rest, crop * channels)


def _blend(
    corners: NDArray[np.uint8], wx: NDArray[np.float32], wy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Source pixels [2 or 1, y, 2 or 1, x] -> bilinear float32 [y, x]; wx [x], wy [y, 1].

    a + (b - a) * w along x, then along y. The result is scratch.
    """
    vertical, height, horizontal, width = corners.shape
    rows = _SCRATCH.get("rows", (vertical, height, width), np.float32)
    rows[...] = corners[:, :, 0]
    if horizontal == 2:
        step = _SCRATCH.get("step", rows.shape, np.float32)
        step[...] = corners[:, :, 1]
        step -= rows
        step *= wx
        rows += step
    if vertical == 2:
        upper, lower = rows
        lower -= upper
        lower *= wy
        upper += lower
    return rows[0]


def prepare(image: NDArray[np.uint8], view: ViewConfig, *, cut: Cut | None = None) -> Prepared:
    """RGB [H, W, 3] -> [V, crop, crop, 3] float32, normalised.

    cut: `image` is a part of a frame as `CuttableFrame.cut` gives it.
    """
    size = cut.size if cut else (image.shape[0], image.shape[1])
    corner = (cut.box.top, cut.box.left) if cut else (0, 0)
    image = np.ascontiguousarray(image)
    channels = image.shape[2]
    mean, std = np.asarray(view.mean, np.float32), np.asarray(view.std, np.float32)
    scale, shift = 1 / (255 * std), np.tile(mean / std, view.crop)
    out = np.empty((view.views, view.crop, view.crop, 3), np.float32)
    for slot, index in enumerate(view.places):
        taps = _taps(size, view, index, corner, image.shape[1])
        wx = np.repeat(taps.wx, channels)
        for top in range(0, view.crop, BAND):
            band = slice(top, top + BAND)
            levels = _blend(_gather(image, taps.where[:, band]), wx, taps.wy[band])
            if view.resize == "uint8":
                np.rint(levels, out=levels)
            levels = levels.reshape(-1, view.crop, channels)
            target = out[slot, band]
            for c in range(3):
                np.multiply(levels[:, :, c], scale[c], out=target[:, :, c])
            flat = target.reshape(len(target), -1)
            flat -= shift
    if view.flip:
        out[view.crops :] = out[: view.crops, :, ::-1]
    return out


@dataclass(frozen=True)
class Cut:
    """Which box of a frame of `size` (height, width) a picture is."""

    size: tuple[int, int]
    box: Box


def prepare_frame(frame: Frame, view: ViewConfig) -> Prepared:
    """`prepare(frame.rgb(), view)` by the shortest way that the frame has."""
    if isinstance(frame, CuttableFrame):
        cut = Cut(frame.size, needed(*frame.size, view))
        pixels = frame.cut(cut.box)
        if pixels is not None:
            return prepare(pixels, view, cut=cut)
    return prepare(frame.rgb(), view)


def uncropped(view: ViewConfig) -> ViewConfig:
    """What decides the working resolution of a view, and nothing else."""
    return ViewConfig(view.short_side, 1, (), (), fit=view.fit, long_side=view.long_side)


def resize(image: Image, view: ViewConfig) -> Image:
    """The whole RGB picture [H, W, 3] at the working resolution of a view, rounded to levels.

    The same numbers as `prepare`: a crop of it is what `resize="uint8"` gives.
    """
    height, width, _ = image.shape
    tall, wide = fitted_size(height, width, view)
    if (tall, wide) == (height, width):
        return image
    y0, y1, wy = _axis(height, tall, 0, tall)
    x0, x1, wx = _axis(width, wide, 0, wide)
    sides = [image[np.stack([y0, y1])].take(x, axis=2).reshape(2, tall, -1) for x in (x0, x1)]
    blended = _blend(np.stack(sides, axis=2), np.repeat(wx, 3), wy[:, None])
    return np.rint(blended).astype(np.uint8).reshape(tall, wide, 3)


def prepare_flow(flow: NDArray[np.float32], view: ViewConfig) -> Prepared:
    """Flow [H, W, 2] in [-1, 1] at the working resolution -> [V, crop, crop, 2], normalised.

    [-1, 1] counts as pixels in [0, 1], so mean = std = 0.5 changes nothing. A mirrored view moves
    the other way: its horizontal component changes sign.
    """
    height, width, _ = flow.shape
    mean, std = np.asarray(view.mean, np.float32), np.asarray(view.std, np.float32)
    scale, shift = np.float32(0.5) / std, (np.float32(0.5) - mean) / std
    out = np.empty((view.views, view.crop, view.crop, FLOW), np.float32)
    for slot, index in enumerate(view.places):
        top, left = crop_corner(height, width, view.crop, index)
        part = flow[top : top + view.crop, left : left + view.crop]
        out[slot] = part * scale + shift
        if view.flip:
            mirrored = part[:, ::-1] * np.array([-1, 1], np.float32)
            out[view.crops + slot] = mirrored * scale + shift
    return out


def split_view(view: ViewConfig) -> tuple[ViewConfig, ViewConfig]:
    """A view of RGB and flow (5 channels) as one of RGB and one of flow."""
    rgb = replace(view, mean=view.mean[:-FLOW], std=view.std[:-FLOW])
    return rgb, replace(view, mean=view.mean[-FLOW:], std=view.std[-FLOW:])


def black(view: ViewConfig, *, mean_colour: bool = False) -> Prepared:
    """A black frame, as normalised; no motion where the channels are optical flow.

    mean_colour: one of the mean colour instead, which is zero when normalised.
    """
    shape = (view.views, view.crop, view.crop, len(view.mean))
    mean, std = np.asarray(view.mean, np.float32), np.asarray(view.std, np.float32)
    level = np.zeros_like(mean)
    if len(level) != 3:
        level[-FLOW:] = 0.5
    if mean_colour:
        level = mean
    return np.broadcast_to((level - mean) / std, shape)


def to_clip(frames: Sequence[Prepared]) -> Tensor:
    """W prepared frames -> [V, C, W, H, W'] float32, laid out channels-last in memory."""
    import torch

    stacked = np.stack(frames, axis=1)  # V T H W C
    return torch.from_numpy(stacked).permute(0, 4, 1, 2, 3)


def to_pixels(frame: Prepared, view: ViewConfig) -> Image:
    """Back to RGB uint8 [V, H, W, 3], to look at what the network saw."""
    mean, std = np.asarray(view.mean, np.float32), np.asarray(view.std, np.float32)
    return np.clip(np.rint((frame * std + mean) * 255), 0, 255).astype(np.uint8)


def reference_view(frames: NDArray[np.uint8], view: ViewConfig, index: int = 1) -> Tensor:
    """The readable form: RGB [T, H, W, 3] -> [3, T, crop, crop], whole frames in float."""
    import torch
    from torch.nn.functional import interpolate

    clip = torch.from_numpy(frames).float() / 255.0
    clip = ((clip - torch.tensor(view.mean)) / torch.tensor(view.std)).permute(3, 0, 1, 2)
    tall, wide = fitted_size(frames.shape[1], frames.shape[2], view)
    clip = interpolate(clip, size=(tall, wide), mode="bilinear", align_corners=False)
    top, left = crop_corner(tall, wide, view.crop, index)
    return clip[:, :, top : top + view.crop, left : left + view.crop]
