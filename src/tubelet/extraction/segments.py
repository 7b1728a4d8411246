"""Many segments of few videos: `tubelet.extract_segments`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor
from tubelet.types import Features

Segment = tuple[str, float | None, float | None]
"""(path, start_s, end_s); None for the video's own start or end."""


def extract_segments(
    segments: Iterable[Segment],
    model: Any = "i3d_inception.k400",
    **choices: Any,
) -> list[Features]:
    """Features of [start_s, end_s) of each (path, start_s, end_s), in the order given.

    model, choices: as for `Extractor`, or a ready `Extractor`. Only the segments are decoded, from
    a key frame before each; rows are those of a pass over the whole video, byte for byte.

    Raises UsageError for what is no segment, and what the first failing segment raises.
    """
    wanted: list[Segment] = []
    for number, segment in enumerate(segments):
        if isinstance(segment, str) or len(segment) != 3:
            raise UsageError(f"segment {number} is {segment!r}: need (path, start_s, end_s)")
        wanted.append(segment)
    extractor = model if isinstance(model, Extractor) else Extractor(model, **choices)
    # Those of one video after each other: its packets are then read once.
    order = sorted(range(len(wanted)), key=lambda k: (str(wanted[k][0]), wanted[k][1] or 0.0))
    found: dict[int, Features] = {}
    for k in order:
        path, start_s, end_s = wanted[k]
        found[k] = extractor(path, start_s=start_s, end_s=end_s)
    return [found[k] for k in range(len(wanted))]
