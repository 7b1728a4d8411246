"""Opening a local file with FFmpeg, safely, and choosing its video stream."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import av
import av.error
from av.container import Container, InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from tubelet.errors import EmptyVideo, NotAVideo, UnsupportedVideo, VideoError

MAX_SIDE = 16_384
MAX_PIXELS = 2**27
"""Larger pictures are refused before they are allocated (16K UHD has 1.3e8 pixels)."""

TURNS, SLACK = 4, 16 << 20
"""No file gives more packets than TURNS times its size, and SLACK bytes: Matroska may put stripped
headers before each, but an index that points back gives them for ever."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,"
    "av1,obu,ivf,flv,live_flv,asf,ogg,nut,gif,apng,mxf,gxf,wtv,rm,dv,mjpeg,yuv4mpegpipe,nsv,vc1,"
    "dhav,swf,ty,dirac,wav,w64,mp3,flac,aac,ac3,eac3,aiff,amr,caf,au,dts"
)
"""Demuxers that may open a file. All of them keep to that one file: playlists and recipes
(hls, dash, concat, image2, lavfi, sdp, ...) may name other files or addresses and are left out.
The audio ones are here so that the message can say "no video stream"."""

UNDECODABLE_TEXT: Any = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""PyAV 18 refuses files whose title is not UTF-8 unless told otherwise; 19 reads them."""

FALLBACK_RATE = Fraction(25)
COVER_ART = Disposition.attached_pic | Disposition.timed_thumbnails


def open_container(path: str) -> InputContainer:
    """Open for demuxing. The file's contents decide, never its name; nothing but that one file
    can be read: its protocol is `file` and its demuxer one of CONTAINERS."""
    try:
        size = os.stat(path).st_size
        if size == 0:
            raise EmptyVideo(f"{path}: the file is empty (0 bytes)")
        return av.open(
            "file:" + os.path.abspath(path),
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": CONTAINERS,
            },
            **UNDECODABLE_TEXT,
        )
    except av.error.ArgumentError:
        raise NotAVideo(
            f"{path}: not a video container, or one that is not opened here (playlists, lists of "
            "files, formats that name other files)"
        ) from None
    except av.error.InvalidDataError:
        if _looks_encrypted(path):
            raise UnsupportedVideo(f"{path}: encrypted; decrypt it first") from None
        raise NotAVideo(
            f"{path}: FFmpeg finds no video in it (not a video, or its header is cut off)"
        ) from None
    except (EOFError, av.error.EOFError):
        raise EmptyVideo(f"{path}: it ends before the first packet") from None
    except PermissionError:
        raise VideoError(f"{path}: permission denied") from None
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path}: cannot be opened: {reason(error)}") from None


def _looks_encrypted(path: str) -> bool:
    """An MP4 whose only sample entry is `encv` (ISO 23001-7), which FFmpeg may not even open."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    return head[4:8] in (b"ftyp", b"styp", b"moov") and b"encv" in head and b"sinf" in head


def reason(error: Exception) -> str:
    """FFmpeg's sentence without its number and without our own path."""
    return str(getattr(error, "strerror", None) or error)


def video_stream(container: InputContainer, path: str) -> VideoStream:
    """FFmpeg's best video stream that is not cover art."""
    streams = container.streams
    if not streams.video:
        kinds = sorted({stream.type for stream in streams})
        what = f"only {' and '.join(kinds)}" if kinds else "its header is missing: cut off?"
        raise NotAVideo(f"{path}: no video stream ({what})")
    moving = [s for s in streams.video if not s.disposition & COVER_ART]
    if not moving:
        raise NotAVideo(f"{path}: no video stream (only cover art)")
    best = streams.best("video")
    stream = best if best in moving else max(moving, key=lambda s: s.width * s.height)
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:
        raise UnsupportedVideo(
            f"{path}: FFmpeg has no decoder for its codec; convert it to another"
        )
    check_size(stream.codec_context.width, stream.codec_context.height, path)
    return stream


def check_size(width: int, height: int, path: str) -> None:
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise UnsupportedVideo(
            f"{path}: {width}x{height} is more than the limit of {MAX_SIDE} pixels a side "
            f"and {MAX_PIXELS} in all; scale it down first"
        )


def check_end(read: int, size_bytes: int, path: str) -> None:
    """UnsupportedVideo for a file that has given more bytes of packets than it can have: its index
    points back, and it may never end."""
    if read > TURNS * size_bytes + SLACK:
        raise UnsupportedVideo(
            f"{path}: {read} bytes of packets came from a file of {size_bytes}: its index leads in "
            "circles; cut out its sound part (ffmpeg -t SECONDS -i in -c copy out.mkv)"
        )


def fraction(rational: Fraction | None) -> Fraction | None:
    """A rational of PyAV as Fraction (19 has its own type); None for none, 0 and 0/0."""
    return Fraction(rational.numerator, rational.denominator) if rational else None


def time_base(stream: Stream) -> Fraction:
    """Seconds per unit of the stream's timestamps."""
    return fraction(stream.time_base) or Fraction(1, 1000)


def start_time(container: InputContainer) -> Fraction:
    """The container's start in seconds. FFmpeg rounds it to microseconds: the stream that it
    came from gives the exact number. 0 where the container has none."""
    start = container.start_time
    if start is None:
        return Fraction(0)
    rounded = Fraction(start, 1_000_000)
    exact = [
        stream.start_time * time_base(stream)
        for stream in container.streams
        if stream.start_time is not None
    ]
    near = [value for value in exact if abs(value - rounded) <= Fraction(1, 1_000_000)]
    return min(near, default=rounded)


def stream_seconds(stream: VideoStream) -> float | None:
    """The stream's own duration; None where the header lacks it or a frame count (Matroska)."""
    if not stream.duration or stream.duration < 0 or not stream.frames:
        return None
    return float(stream.duration * time_base(stream))


def has_no_pts(container: Container) -> bool:
    """AVI stores one place in the file per frame, in decode order, and nothing else."""
    return container.format.name == "avi"


def frame_rate(stream: VideoStream) -> tuple[Fraction, str | None]:
    """The average rate, and a note where the file has none that makes sense."""
    for rate in map(fraction, (stream.average_rate, stream.guessed_rate, stream.base_rate)):
        if rate and Fraction(1, 1000) <= rate <= 1000:
            return rate, None
    return FALLBACK_RATE, f"no frame rate in the file: {FALLBACK_RATE} fps assumed where needed"
