"""Bookkeeping of one pass: what the decoder was given, what it gave, what is missing or doubtful.

A frame after a lost or damaged one may be built on it, and decoders rarely say so: they conceal.
So every frame from the damage to the next key frame is counted as corrupt.

    packets   I  P  P  x  P  P  I  P       x refused
    frames    I  P  P     ?  ?  I  P       ? corrupt_frames
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tubelet.decode.container import frame_rate, has_no_pts, time_base
from tubelet.decode.demux import Demuxer
from tubelet.decode.holes import Holes, may_skip
from tubelet.types import DecodeEvents


class Damage:
    """Feed it every packet and frame, in the order of the decoder; it fills `events`."""

    def __init__(
        self,
        stream: VideoStream,
        events: DecodeEvents,
        demuxer: Demuxer,
        is_broken: Callable[[], bool],
    ) -> None:
        """is_broken: asked at the end where the clock has holes: is the container damaged?"""
        self._stream, self._demuxer, self._is_broken = stream, demuxer, is_broken
        self._events = events
        self._expected = 0
        self._given = 0
        self._refused = 0
        self._doubtful = False
        self._key_since = False
        self._interlaced = False
        rate, _ = frame_rate(stream)
        unit = time_base(stream)
        self._holes = Holes(1 / rate / unit, tolerance=Fraction(3, 2))
        self._by_packet = stream.container.format.name in ("mpegts", "mpeg")
        self._by_frame = may_skip(stream.container) and not self._by_packet
        self._after_hole = False
        self._maybe_corrupt = 0

    def packet(
        self, packet: Packet[VideoStream] | None, *, refused: str | None, shown: int
    ) -> None:
        """A packet (None: the end) was given to the decoder, which may have refused it. shown: the
        frames that it should give."""
        broken = refused is not None or (packet is not None and packet.is_corrupt)
        if refused is not None:
            self.say(f"a packet cannot be decoded: {refused}")
        if broken:
            self._events.corrupt_packets += 1
            self._refused += 1
            self._doubtful, self._key_since = True, False
        if packet is None:
            return
        if self._by_packet and self._holes.step(packet.dts):
            self._after_hole = True
        if not broken and not packet.is_discard:
            self._expected += shown
        if not broken and packet.is_keyframe:
            self._key_since = True

    def frame(self, frame: VideoFrame) -> None:
        """The decoder gave a frame."""
        self._given += 1
        self._interlaced = self._interlaced or frame.interlaced_frame
        if self._by_frame and self._holes.step(frame.pts):
            self._after_hole = True
        if frame.key_frame:
            self._after_hole = False
            self._doubtful = self._doubtful and not self._key_since
        if frame.is_corrupt:
            self._doubtful, self._key_since = True, False
        self._events.corrupt_frames += self._doubtful
        self._maybe_corrupt += self._after_hole and not self._doubtful

    def stopped(self, why: str) -> None:
        """The container could not be read to its end."""
        self._events.corrupt_packets += 1
        self.say(f"reading ends early: {why}")

    def end(self, *, ends: Fraction) -> None:
        """After the last frame, which ends at `ends`, in seconds of the container's own clock."""
        lost = self._expected - self._given
        if lost > 0:
            self.say(f"{lost} of {self._expected} intact packets gave no frame")
            if not self._interlaced:  # there a packet may be a field, half a frame
                self._events.missing_frames += lost
        listed = self._demuxer.lost
        if listed:
            self._events.missing_frames += listed
            self.say(f"{listed} of the {self._demuxer.listed} frames of its index are missing")
        absent = self._holes.missing - max(lost, 0) - self._refused
        if absent > 0 and self._holes.certain and self._has_evidence():
            self._events.missing_frames += absent
            self._events.corrupt_frames += self._maybe_corrupt
            self.say(f"{absent} frames are missing: holes in a steady clock")
        self._compare_with_the_header(ends)

    def _has_evidence(self) -> bool:
        """A hole in the clock alone may be a pause: screen recorders make many. A transport stream
        counts its packets, and FFmpeg marks the one after a loss."""
        return bool(self._events.corrupt_packets) or self._is_broken()

    def _compare_with_the_header(self, ends: Fraction) -> None:
        """A promise that is not kept is worth a message, no more: headers lie."""
        if has_no_pts(self._stream.container) and self._demuxer.places < self._stream.frames:
            promised, there = self._stream.frames, self._demuxer.places
            self.say(f"the header promises {promised} frames, there are {there}")
            return
        seconds, slack = promised_end(self._stream)
        if seconds is not None and seconds - ends > slack:
            self.say(
                f"the header promises {float(seconds):.2f} s, "
                f"the last frame ends at {float(ends):.2f} s"
            )

    def say(self, message: str) -> None:
        if message not in self._events.messages:
            self._events.messages.append(message)


def promised_end(stream: VideoStream) -> tuple[Fraction | None, Fraction]:
    """Seconds, and how far from it is near enough: where only the whole container has a duration,
    sound may go on for a while after the last frame."""
    rate, _ = frame_rate(stream)
    if stream.duration and stream.duration > 0:
        return stream.duration * time_base(stream), Fraction(3, 4) / rate
    container = stream.container
    duration = getattr(container, "duration", None)
    if not duration or duration < 0:
        return None, Fraction(0)
    slack = Fraction(1) if container.streams.audio else Fraction(3, 4) / rate
    return Fraction(duration, 1_000_000), slack
