"""Rows of a video that another process decodes, as messages: what the two sides say to each other.

    decoder   ("info", VideoInfo)  ("row", ...) ("row", ...) ...  ("end", ...) or ("error", ...)
              ("beat",) in between where no row comes for a while, but something moves

A frame is sent once: a row names the pixels that it shares with the row before it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.clips.gather import Row
from tubelet.clips.transform import Prepared
from tubelet.errors import VideoError
from tubelet.extraction.lanes import Lane, Opening, open_here
from tubelet.extraction.recording import Source, Tally
from tubelet.inputs import Input, on_disk
from tubelet.inputs.local import Openers
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.machine.prefetch import prefetch
from tubelet.machine.timing import TIMER
from tubelet.run.parts.cuts import Part
from tubelet.run.parts.part_store import PartStore, opening_of
from tubelet.types import DecodeEvents, VideoInfo

Message = tuple[Any, ...]


@dataclass(frozen=True)
class DecodeRequest:
    """What a decoder is asked for: a video, or one part of it that lies on a store."""

    item: Input
    source: Source
    lanes: Sequence[Lane]
    part: Part | None = None
    store: PartStore | None = None


def packed(row: Row[Prepared], before: Sequence[Prepared]) -> Message:
    """(window, times, places, new pixels [n, V, H, W, C]): a place >= 0 counts in `before`, the
    pixels of the lane's last row; -1 - j is the j-th of the new ones."""
    places: dict[int, int] = {id(pixels): i for i, pixels in enumerate(before)}
    new: list[Prepared] = []
    for pixels in row.pixels:
        if id(pixels) not in places:
            places[id(pixels)] = -1 - len(new)
            new.append(pixels)
    fresh = np.stack(new) if new else None
    return (
        row.window,
        (row.start_s, row.end_s, row.center_s),
        [places[id(p)] for p in row.pixels],
        fresh,
    )


def unpacked(message: Message, before: Sequence[Prepared]) -> Row[Prepared]:
    """The row that was packed."""
    window, times, places, fresh = message
    pixels = [before[p] if p >= 0 else fresh[-1 - p] for p in places]
    return Row(window, pixels, *times)


def decode(request: DecodeRequest, openers: Openers) -> Iterator[Message]:
    """The decoder's side: everything that it says about one request."""
    tally = Tally(stage="fetch")
    marks: dict[int, int] = {}
    try:
        opening: Opening = open_here
        if request.part is not None:
            assert request.store is not None
            opening = opening_of(request.part, request.store.timeline(), marks)
        with TIMER.entering("fetch", on_disk(request.item, openers)) as path:
            tally.stage = "open"
            with opening(replace(request.source, path=path), request.lanes, tally) as reader:
                tally.stage = "decode"
                yield "info", reader.info
                last: dict[int, list[NDArray[Any]]] = {}
                for lane, row in reader.rows():
                    message = packed(row, last.get(lane, []))
                    last[lane] = row.pixels
                    yield "row", lane, message, replace(tally), TIMER.take()
                events = reader.events
    except Exception as error:  # noqa: BLE001 it is raised again on the other side
        yield "error", tally, portable(error)
    else:
        yield "end", tally, events, marks, TIMER.take()


BEAT: Message = ("beat",)


def with_beats(messages: Iterator[Message]) -> Iterator[Message]:
    """The same messages, made in a thread, and between them that this process is alive and moves:
    whoever waits cannot see its frames. A decoder that hangs says nothing."""
    before = HEARTBEAT.beats
    for message in prefetch(messages, 1, quiet=BEAT):
        if message is BEAT and HEARTBEAT.beats == before:
            continue
        before = HEARTBEAT.beats
        yield message


def portable(error: Exception) -> Exception:
    """An exception that can be sent; one that cannot becomes a VideoError of its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 made here
    except Exception:  # noqa: BLE001 whatever its constructor does
        return VideoError(f"{type(error).__name__}: {error}")
    return error


class RemoteReading:
    """A `Reading` made of what a decoder says. Raises its errors; `marks` come at the end."""

    def __init__(self, messages: Iterator[Message], tally: Tally) -> None:
        self._messages, self._tally = messages, tally
        self.events = DecodeEvents()
        self.marks: dict[int, int] = {}
        self.ended = False
        what, *rest = next(messages)
        if what == "error":
            self._raise(*rest)
        self.info: VideoInfo = rest[0]

    def rows(self) -> Iterator[tuple[int, Row[Prepared]]]:
        last: dict[int, list[NDArray[Any]]] = {}
        for what, *rest in self._messages:
            if what == "row":
                lane, message, tally, work = rest
                self._follow(tally)
                TIMER.add(work)
                row = unpacked(message, last.get(lane, []))
                last[lane] = row.pixels
                yield lane, row
            elif what == "error":
                self._raise(*rest)
            else:
                tally, self.events, self.marks, work = rest
                self._follow(tally)
                TIMER.add(work)
                self.ended = True

    def _follow(self, tally: Tally) -> None:
        self._tally.stage, self._tally.frame = tally.stage, tally.frame
        self._tally.decoded = tally.decoded
        HEARTBEAT.beat(frame=tally.frame)

    def _raise(self, tally: Tally, error: Exception) -> None:
        self._follow(tally)
        self.ended = True
        raise error
