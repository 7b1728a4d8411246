"""One input, and the kinds of names there are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import urlsplit

from tubelet.errors import UsageError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts",
    ".mts", ".flv", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".gif", ".y4m", ".f4v",
    ".divx", ".rm", ".rmvb", ".dv", ".wtv", ".ogg", ".ogm", ".ivf", ".h264", ".264", ".h265",
    ".hevc", ".mjpeg", ".mjpg", ".nut", ".qt",
})
# fmt: on
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".jsonl"})
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
URL_SCHEMES = ("http://", "https://")
SYNTHETIC = "synthetic:"


@dataclass(frozen=True)
class Input:
    """One video, or a part of it: [start_s, end_s) seconds or frames [start_frame, stop_frame).

    path: a file, a folder of frames, a URL, `synthetic:...`, or a tar whose `member` is meant.
    start_frame, stop_frame: numbers of the video's own frames in display order, from 0.
    fps, pattern: of a folder of frames, its rate and which of its files are the frames.
    """

    id: str
    path: str
    start_s: float | None = None
    end_s: float | None = None
    member: str | None = None
    fps: Fraction | None = None
    pattern: str | None = None
    start_frame: int | None = None
    stop_frame: int | None = None

    @property
    def shown(self) -> str:
        """For messages and files: a URL without its credentials, a tar with its member."""
        if self.member is not None:
            return f"{self.path}!{self.member}"
        return public_url(self.path) if is_url(self.path) else self.path


def is_url(text: str) -> bool:
    return text.lower().startswith(URL_SCHEMES)


def check_name(text: str, *, where: str) -> None:
    """UsageError for a path, URL or id that no file system and no server can have.

    where: what the message begins with: the argument, or list and line.
    """
    shown = ascii(text[:80])
    if "\0" in text:
        raise UsageError(f"{where}: {shown} holds a NUL character; no file has such a name")
    try:
        # Bytes of a file name that are not UTF-8 come as U+DC80 to U+DCFF; other halves of a
        # surrogate pair stand for nothing.
        text.encode("utf-8", "strict" if is_url(text) else "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(
            f"{where}: {shown} holds half of a surrogate pair, which is no character; "
            "write the name in UTF-8"
        ) from None
    if is_url(text):
        try:
            parts = urlsplit(text)
            host = parts.hostname if parts.port != 0 else None
        except ValueError as error:
            raise UsageError(f"{where}: {shown} is not a URL: {error}") from None
        if not host:
            raise UsageError(f"{where}: {shown} is not a URL: it names no host")


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
