"""Contact sheets of exactly what the model saw, for people: OUT/debug/<id>/window-00000.png.

Frames in reading order, unscaled, with a grey line between them; a block per view. They come from
the very arrays that go into the network, normalised and back.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tubelet.clips.gather import Row
from tubelet.clips.modality import pictures
from tubelet.clips.transform import Prepared, ViewConfig
from tubelet.machine.atomic import atomic_file
from tubelet.store.png import write_png
from tubelet.types import Image

GAP, GREY = 2, 128


def contact_sheet(frames: list[Prepared], view: ViewConfig) -> Image:
    """W prepared frames [V, crop, crop, C] -> one picture, a block of frames per view.

    Flow comes after RGB, as colours.
    """
    columns = math.ceil(math.sqrt(len(frames)))
    lines = math.ceil(len(frames) / columns)
    cell = view.crop + GAP
    shown = [pictures(frame, view) for frame in frames]
    sheet = np.full((len(shown[0]) * lines * cell + GAP, columns * cell + GAP, 3), GREY, np.uint8)
    for i, blocks in enumerate(shown):
        for v, picture in enumerate(blocks):
            top = (v * lines + i // columns) * cell + GAP
            left = i % columns * cell + GAP
            sheet[top : top + view.crop, left : left + view.crop] = picture
    return sheet


def write_sheet(out: Path, identity: str, row: Row[Prepared], view: ViewConfig) -> None:
    """The sheet of one window. StoreError when it cannot be written."""
    path = out / "debug" / identity / f"window-{row.window.index:05d}.png"
    with atomic_file(path) as file:
        write_png(file, contact_sheet(row.pixels, view))
