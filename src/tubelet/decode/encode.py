"""FRAMES -> a video file, with FFmpeg through PyAV.

For test material, flow pictures and the training test bed: small files whose every property
(timestamps, reference structure, colour tags, rotation) is chosen, not found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from tubelet.errors import UnknownName, UsageError, VideoError, did_you_mean
from tubelet.types import Image

ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "mpeg4": "mpeg4",
    "mpeg2": "mpeg2video",
    "mjpeg": "mjpeg",
    "ffv1": "ffv1",
}
FAST = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none:pools=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20"},
    "libsvtav1": {"preset": "12", "crf": "8"},
    "mpeg4": {"qscale": "3"},
    "mjpeg": {"qscale": "3"},
}
MATRICES = {"bt601": (5, 6), "bt709": (1, 1), "bt2020": (9, 9)}
"""swscale's number of the matrix, and the stream's tag (H.273, table 4)."""


@dataclass(frozen=True)
class Encoding:
    """How to encode. Names that FFmpeg knows are accepted beside those of ENCODERS.

    gop: at most so many frames from key frame to key frame. b_frames: most B-frames in a row,
    None for the encoder's choice. matrix, full_range: tags, and the conversion from RGB; None
    leaves the file untagged and converts as FFmpeg reads an untagged file (601, limited).
    rotation: degrees clockwise that a player must turn the stored picture. container: FFmpeg's
    name, None for the suffix. options, container_options: passed to the encoder and the muxer,
    over FAST. size: (width, height) that pictures are scaled to, None for their own.
    """

    codec: str = "h264"
    fps: Fraction = Fraction(25)
    pixel_format: str = "yuv420p"
    gop: int = 12
    b_frames: int | None = None
    matrix: Literal["bt601", "bt709", "bt2020"] | None = None
    full_range: bool | None = None
    rotation: int = 0
    container: str | None = None
    options: dict[str, str] = field(default_factory=dict[str, str])
    container_options: dict[str, str] = field(default_factory=dict[str, str])
    size: tuple[int, int] | None = None


def encode(
    frames: Iterable[Image],
    path: str | os.PathLike[str],
    *,
    encoding: Encoding | None = None,
    times_s: Sequence[Fraction] | None = None,
) -> Path:
    """Write uint8 pictures [H, W, 3] as one video; frame i appears at times_s[i], or at i / fps.

    Written beside `path` and renamed, so that a file of that name is complete. Raises
    UsageError for arguments that do not fit, VideoError where FFmpeg cannot write.
    """
    target, encoding = Path(path), encoding or Encoding()
    partial = target.with_name(f"{target.stem}.part-{os.getpid()}{target.suffix}")
    try:
        with (
            own_schedule(),
            av.open(
                str(partial), "w", format=encoding.container, options=encoding.container_options
            ) as container,
        ):
            assert isinstance(container, OutputContainer)
            _write(container, frames, encoding, times_s)
        os.replace(partial, target)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{target}: cannot be written as {encoding.codec}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


@contextmanager
def own_schedule() -> Iterator[None]:
    """This thread is scheduled as before when the block ends.

    For root, SVT-AV1 gives the thread that opens it the highest real-time priority, and every
    process that is started from there inherits it.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def _write(
    container: OutputContainer,
    frames: Iterable[Image],
    encoding: Encoding,
    times_s: Sequence[Fraction] | None,
) -> None:
    stream, convert, base = None, _Converter(encoding), _time_base(encoding, times_s)
    index = -1
    for index, picture in enumerate(frames):
        if stream is None:
            width, height = encoding.size or picture.shape[1::-1]
            stream = add_video_stream(container, encoding, width=width, height=height)
            stream.codec_context.time_base = base
        if times_s is not None and index >= len(times_s):
            raise UsageError(f"{len(times_s)} times for more frames than that")
        shown = times_s[index] if times_s is not None else index / encoding.fps
        frame = convert(picture)
        frame.time_base, frame.pts = base, int(shown / base)
        container.mux(list(stream.encode_lazy(frame)))
    if stream is None:
        raise UsageError("no frames to encode")
    if times_s is not None and len(times_s) != index + 1:
        raise UsageError(f"{len(times_s)} times for {index + 1} frames")
    container.mux(list(stream.encode_lazy(None)))


def _time_base(encoding: Encoding, times_s: Sequence[Fraction] | None) -> Fraction:
    """A unit in which every time is a whole number, as far as the containers allow."""
    if times_s is None:
        return 1 / encoding.fps
    return Fraction(1, lcm(*(Fraction(time).denominator for time in times_s)))


def add_video_stream(
    container: OutputContainer, encoding: Encoding, *, width: int, height: int
) -> VideoStream:
    """A stream with the properties of `encoding`; frames must be in its pixel format."""
    name = ENCODERS.get(encoding.codec, encoding.codec)
    if name not in av.codecs_available:
        raise UnknownName(f"codec {name!r} is not known{did_you_mean(name, ENCODERS)}")
    stream = container.add_stream(
        name, rate=encoding.fps, options={**FAST.get(name, {}), **encoding.options}
    )
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = width, height
    stream.pix_fmt = encoding.pixel_format
    context = stream.codec_context
    context.gop_size = encoding.gop
    context.thread_count = 1
    if encoding.b_frames is not None:
        context.max_b_frames = encoding.b_frames
    if encoding.matrix is not None:
        _, tag = MATRICES[encoding.matrix]
        context.colorspace = context.color_primaries = context.color_trc = tag
        if encoding.matrix == "bt2020":
            context.color_trc = 14
    if encoding.full_range is not None:
        context.color_range = ColorRange.JPEG if encoding.full_range else ColorRange.MPEG
    if encoding.rotation:
        stream.set_display_rotation(-encoding.rotation)
    return stream


class _Converter:
    """RGB pictures -> frames in the pixel format, matrix and range of an encoding."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._reformatter = VideoReformatter()

    def __call__(self, picture: Image) -> VideoFrame:
        encoding = self._encoding
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if encoding.pixel_format == "rgb24" and encoding.size is None:
            return rgb
        width, height = encoding.size or (rgb.width, rgb.height)
        matrix, _ = MATRICES[encoding.matrix or "bt601"]
        full = encoding.full_range or encoding.pixel_format.startswith("yuvj")
        frame = self._reformatter.reformat(
            rgb,
            width,
            height,
            format=encoding.pixel_format,
            dst_colorspace=matrix,
            dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
        )
        if encoding.matrix is None:
            frame.colorspace = 2
        if encoding.full_range is None and not full:
            frame.color_range = ColorRange.UNSPECIFIED
        return frame


def jpeg(picture: Image, *, quality: int = 4) -> bytes:
    """One uint8 picture [H, W, 3] as a baseline JPEG file, colours at full resolution.

    quality: FFmpeg's quantiser, 2 (best) to 31.
    """
    context = av.CodecContext.create("mjpeg", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.color_range = "yuvj444p", ColorRange.JPEG
    context.time_base, context.thread_count = Fraction(1, 25), 1
    context.options = {"qmin": str(quality), "qmax": str(quality)}
    frame = _Converter(Encoding("mjpeg", pixel_format="yuvj444p"))(picture)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
