"""When the frames of a file appear, read from its packets alone: no picture is decoded.

Most intact files give one frame per packet, at the packet's PTS. Where that is not certain the
timeline says so: `exact` is False and `reason` tells why; the decoded count then decides.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tubelet.decode.clock import Clock
from tubelet.decode.container import (
    frame_rate,
    has_no_pts,
    open_container,
    start_time,
    stream_seconds,
    time_base,
    video_stream,
)
from tubelet.decode.damage import promised_end
from tubelet.decode.demux import Demuxer
from tubelet.decode.holes import Holes
from tubelet.errors import EmptyVideo
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.types import DecodeEvents, VideoReader


@dataclass(frozen=True)
class Entries:
    """stamps [N]: the PTS of every frame, rising, in the stream's own units. keys: indices of the
    frames that are key frames."""

    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]


@dataclass(frozen=True)
class Timeline:
    """times_s [N] float64: when each frame appears, increasing, since the container's start.
    end_s: when the last one ends. stream_s: as in `VideoInfo`. width, height: as stored, before
    any rotation. hidden: packets that an edit list keeps from being shown. entries: where
    decoding can begin; None where only a pass from the start is sure to be right."""

    path: str
    times_s: NDArray[np.float64]
    end_s: float
    fps: Fraction
    width: int
    height: int
    codec: str
    container: str
    size_bytes: int
    exact: bool
    reason: str | None
    stream_s: float | None = None
    hidden: int = 0
    entries: Entries | None = None

    @property
    def frames(self) -> int:
        return len(self.times_s)


@dataclass
class _Tally:
    """What is worth knowing of the packets, in the order of the file."""

    stamps: list[int | None] = field(default_factory=list[int | None])
    keys: list[int] = field(default_factory=list[int])
    places: list[int | None] = field(default_factory=list[int | None])
    """DTS of every packet."""
    last: tuple[int, int] = (-(2**63), 0)
    """(stamp, duration) of the packet shown last."""
    hidden: int = 0
    started: bool = False
    first_key: int | None = None
    doubt: str | None = None

    @property
    def is_decode_order(self) -> bool:
        """Every PTS is the DTS, as FLV's and some MP4 writers' are."""
        return len(self.stamps) > 2 and self.stamps == self.places

    def doubts(self, why: str) -> None:
        self.doubt = self.doubt or why


def scan(path: str) -> Timeline:
    """Demux the whole file once. Raises the VideoErrors of opening, EmptyVideo without packets."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        in_order = has_no_pts(container)
        start, (rate, _) = start_time(container), frame_rate(stream)
        tally = _Tally()
        demuxer = Demuxer(container, stream, path)
        for packet in demuxer.packets():
            HEARTBEAT.beat()
            tally.places.append(packet.dts)
            _count(packet, tally, shown=demuxer.counter.shown(packet), in_order=in_order)
        if demuxer.stopped is not None:
            tally.doubts(f"reading ends early: {demuxer.stopped}")
        if context.has_b_frames and not in_order and tally.is_decode_order:
            tally.doubts("its timestamps are those of decoding, not of showing")
        if demuxer.lost:
            tally.doubts(f"{demuxer.lost} of the {demuxer.listed} frames of its index are missing")
        if not tally.stamps:
            raise EmptyVideo(f"{path}: its video stream has no packets")
        times, end = _times(tally, stream, start=start, rate=rate)
        entries = None if in_order else _entries(tally, stream, ends=start + Fraction(end))
        return Timeline(
            path=path,
            times_s=times,
            end_s=end,
            fps=rate,
            width=context.width,
            height=context.height,
            codec=context.name,
            container=container.format.name,
            size_bytes=os.stat(path).st_size,
            exact=tally.doubt is None,
            reason=tally.doubt,
            stream_s=stream_seconds(stream),
            hidden=tally.hidden,
            entries=entries,
        )


def _entries(tally: _Tally, stream: VideoStream, *, ends: Fraction) -> Entries | None:
    """None where a pass over the whole would have something to tell: holes, a broken promise."""
    if tally.doubt is not None or tally.hidden or len(tally.keys) < 2:
        return None
    stamps = sorted(stamp for stamp in tally.stamps if stamp is not None)
    rate, _ = frame_rate(stream)
    holes = Holes(1 / rate / time_base(stream), tolerance=Fraction(3, 2))
    for stamp in tally.places if stream.container.format.name in ("mpegts", "mpeg") else stamps:
        holes.step(stamp)
    promised, slack = promised_end(stream)
    if holes.missing or (promised is not None and promised - ends > slack):
        return None
    keys = np.searchsorted(np.array(stamps), sorted(set(tally.keys)))
    return Entries(np.array(stamps, np.int64), keys.astype(np.int64))


def header_seconds(path: str) -> float | None:
    """The duration that a header promises, of the video stream or of the whole file; None where
    it promises none. Raises the VideoErrors of opening."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        own = stream.duration
        if own and own > 0:
            return float(own * time_base(stream))
        whole = container.duration
        return whole / 1_000_000 if whole and whole > 0 else None


def _count(packet: Packet[VideoStream], tally: _Tally, *, shown: int, in_order: bool) -> None:
    if packet.is_corrupt:
        tally.doubts("a packet is marked as damaged")
    stamp = packet.dts if in_order else packet.pts
    if not tally.started:
        tally.started = True
        tally.first_key = stamp
        if not packet.is_keyframe:
            tally.doubts("it does not start with a key frame")
    if not shown:
        return
    if shown > 1:
        tally.doubts("a packet holds several frames")
    if packet.is_discard:  # an edit list hides it
        tally.hidden += 1
        return
    first = tally.first_key
    if stamp is not None and first is not None and not in_order and stamp < first:
        tally.doubts("frames before the first key frame refer to what is not in the file")
    tally.stamps.append(stamp)
    if stamp is not None and packet.is_keyframe:
        tally.keys.append(stamp)
    if stamp is not None:
        tally.last = max(tally.last, (stamp, packet.duration or 0))


def _times(
    tally: _Tally, stream: VideoStream, *, start: Fraction, rate: Fraction
) -> tuple[NDArray[np.float64], float]:
    unit = time_base(stream)
    known = sorted(stamp for stamp in tally.stamps if stamp is not None)
    missing = len(tally.stamps) - len(known)
    if missing:
        tally.doubts(f"{missing} packets have no timestamp")
    events = DecodeEvents()
    clock = Clock(start=start, rate=rate, events=events)
    stamps = [*known, *[None] * missing]
    times = [clock.time(None if stamp is None else stamp * unit) for stamp in stamps]
    if events.bad_timestamps > missing:
        tally.doubts("timestamps repeat")
    lasts = tally.last[1] * unit if tally.last[1] > 0 else 1 / rate
    return np.array([float(time) for time in times]), float(times[-1] + lasts)


def timeline_of(reader: VideoReader) -> Timeline:
    """The timeline of a reader that knows its frames without reading pixels."""
    frames = [(frame.time_s, frame.time_s + frame.duration_s) for frame in reader.frames()]
    info = reader.info
    return Timeline(
        path=info.path,
        times_s=np.array([shown for shown, _ in frames]),
        end_s=frames[-1][1],
        fps=info.fps,
        width=info.width,
        height=info.height,
        codec=info.codec,
        container=info.container,
        size_bytes=info.size_bytes,
        exact=True,
        reason=None,
        stream_s=info.stream_s,
    )
