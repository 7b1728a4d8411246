"""What the model saw: the frames of chosen rows, decoded again through the run's own recipe."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.clips.modality import pictures
from tubelet.clips.transform import CENTRE, Prepared, ViewConfig
from tubelet.decode.base import open_video
from tubelet.decode.encode import jpeg
from tubelet.errors import VideoError
from tubelet.extraction.lanes import Lane, each_row
from tubelet.extraction.recording import Tally
from tubelet.inputs import find_source, on_disk
from tubelet.store.png import write_png
from tubelet.types import Image

THUMB = 128
"""Side of a frame on a sheet."""
FRAMES = 16
"""Frames of a window that a sheet shows, over all views."""
SLACK_S = 1e-6
GAP, GREY = 2, 128


@dataclass(frozen=True)
class Sheet:
    """Frames of one row, as the network got them. shown: which of the window's W; lines: what each
    line of pictures is (views, flow); data: a JPEG as a data URI, size [width, height]."""

    row: int
    shown: tuple[int, ...]
    window: int
    lines: tuple[str, ...]
    data: str
    size: tuple[int, int]


def rows_of(
    record: Mapping[str, Any], lane: Lane, wanted: Sequence[int], *, roots: Sequence[str | Path]
) -> Iterator[Row[Prepared]]:
    """The wanted rows of a video with their pixels, in order; decoding stops after the last one.

    record: the sidecar. VideoError when the source is not at hand, has changed, or gives other
    rows than those that were stored.
    """
    item = find_source(record, roots)
    left = set(wanted)
    frames = record.get("first_last_frame")
    with (
        on_disk(item) as path,
        open_video(path, color=lane.color, fps=item.fps, pattern=item.pattern) as reader,
    ):
        for _, row in each_row(reader, [lane], item.start_s, item.end_s, Tally()):
            index = row.window.index
            if index not in left:
                continue
            own = [row.window.own[0], row.window.own[-1]]
            known = index < len(record["start_s"])
            if (
                not known
                or abs(row.start_s - record["start_s"][index]) > SLACK_S
                or (frames and frames[index] != own)
            ):
                raise VideoError(f"it decodes differently now: row {index} is another one")
            yield row
            left.discard(index)
            if not left:
                return
    if left:
        raise VideoError(f"it decodes differently now: row {min(left)} is missing")


def sheet_of(row: Row[Prepared], view: ViewConfig) -> Sheet:
    """A contact sheet: up to FRAMES frames over all views, evenly from the first to the last."""
    window = len(row.pixels)
    lines = line_names(view)
    count = min(window, FRAMES if len(lines) == 1 else FRAMES // 2)
    shown = np.linspace(0, window - 1, count).round().astype(int).tolist()
    seen = [pictures(row.pixels[i], view) for i in shown]
    # One kind of picture fills two lines; several kinds have a line each.
    columns = -(-count // 2) if len(lines) == 1 and count > 8 else count
    pieces = [
        [frames[k] for frames in seen[start : start + columns]]
        for k in range(len(lines))
        for start in range(0, count, columns)
    ]
    side = min(THUMB, view.crop)
    cell = side + GAP
    sheet = np.full((len(pieces) * cell - GAP, columns * cell - GAP, 3), GREY, np.uint8)
    for y, line in enumerate(pieces):
        for x, picture in enumerate(line):
            sheet[y * cell : y * cell + side, x * cell : x * cell + side] = thumbnail(picture, side)
    size = (sheet.shape[1], sheet.shape[0])
    return Sheet(row.window.index, tuple(shown), window, lines, jpeg_uri(sheet), size)


def middle_of(row: Row[Prepared], view: ViewConfig, *, side: int = 96) -> str:
    """The middle frame of a row as a small JPEG data URI."""
    picture = pictures(row.pixels[len(row.pixels) // 2], view)[view.places.index(CENTRE)]
    return jpeg_uri(thumbnail(picture, min(side, view.crop)))


def line_names(view: ViewConfig) -> tuple[str, ...]:
    """What the pictures of one frame are, in the order of `pictures`."""
    where = ("first", "centre", "last", "upper left", "upper right", "lower left", "lower right")
    places = [where[index] for index in view.places] if view.crops > 1 else [""]
    views = [f"{place} crop".strip() if place else "" for place in places]
    if view.flip:
        views += [f"{name}, mirrored".removeprefix(", ") for name in views]
    kinds = {3: ("",), 2: ("flow",), 5: ("RGB", "flow")}[len(view.mean)]
    return tuple(" ".join(filter(None, (kind, name))) for kind in kinds for name in views)


def thumbnail(picture: Image, side: int) -> Image:
    """A smaller square picture; each pixel is the mean of what it stands for."""
    size = picture.shape[0]
    if size <= side:
        return picture
    edges = np.linspace(0, size, side + 1).round().astype(int)
    counts = np.diff(edges)
    sums = np.add.reduceat(picture.astype(np.uint32), edges[:-1], axis=0)
    sums = np.add.reduceat(sums, edges[:-1], axis=1)
    return np.rint(sums / (counts[:, None] * counts)[..., None]).astype(np.uint8)


def jpeg_uri(picture: Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, quality=5)).decode()


VIRIDIS = np.array([
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129),
    (92, 200, 99), (170, 220, 50), (253, 231, 37),
], np.float32)  # fmt: skip
"""Equal steps look equal, also in grey (van der Walt and Smith 2015)."""


def colours(values: NDArray[np.floating[Any]], low: float, high: float) -> Image:
    """Numbers as colours: low is dark, high is light."""
    place = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * (len(VIRIDIS) - 1)
    below = np.minimum(place.astype(int), len(VIRIDIS) - 2)
    share = (place - below)[..., None]
    return np.rint(VIRIDIS[below] * (1 - share) + VIRIDIS[below + 1] * share).astype(np.uint8)


def png_uri(picture: Image) -> str:
    file = io.BytesIO()
    write_png(file, picture)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
