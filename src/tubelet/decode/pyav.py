"""The default reader: FFmpeg through PyAV, sequential, packet by packet.

    demux ─▶ packet ─▶ decoder ─▶ frame ─▶ clock ─▶ Frame ─(rgb() called)─▶ picture
               │          │         │        │
               │          │         │        └ bad_timestamps       counts in `events`
               │          │         └ corrupt_frames, size_changes
               └──────────┴ corrupt_packets, missing_frames

A packet that the decoder refuses is counted and the next one is tried, so that the readable part
of a damaged video is used. A frame that the decoder marks as damaged is kept, because dropping it
would move the index of every later frame, and counted (damage.py).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tubelet.decode.clock import Clock, DecodeOrder, DisplayOrder
from tubelet.decode.container import (
    MAX_PIXELS,
    check_size,
    fraction,
    frame_rate,
    has_no_pts,
    open_container,
    reason,
    start_time,
    stream_seconds,
    time_base,
    video_stream,
)
from tubelet.decode.damage import Damage
from tubelet.decode.demux import Demuxer
from tubelet.decode.holes import has_lost_bytes
from tubelet.decode.picture import ToRGB, knows_tags, orientation
from tubelet.decode.types import Color
from tubelet.errors import EmptyVideo
from tubelet.types import Box, DecodeEvents, Image, VideoInfo


@dataclass(frozen=True, slots=True)
class PyAVFrame:
    """One decoded frame. It keeps its decoder picture alive: keep what `rgb()` gives instead."""

    index: int
    time_s: float
    duration_s: float
    _picture: VideoFrame
    _to_rgb: ToRGB

    def rgb(self) -> Image:
        return self._to_rgb(self._picture)

    @property
    def size(self) -> tuple[int, int]:
        return self._to_rgb.size

    def cut(self, box: Box) -> Image | None:
        return self._to_rgb.cut(self._picture, box)


class PyAVReader:
    """types.VideoReader on PyAV. The first frame is decoded when the reader is made: only then
    are size and rotation known."""

    def __init__(self, path: str, *, color: Color = "auto", threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self._pass = _Pass(path, threads)
        try:
            self.info = _describe(self._pass, path)
            first = self._pass.first
            self.coded_size = first.width, first.height
            self.to_rgb = ToRGB(
                path=path,
                legacy601=color == "legacy601",
                upright=orientation(first),
                first=first,
            )
        except BaseException:
            self._pass.close()
            raise

    @property
    def events(self) -> DecodeEvents:
        return self._pass.events

    def frames(self) -> Iterator[PyAVFrame]:
        if self._pass.used:
            self._pass.close()
            self._pass = _Pass(self._path, self._threads)
        self._pass.used = True
        return self._timed(self._pass)

    def _timed(self, run: _Pass) -> Iterator[PyAVFrame]:
        """Two frames of look-ahead: a frame lasts until the next one appears, and the time of
        that one may need the PTS of the one after."""
        clock = Clock(start=run.start, rate=run.rate, events=run.events)
        before: tuple[Fraction, VideoFrame] | None = None
        index = 0
        for picture, pts, after in _with_next(run.pictures()):
            time = clock.time(pts, after=after)
            if before is not None:
                shown, last = before
                yield PyAVFrame(index, float(shown), float(time - shown), last, self.to_rgb)
                index += 1
            before = (time, picture)
            del picture
        if before is not None:
            shown, last = before
            lasts = last.duration * run.time_base if last.duration > 0 else 1 / run.rate
            run.damage.end(ends=run.start + shown + lasts)
            yield PyAVFrame(index, float(shown), float(lasts), last, self.to_rgb)

    def close(self) -> None:
        self._pass.close()

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _with_next(
    pictures: Iterator[tuple[VideoFrame, Fraction | None]],
) -> Iterator[tuple[VideoFrame, Fraction | None, Fraction | None]]:
    """(picture, its PTS, PTS of the next picture)."""
    held = next(pictures, None)
    for following in pictures:
        assert held is not None
        yield (*held, following[1])
        held = following
        del following
    if held is not None:
        yield (*held, None)


class _Pass:
    """One run through the file, from opening it to the end; the first frame is ready."""

    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        self.used = False
        self.events = DecodeEvents()
        self.container: InputContainer = open_container(path)
        try:
            self.stream: VideoStream = video_stream(self.container, path)
            context = self.stream.codec_context
            context.thread_type = "NONE" if threads == 1 else "AUTO"
            context.thread_count = threads
            context.options = {"max_pixels": str(MAX_PIXELS)}
            self.start = start_time(self.container)
            self.time_base = time_base(self.stream)
            self.rate, self.rate_note = frame_rate(self.stream)
            self.times = DecodeOrder() if has_no_pts(self.container) else DisplayOrder()
            self.demuxer = Demuxer(self.container, self.stream, path)
            self.damage = Damage(
                self.stream, self.events, self.demuxer, lambda: has_lost_bytes(self.stream, path)
            )
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise EmptyVideo(self._nothing())
            self.first = first[0]
            self._waiting = [first]
        except BaseException:
            self.container.close()
            raise

    def pictures(self) -> Iterator[tuple[VideoFrame, Fraction | None]]:
        """Every frame with its PTS in seconds; checks the size of each."""
        size = (self.first.width, self.first.height)
        del self.first
        while self._waiting:
            yield self._waiting.pop()
        for picture, pts in self._decoded:
            if (picture.width, picture.height) != size:
                check_size(picture.width, picture.height, self.path)
                self.events.size_changes += 1
                self.damage.say(
                    f"the size changes from {size[0]}x{size[1]} to "
                    f"{picture.width}x{picture.height}; pictures are scaled to the first size"
                )
                size = (picture.width, picture.height)
            yield picture, pts
            del picture

    def _decode(self) -> Generator[tuple[VideoFrame, Fraction | None]]:
        """Decode packet by packet; errors are counted, never raised."""
        for packet in self._packets():
            pictures: list[VideoFrame] = []
            refused, shown = None, 0
            if packet is not None:
                shown = self.demuxer.counter.shown(packet)
            try:
                pictures = self.stream.decode(packet)
            except av.error.FFmpegError as error:
                refused = reason(error)
            self.damage.packet(packet, refused=refused, shown=shown)
            if packet is not None and refused is None and shown:
                self.times.sent(packet, delayed=bool(self.stream.codec_context.has_b_frames))
            del packet
            while pictures:
                self.damage.frame(pictures[0])
                pts = self.times.shown(pictures[0])
                yield pictures.pop(0), None if pts is None else pts * self.time_base

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Packets of the stream, then None to flush the decoder. Like FFmpeg's command line,
        reading ends at the container's first error."""
        yield from self.demuxer.packets()
        if self.demuxer.stopped is not None:
            self.damage.stopped(self.demuxer.stopped)
        yield None

    def _nothing(self) -> str:
        refused = self.events.corrupt_packets
        why = f": {refused} packets refused ({'; '.join(self.events.messages)})" if refused else ""
        return f"{self.path}: its video stream has no frame that can be decoded{why}"

    def close(self) -> None:
        self._decoded.close()
        self.container.close()


def _describe(run: _Pass, path: str) -> VideoInfo:
    stream, container, first = run.stream, run.container, run.first
    check_size(first.width, first.height, path)
    upright = orientation(first)
    width, height = upright.size(first.width, first.height)
    duration = container.duration
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=run.rate,
        frames=stream.frames or None,
        duration_s=duration / 1_000_000 if duration and duration > 0 else None,
        start_s=float(run.start),
        codec=stream.codec_context.name,
        container=container.format.name,
        pixel_format=first.format.name,
        rotation=upright.angle if upright.exact else 0,
        backend="pyav",
        size_bytes=os.stat(path).st_size,
        notes=tuple(_notes(run)),
        stream_s=stream_seconds(stream),
    )


def _notes(run: _Pass) -> Iterator[str]:
    stream, first, upright = run.stream, run.first, orientation(run.first)
    if run.rate_note:
        yield run.rate_note
    if has_no_pts(run.container):
        yield "AVI has no PTS: frames are timed by their place in the file"
    count = len(run.container.streams.video)
    if count > 1:
        yield f"stream {stream.index} taken of {count} video streams"
    if not upright.exact:
        yield f"rotation by {upright.angle} degrees is not applied: no multiple of 90"
    elif upright.mirrored:
        yield "mirrored, as the display matrix asks"
    aspect = fraction(stream.codec_context.sample_aspect_ratio)
    if aspect and aspect != 1:
        yield f"pixel aspect {aspect.numerator}:{aspect.denominator} is ignored"
    if not knows_tags(first.color_trc, first.color_primaries):
        yield (
            f"colour tags that FFmpeg does not convert are ignored: transfer {first.color_trc}, "
            f"primaries {first.color_primaries}"
        )
    if first.interlaced_frame:
        yield "interlaced: fields are left woven together"
