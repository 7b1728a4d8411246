"""Which reader opens a path, and what every reader promises.

The protocol is `types.VideoReader`. Beyond its signatures, every backend keeps these promises,
and tests/decode holds each backend to all of them:

- Frames come in display order, each of the video's own frames exactly once. Nothing repeats,
  replaces or skips a frame without a count in `events`.
- `time_s` strictly increases; it is the frame's PTS minus the container's start time.
  `time_s + duration_s` of a frame is the `time_s` of the next one.
- `rgb()` is a fresh, writable, contiguous uint8 array [info.height, info.width, 3].
- `frames()` starts over each time it is called; `events` belongs to the latest pass.
- A reader that cannot keep these promises for a file refuses it and names a way out.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tubelet.decode.types import Color
from tubelet.errors import UnknownName, UsageError, VideoError, did_you_mean
from tubelet.types import VideoReader

if TYPE_CHECKING:
    from tubelet.decode.scan import Timeline

BACKENDS = ("pyav", "torchcodec", "frames", "synthetic")
SYNTHETIC = "synthetic:"


def open_video(
    path: str | os.PathLike[str] | VideoReader,
    backend: str = "auto",
    *,
    color: Color = "auto",
    threads: int = 1,
    fps: Fraction | float | str | None = None,
    pattern: str | None = None,
) -> VideoReader:
    """Open a video file, a folder of numbered frames or a `synthetic:` description.

    What is a reader already (`from_frames`) is given back.

    backend: "auto" takes "frames" for a folder, "synthetic" for `synthetic:...`, else "pyav".
    threads: decoder threads; more than one may lose readable frames of a damaged video.
    fps: frame rate of a folder of frames (required there, refused elsewhere).
    pattern: which files of such a folder are its frames, as in `img_%05d.jpg`; needed where they
    have no numbers in common or are named in several ways.
    Close the reader, or use it in a `with` block.

    Raises VideoError (NotAVideo, EmptyVideo, UnsupportedVideo) for the file, UsageError for
    the arguments.
    """
    if not isinstance(path, (str, os.PathLike)):
        return _as_reader(path, backend=backend, fps=fps, pattern=pattern)
    name = os.fspath(path)
    kind = _choose(name, backend)
    if color not in get_args(Color):
        raise UnknownName(f"color {color!r} is not one of {', '.join(get_args(Color))}")
    if threads < 1:
        raise UsageError(f"threads must be 1 or more, not {threads}")
    if fps is not None and kind != "frames":
        raise UsageError(f"fps is for folders of frames; {name!r} has its own timestamps")
    if pattern is not None and kind != "frames":
        raise UsageError(f"pattern is for folders of frames; {name!r} is none")
    if kind == "synthetic":
        from tubelet.decode.synthetic import SyntheticReader

        return SyntheticReader(name)
    _must_exist(name)
    if kind == "frames":
        from tubelet.decode.frames_dir import FramesReader

        return FramesReader(name, fps=fps, pattern=pattern)
    _must_be_a_file(name)
    if kind == "torchcodec":
        from tubelet.decode.torchcodec import TorchcodecReader

        return TorchcodecReader(name, color=color, threads=threads)
    from tubelet.decode.pyav import PyAVReader

    return PyAVReader(name, color=color, threads=threads)


def _as_reader(video: Any, *, backend: str, **of_folders: object) -> VideoReader:
    """UsageError for what is neither a path nor a reader, and for options that it would ignore."""
    if not all(hasattr(video, name) for name in ("info", "events", "frames", "close")):
        raise UsageError(
            f"{type(video).__name__} is no path; for frames in memory: "
            "tubelet.from_frames(frames, fps=25)"
        )
    given = [name for name, value in of_folders.items() if value is not None]
    if given or backend != "auto":
        raise UsageError(f"{(given or ['backend'])[0]} is for paths; this video is open already")
    return video


def scan_video(
    path: str | os.PathLike[str],
    *,
    fps: Fraction | float | str | None = None,
    pattern: str | None = None,
) -> Timeline:
    """When the frames of an input appear, without decoding it; see scan.Timeline."""
    from tubelet.decode.scan import scan, timeline_of

    name = os.fspath(path)
    if _choose(name, "auto") != "pyav":
        with open_video(name, fps=fps, pattern=pattern) as reader:
            return timeline_of(reader)
    _must_exist(name)
    _must_be_a_file(name)
    return scan(name)


def video_seconds(
    path: str | os.PathLike[str],
    *,
    fps: Fraction | float | str | None = None,
    pattern: str | None = None,
) -> float:
    """How long an input is, by its header where that says it, else by its packets.

    A hint for planning work: nothing is decoded. Raises as `scan_video`.
    """
    from tubelet.decode.scan import header_seconds

    name = os.fspath(path)
    if _choose(name, "auto") == "pyav" and Path(name).is_file():
        promised = header_seconds(name)
        if promised is not None:
            return promised
    return scan_video(name, fps=fps, pattern=pattern).end_s


def _must_exist(name: str) -> None:
    if not Path(name).exists():
        what = "a link to what is not there" if Path(name).is_symlink() else "no such file"
        raise VideoError(f"{name}: {what}")


def _must_be_a_file(name: str) -> None:
    """A pipe or a device could block for ever."""
    if Path(name).is_dir():
        raise UsageError(f"{name}: a folder; this backend reads one video file")
    if not Path(name).is_file():
        raise VideoError(f"{name}: not a regular file")


def _choose(name: str, backend: str) -> str:
    if backend == "auto":
        if name.startswith(SYNTHETIC):
            return "synthetic"
        return "frames" if Path(name).is_dir() else "pyav"
    if backend not in BACKENDS:
        raise UnknownName(
            f"backend {backend!r} is not one of auto, {', '.join(BACKENDS)}"
            + did_you_mean(backend, BACKENDS)
        )
    return backend
