"""A small H.264 copy of a video that browsers cannot play: AVI, MPEG-4 part 2, frames, ...

Made from the very frames that rows are made of, at most 30 per second, without sound.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import TubeletError
from tubelet.inputs import Input
from tubelet.serve.reader_process import Child, ChildEnd, ChildFailed, bound
from tubelet.types import Image, VideoReader

SIDE = 640
RATE = Fraction(30)
MEMORY = 4 << 30
OPTIONS = {"crf": "26", "preset": "veryfast"}


@dataclass
class Preview:
    """state: working, ready, failed. done: share, where the header gives a length."""

    state: str = "working"
    done: float | None = None
    message: str = ""

    def record(self) -> dict[str, Any]:
        return {"state": self.state, "done": self.done, "message": self.message}


class Previews:
    """Previews of this session, one made at a time; the oldest go when there is no more room."""

    def __init__(self, folder: Path, *, limit_s: float, room: int) -> None:
        self.folder, self._limit_s, self._room = folder, limit_s, room
        self._known: OrderedDict[str, Preview] = OrderedDict()
        self._lock = threading.Lock()
        self._one = ThreadPoolExecutor(1, thread_name_prefix="tubelet-preview")
        self._closed = False

    def get(self, name: str) -> Preview | None:
        with self._lock:
            return self._known.get(name)

    def start(self, name: str, item: Input) -> Preview:
        """name: what to call it, our own word."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and known.state != "failed":
                self._known.move_to_end(name)
                return known
            preview = self._known[name] = Preview()
        self._one.submit(self._make, name, preview, item)
        return preview

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.mp4"

    def close(self) -> None:
        self._closed = True
        self._one.shutdown(cancel_futures=True)

    def _make(self, name: str, preview: Preview, item: Input) -> None:
        def heard(done: Any) -> None:
            preview.done = float(done)

        child = Child(preview_main, self._room)
        fps = None if item.fps is None else str(item.fps)
        order = [item.path, str(self.path(name)), fps, item.pattern]
        try:
            problem = child.ask(
                order, limit_s=self._limit_s, heard=heard, stopped=lambda: self._closed
            )
        except ChildFailed as error:
            problem = str(error)
        finally:
            child.kill()
        if problem:
            preview.message = str(problem)
            for left in self.folder.glob(f"{name}.*"):
                left.unlink(missing_ok=True)
        preview.state = "failed" if problem else "ready"
        self._make_room(name)

    def _make_room(self, newest: str) -> None:
        with self._lock:
            ready = [n for n, p in self._known.items() if p.state == "ready"]
            sizes = {n: self.path(n).stat().st_size for n in ready if self.path(n).exists()}
            for name in ready:
                if name == newest or sum(sizes.values()) <= self._room:
                    continue
                del self._known[name]
                sizes.pop(name, None)
                with suppress(OSError):
                    self.path(name).unlink()


def preview_main(line: ChildEnd, room: int) -> None:
    """The child: [source, target, fps, pattern] -> None, or what went wrong."""
    bound(memory=MEMORY, file_bytes=room)
    for source, target, fps, pattern in line.orders():
        try:
            make_preview(source, Path(target), fps=fps, pattern=pattern, line=line)
            line.end(None)
        except (TubeletError, OSError, MemoryError) as error:
            line.end(str(error) or type(error).__name__)


def make_preview(
    source: str,
    target: Path,
    *,
    fps: str | None,
    pattern: str | None = None,
    line: ChildEnd | None = None,
) -> None:
    """Encode a small copy whose seconds are those of the source."""
    with open_video(source, fps=fps, pattern=pattern) as reader:
        info = reader.info
        shrink = min(1.0, SIDE / max(info.width, info.height))
        size = (even(info.width * shrink), even(info.height * shrink))
        shown = min(info.fps, RATE) if info.fps > 0 else RATE
        encoding = Encoding(
            fps=shown,
            size=size,
            gop=int(shown) + 1,
            options=OPTIONS,
            container_options={"movflags": "+faststart"},
        )
        encode(_at_rate(reader, shown, line), target, encoding=encoding)


def even(length: float) -> int:
    return max(2, round(length / 2) * 2)


def _at_rate(reader: VideoReader, rate: Fraction, line: ChildEnd | None) -> Iterator[Image]:
    """The frame on screen at each instant k / rate."""
    k, length, told = 0, reader.info.duration_s, 0.0
    for frame in reader.frames():
        end_s = frame.time_s + frame.duration_s
        if k / rate >= end_s:
            continue
        picture = frame.rgb()
        while k / rate < end_s:
            yield picture
            k += 1
        if line is not None and length and end_s / length - told > 0.02:
            told = min(1.0, end_s / length)
            line.news(told)
