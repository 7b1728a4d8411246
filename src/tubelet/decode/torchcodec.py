"""An optional reader: torchcodec. Slower than PyAV in every measurement made so far
(docs/decoding.md); it is here for machines where it decodes on another device one day.

It is measured wrong or unable on MPEG-TS, AVI and edit lists (frames lost), on damaged files (it
stops at the first error) and offers no choice of matrix: such files are refused, naming PyAV.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tubelet.decode.container import open_container, start_time, video_stream
from tubelet.decode.pyav import PyAVReader
from tubelet.decode.scan import scan
from tubelet.decode.types import Color
from tubelet.errors import DamagedVideo, UnsupportedVideo, UsageError
from tubelet.types import DecodeEvents, Image, VideoInfo

READS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
WAY_OUT = "use backend 'pyav'"


@dataclass(frozen=True, slots=True)
class TorchcodecFrame:
    index: int
    time_s: float
    duration_s: float
    _data: Any

    def rgb(self) -> Image:
        return self._data.numpy().copy()


class TorchcodecReader:
    """types.VideoReader on torchcodec's exact mode, which scans the file when it opens it."""

    def __init__(self, path: str, *, color: Color = "auto", threads: int = 1) -> None:
        decoder_class = _decoder_class()
        if color != "auto":
            raise UnsupportedVideo(f"{path}: torchcodec has no color={color!r}; {WAY_OUT}")
        with PyAVReader(path) as reader:
            self.info: VideoInfo = replace(reader.info, backend="torchcodec")
        if self.info.container not in READS:
            raise UnsupportedVideo(
                f"{path}: torchcodec loses frames of {self.info.container} files; {WAY_OUT}"
            )
        timeline = scan(path)
        if not timeline.exact:
            raise UnsupportedVideo(
                f"{path}: torchcodec is not trusted with this file ({timeline.reason}); {WAY_OUT}"
            )
        if timeline.hidden:
            raise UnsupportedVideo(f"{path}: torchcodec loses frames at edit lists; {WAY_OUT}")
        with open_container(path) as container:
            self._start = float(start_time(container))
            stream = video_stream(container, path).index
        try:
            self._decoder: Any = decoder_class(
                path, stream_index=stream, dimension_order="NHWC", num_ffmpeg_threads=threads
            )
        except (RuntimeError, ValueError) as error:
            raise UnsupportedVideo(f"{path}: torchcodec: {_line(error)}; {WAY_OUT}") from None
        self._frames: int = len(self._decoder)
        if self._frames != timeline.frames:
            raise UnsupportedVideo(
                f"{path}: torchcodec finds {self._frames} frames of {timeline.frames}; {WAY_OUT}"
            )
        self.events = DecodeEvents()

    def frames(self) -> Iterator[TorchcodecFrame]:
        self.events = DecodeEvents()
        before = None
        for index in range(self._frames):
            try:
                frame = self._decoder.get_frame_at(index)
            except (RuntimeError, IndexError) as error:
                raise DamagedVideo(
                    f"{self.info.path}: torchcodec stops at frame {index}: {_line(error)}; "
                    f"{WAY_OUT}, which reads on"
                ) from None
            if before is not None:
                yield self._frame(index - 1, before, until=frame.pts_seconds)
            before = frame
        if before is not None:
            # Files that state no duration get the average one, as from PyAV.
            lasts = before.duration_seconds or float(1 / self.info.fps)
            yield self._frame(self._frames - 1, before, until=before.pts_seconds + lasts)

    def _frame(self, index: int, frame: Any, *, until: float) -> TorchcodecFrame:
        if tuple(frame.data.shape[:2]) != (self.info.height, self.info.width):
            raise UnsupportedVideo(
                f"{self.info.path}: the size changes in mid-video; torchcodec is not trusted "
                f"with that; {WAY_OUT}"
            )
        shown = frame.pts_seconds
        return TorchcodecFrame(index, shown - self._start, until - shown, frame.data)

    def close(self) -> None:
        self._decoder = None

    def __enter__(self) -> TorchcodecReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _decoder_class() -> Any:
    """UsageError where torchcodec, or the FFmpeg libraries that it needs, cannot be loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoders: Any = importlib.import_module("torchcodec.decoders")
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            f"torchcodec cannot be loaded ({_line(error)}); install it with the system's FFmpeg "
            f"libraries, or {WAY_OUT}"
        ) from None
    return decoders.VideoDecoder


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
