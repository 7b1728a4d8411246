"""Names that every reader of videos shares."""

from __future__ import annotations

from typing import Literal

Color = Literal["auto", "legacy601"]
"""auto: matrix and range of the file's tags, FFmpeg's default where it has none.
legacy601: the 601 limited-range matrix whatever the tags say, as older tools decoded."""
