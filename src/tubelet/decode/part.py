"""A part of a video, decoded from a key frame before it: the very frames of a pass over the whole.

    packets   I . . . . I . . . . I . . . .[. . . I . . . . I . . .]. . . .
                        landing   key      first               stop
                        └ decoded and dropped ┘└──── real ─────┘└ unread

Decoding starts at least one key frame earlier than needed, so pictures after an open group have all
that they refer to. What could make a part differ from the whole pass is not guessed but looked for,
and raises NotSplittable: a landing that is no intra picture, any error or damage, a picture of
another size, a PTS that is not the scan's. `marks` are checksums of pictures around the cuts: two
neighbours that decoded the same frames to the same pixels are known to go on alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn
from zlib import crc32

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tubelet.decode.container import open_container, reason, time_base, video_stream
from tubelet.decode.demux import Demuxer
from tubelet.decode.pyav import PyAVFrame, PyAVReader
from tubelet.decode.scan import Timeline
from tubelet.decode.types import Color
from tubelet.errors import NotSplittable
from tubelet.types import DecodeEvents, Image

OVERLAP = 16
"""Frames that two neighbours both decode and compare: no codec refers to more pictures."""

TRIES = 3
"""Key frames that are tried, from the last but one before the part backwards."""


@dataclass(frozen=True, slots=True)
class UnreadFrame:
    """A frame outside the part: its place and time are known, its picture is not."""

    index: int
    time_s: float
    duration_s: float
    unread: bool = True

    def rgb(self) -> Image:
        raise AssertionError(f"frame {self.index} is outside the part that is decoded")


class PartReader:
    """types.VideoReader of frames [first, stop) of `timeline`; the others come unread.

    marks: {index: checksum} of the first OVERLAP frames and of the OVERLAP frames from `stop` on.
    Raises NotSplittable while frames are drawn.
    """

    def __init__(
        self, path: str, timeline: Timeline, *, first: int, stop: int, color: Color = "auto"
    ) -> None:
        if timeline.entries is None:
            raise NotSplittable(f"{path}: its packets do not tell where decoding may begin")
        with PyAVReader(path, color=color) as reader:
            self.info = reader.info
            self._to_rgb = reader.to_rgb
            self._size = reader.coded_size
        self.events = DecodeEvents()
        self.marks: dict[int, int] = {}
        self._path, self._timeline, self._entries = path, timeline, timeline.entries
        self._first, self._stop = first, min(stop, timeline.frames)

    def frames(self) -> Iterator[PyAVFrame | UnreadFrame]:
        """Every frame of the video in order, with its time."""
        times, n = self._timeline.times_s, self._timeline.frames
        ends = [*times[1:].tolist(), self._timeline.end_s]
        for i in range(self._first):
            yield UnreadFrame(i, float(times[i]), ends[i] - float(times[i]))
        if self._first < self._stop:
            yield from self._real()
        for i in range(self._stop, n):
            yield UnreadFrame(i, float(times[i]), ends[i] - float(times[i]))

    def _real(self) -> Iterator[PyAVFrame]:
        times, n = self._timeline.times_s, self._timeline.frames
        with open_container(self._path) as container:
            stream = video_stream(container, self._path)
            unit = time_base(stream)
            for index, picture in self._pictures(container, stream):
                if index < self._first + OVERLAP or index >= self._stop:
                    self.marks[index] = crc32(self._to_rgb(picture).data)
                if index >= self._stop:
                    continue
                if index + 1 < n:
                    lasts = float(times[index + 1]) - float(times[index])
                else:
                    shown = picture.duration * unit if picture.duration > 0 else None
                    lasts = float(1 / self._timeline.fps if shown is None else shown)
                yield PyAVFrame(index, float(times[index]), lasts, picture, self._to_rgb)
                del picture

    def _pictures(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[int, VideoFrame]]:
        """(index, picture) from `first` on, up to OVERLAP frames beyond the part."""
        context = stream.codec_context
        context.thread_type, context.thread_count = "NONE", 1
        stamps, n = self._entries.stamps, self._timeline.frames
        last = min(n, self._stop + OVERLAP) - 1
        packets, landing = self._land(container, stream)
        expected = self._first
        for picture in self._decoded(stream, packets, before=int(stamps[landing])):
            index = self._index(picture)
            if index < landing:
                continue
            self._check(picture, landed=index == landing and landing > 0)
            if index < self._first:
                continue
            if index != expected:
                self._fail(f"frame {index} came where {expected} was expected")
            expected += 1
            yield index, picture
            if index == last and last < n - 1:
                return
        if expected != last + 1:
            self._fail(f"{last + 1 - expected} frames did not come")

    def _land(
        self, container: InputContainer, stream: VideoStream
    ) -> tuple[Iterator[Packet[VideoStream]], int]:
        """(packets, index of the key frame that they begin with); 0 for the video's start."""
        stamps, keys = self._entries.stamps, self._entries.keys
        candidates = [key for key in keys[keys <= self._first][-2::-1] if key > keys[0]][:TRIES]
        for key in candidates:
            container.seek(int(stamps[key]), stream=stream, backward=True)
            packets = self._packets(container, stream)
            packet = next((p for p in packets if p.is_keyframe and p.pts is not None), None)
            if packet is None or packet.pts is None:
                continue
            landing = int(np.searchsorted(stamps, packet.pts))
            known = landing < len(stamps) and int(stamps[landing]) == packet.pts
            if known and any(landing < k <= self._first for k in keys):
                return chain([packet], packets), landing
        if candidates:
            self._fail("seeking lands elsewhere")
        return self._packets(container, stream), 0

    def _decoded(
        self, stream: VideoStream, packets: Iterator[Packet[VideoStream]], *, before: int
    ) -> Iterator[VideoFrame]:
        """Pictures in display order. Errors before the landing's PTS are open groups' own."""
        try:
            for packet in packets:
                early = packet.pts is not None and packet.pts < before
                if packet.is_corrupt:
                    self._fail("a packet is marked as damaged")
                try:
                    pictures = stream.decode(packet)
                except av.error.FFmpegError as error:
                    if not early:
                        self._fail(f"a packet cannot be decoded: {reason(error)}")
                    continue
                del packet
                while pictures:
                    yield pictures.pop(0)
            yield from stream.decode(None)
        except av.error.FFmpegError as error:
            self._fail(f"the decoder does not end: {reason(error)}")

    def _packets(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[Packet[VideoStream]]:
        demuxer = Demuxer(container, stream, self._path)
        yield from demuxer.packets()
        if demuxer.stopped is not None:
            self._fail(f"reading ends early: {demuxer.stopped}")

    def _index(self, picture: VideoFrame) -> int:
        """Which frame of the video it is."""
        stamps = self._entries.stamps
        if picture.pts is None:
            self._fail("a frame has no timestamp")
        index = int(np.searchsorted(stamps, picture.pts))
        if index < len(stamps) and int(stamps[index]) == picture.pts:
            return index
        self._fail(f"a frame has PTS {picture.pts}, which no packet has")

    def _check(self, picture: VideoFrame, *, landed: bool) -> None:
        if picture.is_corrupt:
            self._fail("a frame was decoded with errors")
        if (picture.width, picture.height) != self._size:
            self._fail("the size changes")
        if landed and not (picture.key_frame and picture.pict_type == PictureType.I):
            self._fail("a key frame is no intra picture")

    def _fail(self, why: str) -> NoReturn:
        part = f"frames {self._first} to {self._stop - 1}"
        raise NotSplittable(f"{self._path}: {part} cannot be decoded by themselves: {why}")

    def close(self) -> None:
        """Nothing is open between two passes."""

    def __enter__(self) -> PartReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
