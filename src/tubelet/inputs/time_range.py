"""A range against the video that it is of: beyond its end is told, wholly outside is a failure."""

from __future__ import annotations

from collections.abc import Iterator

from tubelet.errors import UsageError, VideoError
from tubelet.types import DecodeEvents, Frame, VideoInfo, VideoReader

SLACK_S = 0.001
"""Annotations round the ends of videos."""


def check_range(start_s: float | None, end_s: float | None) -> None:
    """UsageError for [start_s, end_s) seconds that no video can have."""
    begins = start_s or 0.0
    if not 0 <= begins < float("inf") or (end_s is not None and not end_s > begins):
        raise UsageError(f"range [{start_s}, {end_s}) s: need 0 <= start_s < end_s")


def beyond(start_s: float | None, end_s: float | None, *, ends_s: float, name: str) -> str | None:
    """That a range goes on after the video's end, as a warning; None where it does not.

    VideoError for one that begins after it: such a segment is of another video, or in other units.
    """
    if start_s is not None and start_s >= ends_s - SLACK_S:
        end = "" if end_s is None else f"{end_s:g}"
        raise VideoError(
            f"{name}: the range [{start_s:g}, {end}) s lies outside the video, which ends at "
            f"{ends_s:g} s; ranges are seconds (for numbers of frames: start_frame, stop_frame)"
        )
    if end_s is not None and end_s > ends_s + SLACK_S:
        return f"the range ends at {end_s:g} s, the video at {ends_s:g} s"
    return None


class RangedReader:
    """A reader whose passes tell when they end before the range does. All frames come through."""

    def __init__(self, reader: VideoReader, start_s: float | None, end_s: float | None) -> None:
        self._reader, self._range = reader, (start_s, end_s)

    @property
    def info(self) -> VideoInfo:
        return self._reader.info

    @property
    def events(self) -> DecodeEvents:
        return self._reader.events

    def frames(self) -> Iterator[Frame]:
        """Who has a frame at the end of the range stops drawing, and nothing is told."""
        ends_s = None
        for frame in self._reader.frames():
            ends_s = frame.time_s + frame.duration_s
            yield frame
        if ends_s is not None:
            warning = beyond(*self._range, ends_s=ends_s, name=self.info.path)
            if warning:
                self.events.messages.append(warning)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> RangedReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def in_range(reader: VideoReader, start_s: float | None, end_s: float | None) -> VideoReader:
    """The reader, watching its end where a range is asked for. UsageError for no range at all."""
    check_range(start_s, end_s)
    return reader if start_s is None and end_s is None else RangedReader(reader, start_s, end_s)
