"""Frames -> pixels of a modality: RGB, optical flow, or both; each frame and each pair once.

    Shot a ──rgb──> resize, crop, normalise ─────────────────────────┐
         └─picture─┐                                                 ├─> [V, H, W, 3 | 2 | 5]
    Shot b ─picture┴─ FlowPool.pair ─ truncate ─ crop, normalise ────┘

Flow is computed in threads. What the gatherer holds for a position is a promise; a row is handed
out with its promises kept, while the pairs of the next rows are under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tubelet.clips.gather import Gatherer, Row
from tubelet.clips.transform import (
    FLOW,
    Prepared,
    ViewConfig,
    prepare_flow,
    prepare_frame,
    resize,
    split_view,
    to_pixels,
    uncropped,
)
from tubelet.clips.windows import WindowConfig
from tubelet.errors import UsageError, VideoError
from tubelet.flow.base import FlowConfig, unpack
from tubelet.flow.color_wheel import colour
from tubelet.flow.flow_cache import VideoCache, content_of
from tubelet.flow.pool import FlowPool, Picture, shared_pool
from tubelet.flow.types import Packed
from tubelet.types import MODALITIES, Frame, Image, VideoInfo


class Shot:
    """A frame that remembers what was made of it while somebody holds it.

    unread: its picture is not there, because only a part of the video is decoded.
    """

    def __init__(self, frame: Frame) -> None:
        self.index, self.time_s, self.duration_s = frame.index, frame.time_s, frame.duration_s
        self.unread = getattr(frame, "unread", False)
        self._frame = frame
        self._image: Image | None = None
        self.memo: dict[Any, Any] = {}

    def rgb(self) -> Image:
        if self._image is None:
            self._image = self._frame.rgb()
        return self._image

    def prepared(self, view: ViewConfig) -> Prepared:
        return self.once(view, lambda: prepare_frame(self._frame, view))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made under this key, made now where it was not."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


Pair = tuple[Shot, Shot]


class Promise(Protocol):
    """Pixels that are being made."""

    def result(self) -> Prepared: ...


class FlowView:
    """One view of the flow of one pair; satisfies `Promise`."""

    def __init__(self, field: Future[Packed], config: FlowConfig, view: ViewConfig) -> None:
        self._field: Future[Packed] | None = field
        self._config, self._view = config, view
        self._pixels: Prepared | None = None

    def result(self) -> Prepared:
        if self._pixels is None:
            assert self._field is not None
            self._pixels = prepare_flow(unpack(self._field.result(), self._config), self._view)
            self._field = None
        return self._pixels


@dataclass(frozen=True)
class Joint:
    """RGB and flow of one position, joined along the channels; satisfies `Promise`."""

    rgb: Prepared
    flow: FlowView

    def result(self) -> Prepared:
        return np.concatenate([self.rgb, self.flow.result()], axis=-1)


class FlowSource:
    """The flows of one video, by one configuration. `submitted` counts pairs asked for.

    cache: working resolution -> where pairs are looked up before they are computed, and kept.
    """

    def __init__(
        self, pool: FlowPool, *, path: str, cache: Callable[[ViewConfig], VideoCache] | None = None
    ) -> None:
        self.pool, self.submitted = pool, 0
        self._path, self._open_cache = path, cache
        self._caches: dict[ViewConfig, VideoCache] = {}
        self._futures: deque[Future[Any]] = deque()

    def between(self, pair: Pair | None, view: ViewConfig) -> Future[Packed]:
        """The packed flow from one shot to another, at the working resolution of a view.

        Raises VideoError where there is no pair.
        """
        if pair is None:
            raise VideoError(
                f"{self._path}: optical flow needs two frames and this timeline has one; "
                "use a model that takes RGB"
            )
        a, b = pair
        whole = uncropped(view)
        key = (self.pool.config, b.index, whole)
        return a.once(key, lambda: self._submit(a, b, whole))

    def _submit(self, a: Shot, b: Shot, whole: ViewConfig) -> Future[Packed]:
        self.submitted += 1
        while self._futures and self._futures[0].done():
            self._futures.popleft()
        future = self._start(a, b, whole)
        self._futures.append(future)
        return future

    def _start(self, a: Shot, b: Shot, whole: ViewConfig) -> Future[Packed]:
        """Read the pair where it is kept, else compute it."""
        if self._open_cache is None:
            return self.pool.pair(self._picture(a, whole), self._picture(b, whole))
        if whole not in self._caches:
            self._caches[whole] = self._open_cache(whole)
        cache = self._caches[whole]
        first, second = a.index, b.index
        if cache.has(first, second):
            return self.pool.stored(lambda: cache.get(first, second))
        return self.pool.pair(
            self._picture(a, whole),
            self._picture(b, whole),
            keep=lambda packed: cache.put(first, second, packed),
        )

    def _picture(self, shot: Shot, whole: ViewConfig) -> Picture:
        def promise() -> Picture:
            image = shot.rgb()  # here, in the decoder's thread
            return self.pool.picture(lambda: resize(image, whole))

        return shot.once((self.pool, whole), promise)

    def close(self) -> None:
        """Cancel what is not needed any more; write the cache out."""
        for future in self._futures:
            future.cancel()
        for future in self._futures:
            if not future.cancelled():
                future.exception()  # wait
        for cache in self._caches.values():
            cache.close()


def flow_facts(pool: FlowPool) -> dict[str, Any]:
    """What decides the numbers of a configuration's flows, for recipes and caches."""
    config = pool.config
    return {**pool.recipe, "bound": config.bound, "rounding": config.rounding}


def resolution(view: ViewConfig) -> dict[str, Any]:
    """The working resolution of a view as plain data."""
    return {"short_side": view.short_side, "fit": view.fit, "long_side": view.long_side}


def open_source(
    config: FlowConfig, info: VideoInfo, *, color: str, cache: Path | None
) -> FlowSource:
    """The flows of an open video; `cache` is a folder, see `flow.cache`."""
    pool = shared_pool(config)
    if cache is None:
        return FlowSource(pool, path=info.path)
    if info.backend == "memory":
        raise UsageError(f"a flow cache is for videos on a disk, not for {info.path}")
    facts = {
        "schema": 1,
        "video_sha256": content_of(info.path),
        "size_bytes": info.size_bytes,
        "backend": info.backend,
        "color": color,
        "flow": flow_facts(pool),
    }
    return FlowSource(
        pool,
        path=info.path,
        cache=lambda whole: VideoCache(cache, facts={**facts, "size": resolution(whole)}),
    )


def uses_flow(view: ViewConfig) -> bool:
    """Whether the channels of a view include optical flow."""
    return "flow" in MODALITIES[len(view.mean)]


def preparer(view: ViewConfig, flow: FlowSource | None) -> Callable[[Any, Any], Prepared | Promise]:
    """(shot, pair) -> pixels of a view, or the promise of them; see `gather.Gatherer`."""
    if not uses_flow(view):
        return lambda shot, _: shot.prepared(view)
    assert flow is not None
    source = flow

    def motion(pair: Pair | None, view: ViewConfig) -> FlowView:
        field = source.between(pair, view)
        assert pair is not None
        a, b = pair
        key = (view, source.pool.config, b.index)
        return a.once(key, lambda: FlowView(field, source.pool.config, view))

    if len(view.mean) == 2:
        return lambda _, pair: motion(pair, view)
    rgb_view, flow_view = split_view(view)
    return lambda shot, pair: Joint(shot.prepared(rgb_view), motion(pair, flow_view))


def pixels_of(
    frames: Iterable[Frame], view: ViewConfig, wanted: Collection[int], *, flow: FlowSource | None
) -> dict[int, Prepared]:
    """The pixels of single frames, by index. Flow goes to the next frame; the last repeats."""
    if flow is None:
        return {f.index: prepare_frame(f, view) for f in frames if f.index in wanted}
    make, found = preparer(view, flow), {}
    pair: Pair | None = None
    shot: Shot | None = None
    for frame in frames:
        before, shot = shot, Shot(frame)
        if before is not None:
            pair = (before, shot)
            if before.index in wanted:
                found[before.index] = make(before, pair)
    if shot is not None and shot.index in wanted:
        found[shot.index] = make(shot, pair)
    return {index: kept(pixels) for index, pixels in found.items()}


def select(
    frames: Iterable[Frame], start_s: float | None = None, end_s: float | None = None
) -> Iterator[Shot]:
    """Shots of the frames that appear in [start_s, end_s)."""
    for frame in frames:
        if end_s is not None and frame.time_s >= end_s:
            return
        if start_s is None or frame.time_s >= start_s:
            yield Shot(frame)


def each_pair(
    shots: Iterable[Shot], source: FlowSource, *, view: ViewConfig, fps: Fraction | None = None
) -> Iterator[tuple[float, Packed]]:
    """(time_s, packed flow) of the N - 1 pairs of a timeline, whole fields, in order.

    Raises VideoError for a timeline of fewer than two frames. Closes the source.
    """
    gatherer: Gatherer[Any] = Gatherer(
        WindowConfig(1, fps=fps),
        prepare=lambda _, pair: source.between(pair, view),  # pyright: ignore[reportArgumentType]
        black=None,
        native_fps=Fraction(30),
        pairs=True,
    )

    def rows() -> Iterator[tuple[int, Row[Any]]]:
        for shot in shots:
            yield from ((0, row) for row in gatherer.feed(shot))
        yield from ((0, row) for row in gatherer.finish())

    try:
        newest: Row[Any] | None = None
        for _, row in in_step(rows(), {source.pool.config: source}):
            if newest is not None:
                yield newest.start_s, newest.pixels[0]
            newest = row  # the last one repeats the pair before it
    finally:
        source.close()


def kept(pixels: Prepared | Promise) -> Prepared:
    """Pixels, once the promise of them is kept."""
    return pixels if isinstance(pixels, np.ndarray) else pixels.result()


def pictures(frame: Prepared, view: ViewConfig) -> list[Image]:
    """What a network sees of a frame, for people: RGB [crop, crop, 3] per view, then flow per view.

    Flow as colours (`flow.picture`); a quarter of the bound has full colour.
    """
    channels = frame.shape[-1] - (FLOW if "flow" in MODALITIES[frame.shape[-1]] else 0)
    found: list[Image] = []
    if channels:
        rgb = view if channels == len(view.mean) else split_view(view)[0]
        found += list(to_pixels(frame[..., :channels], rgb))
    if channels < frame.shape[-1]:
        mean, std = (np.asarray(v[-FLOW:], np.float32) for v in (view.mean, view.std))
        found += [colour(2 * (v * std + mean) - 1, full=0.25) for v in frame[..., channels:]]
    return found


def _settled(row: Row[Any]) -> Row[Prepared]:
    return replace(row, pixels=[kept(pixels) for pixels in row.pixels])


def in_step(
    rows: Iterable[tuple[int, Row[Any]]], sources: Mapping[FlowConfig, FlowSource]
) -> Iterator[tuple[int, Row[Prepared]]]:
    """Rows in the order they came, each when enough pairs beyond it are under way.

    Without flow every row at once. With it, while the caller runs a network on a row, the threads
    work on the next ones; at most `pool.ahead` pairs per source are held beyond the oldest row.
    """
    waiting: deque[tuple[int, int, Row[Any]]] = deque()
    ahead = sum(source.pool.ahead for source in sources.values())
    submitted = 0
    for lane, row in rows:
        submitted = sum(source.submitted for source in sources.values())
        waiting.append((submitted, lane, row))
        while waiting and submitted - waiting[0][0] >= ahead:
            _, first, oldest = waiting.popleft()
            yield first, _settled(oldest)
    while waiting:
        _, first, oldest = waiting.popleft()
        yield first, _settled(oldest)
