"""One input, and the kinds of names there are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts",
    ".mts", ".flv", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".gif", ".y4m", ".f4v",
    ".divx",
})
# fmt: on
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
LIST_SUFFIXES = frozenset({".txt", ".csv", ".jsonl"})
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
URL_SCHEMES = ("http://", "https://")
SYNTHETIC = "synthetic:"


@dataclass(frozen=True)
class Input:
    """One video, or the part of it in [start_s, end_s) seconds.

    path: a file, a folder of frames, a URL, `synthetic:...`, or a tar whose `member` is meant.
    """

    id: str
    path: str
    start_s: float | None = None
    end_s: float | None = None
    member: str | None = None

    @property
    def shown(self) -> str:
        """For messages and files: a URL without its credentials, a tar with its member."""
        if self.member is not None:
            return f"{self.path}!{self.member}"
        return public_url(self.path) if is_url(self.path) else self.path


def is_url(text: str) -> bool:
    return text.lower().startswith(URL_SCHEMES)


def public_url(url: str) -> str:
    """Without user, password, query and fragment: any of them may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def suffix_of(name: str) -> str:
    """The lower-case extension of a file name; "" for names that only start with a dot."""
    return os.path.splitext(name)[1].lower()


def stem_of(name: str) -> str:
    """The last part of a path without its last extension."""
    return os.path.splitext(name.rstrip("/").rsplit("/", 1)[-1])[0]
