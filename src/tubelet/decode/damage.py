"""Bookkeeping of one pass: what the decoder was given, what it gave, what is missing or doubtful.

A frame after a lost or damaged one may be built on it, and decoders rarely say so: they conceal.
So every frame from the damage to the next key frame is counted as corrupt.

    packets   I  P  P  x  P  P  I  P       x refused
    frames    I  P  P     ?  ?  I  P       ? corrupt_frames
"""

from __future__ import annotations

from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tubelet.decode.container import frame_rate, shows_a_frame, time_base
from tubelet.types import DecodeEvents


class Damage:
    """Feed it every packet and frame, in the order of the decoder; it fills `events`."""

    def __init__(self, stream: VideoStream, events: DecodeEvents) -> None:
        self._stream = stream
        self._codec = stream.codec_context.name
        self._events = events
        self._expected = 0
        self._given = 0
        self._doubtful = False
        self._key_since = False
        self._interlaced = False
        # Here a lost packet leaves no trace but a gap in the decoding timestamps.
        self._gaps: int | None = 0 if stream.container.format.name in ("mpegts", "mpeg") else None
        self._dts: int | None = None
        rate, _ = frame_rate(stream)
        self._longest_step = Fraction(3, 2) / rate / time_base(stream)

    def packet(self, packet: Packet[VideoStream] | None, *, refused: str | None) -> None:
        """A packet (None: the end) was given to the decoder, which may have refused it."""
        broken = refused is not None or (packet is not None and packet.is_corrupt)
        if refused is not None:
            self.say(f"a packet cannot be decoded: {refused}")
        if broken:
            self._events.corrupt_packets += 1
            self._doubtful, self._key_since = True, False
        if packet is None:
            return
        self._look_for_a_gap(packet)
        if not broken and not packet.is_discard and shows_a_frame(packet, self._codec):
            self._expected += 1
        if not broken and packet.is_keyframe:
            self._key_since = True

    def _look_for_a_gap(self, packet: Packet[VideoStream]) -> None:
        if self._gaps is None or packet.dts is None:
            return
        if self._dts is not None and packet.dts - self._dts > self._longest_step:
            self._gaps += 1
            if self._steady():
                self._doubtful, self._key_since = True, packet.is_keyframe
        self._dts = packet.dts

    def _steady(self) -> bool:
        """False where steps are long as a rule: not gaps, but a rate that is not the header's."""
        return self._gaps is not None and 4 * self._gaps < self._expected

    def frame(self, frame: VideoFrame) -> None:
        """The decoder gave a frame."""
        self._given += 1
        self._interlaced = self._interlaced or frame.interlaced_frame
        if frame.key_frame and self._key_since:
            self._doubtful = False
        if frame.is_corrupt:
            self._doubtful, self._key_since = True, False
        self._events.corrupt_frames += self._doubtful

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
        if self._gaps and self._steady():
            self.say(f"{self._gaps} gaps in the stream's clock: packets may be missing")
        rate, _ = frame_rate(self._stream)
        promised = promised_duration(self._stream)
        if promised is not None and promised - ends > Fraction(3, 4) / rate:
            self.say(
                f"the header promises {float(promised):.2f} s, "
                f"the last frame ends at {float(ends):.2f} s"
            )

    def say(self, message: str) -> None:
        if message not in self._events.messages:
            self._events.messages.append(message)


def promised_duration(stream: VideoStream) -> Fraction | None:
    """Seconds; that of the whole container only where the video is all that it holds."""
    if stream.duration and stream.duration > 0:
        return stream.duration * time_base(stream)
    container = stream.container
    duration = getattr(container, "duration", None)
    if duration and duration > 0 and len(container.streams) == 1:
        return Fraction(duration, 1_000_000)
    return None
