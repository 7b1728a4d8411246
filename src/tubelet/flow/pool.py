"""Pairs of frames in parallel: one method object per thread, results in order.

    frame 0 ─┐
    frame 1 ─┴─ pair 0 (thread A) ┐
          1 ─┐                    ├─> pair 0, pair 1, ... in order
    frame 2 ─┴─ pair 1 (thread B) ┘

OpenCV releases the interpreter lock, so threads fill the cores.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import VideoError
from tubelet.flow.base import FlowConfig, create_method, pack
from tubelet.flow.opencv import grayscale
from tubelet.flow.types import Packed, Setting
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.types import Image


class Picture:
    """What the method sees of a frame, made once, by the first thread that needs it."""

    def __init__(
        self, make: Callable[[], Image], convert: Callable[[Image], NDArray[np.uint8]]
    ) -> None:
        self._make: Callable[[], Image] | None = make
        self._convert = convert
        self._lock = threading.Lock()
        self._value: NDArray[np.uint8] | None = None

    def get(self) -> NDArray[np.uint8]:
        with self._lock:
            if self._make is not None:
                self._value = self._convert(self._make())
                self._make = None
        assert self._value is not None
        return self._value


class FlowPool:
    """Threads that compute flow with one configuration.

    workers: threads; None means the processors this process may use. Creating one raises
    UsageError where the method's library is missing.
    """

    def __init__(self, config: FlowConfig, *, workers: int | None = None) -> None:
        self.config = config
        self.workers = workers or available_processors()
        first = create_method(config)
        self.recipe: Mapping[str, Setting] = first.recipe
        self._input = grayscale() if first.takes == "gray" else np.ascontiguousarray
        self._spare = [first]
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="flow")

    @property
    def ahead(self) -> int:
        """Pairs to have under way, so that no thread waits."""
        return max(16, 4 * self.workers)

    def picture(self, make: Callable[[], Image]) -> Picture:
        """A frame at the working resolution: `make()` gives its RGB, in a thread, when needed."""
        return Picture(make, self._input)

    def pair(
        self,
        previous: Picture,
        following: Picture,
        *,
        keep: Callable[[Packed], None] | None = None,
    ) -> Future[Packed]:
        """The packed flow of two frames of this pool; zero where both are the same object.

        `keep` is told before the result is there.
        """
        return self._threads.submit(self._pair, previous, following, keep)

    def stored(self, read: Callable[[], Packed]) -> Future[Packed]:
        """A packed flow that only has to be read, in a thread."""
        return self._threads.submit(read)

    def _pair(
        self,
        previous: Picture,
        following: Picture,
        keep: Callable[[Packed], None] | None,
    ) -> Packed:
        a, b = previous.get(), following.get()
        if a.shape != b.shape:
            raise VideoError(
                f"a frame of {b.shape[1]} x {b.shape[0]} follows one of {a.shape[1]} x "
                f"{a.shape[0]}; optical flow needs frames of one size: scale them first"
            )
        if previous is following:
            field = np.zeros((*a.shape[:2], 2), np.float32)
        else:
            field = self._method()(a, b)
        packed = pack(field, self.config)
        HEARTBEAT.beat()
        if keep is not None:
            keep(packed)
        return packed

    def _method(self) -> Any:
        """This thread's method object."""
        if not hasattr(self._own, "method"):
            try:
                self._own.method = self._spare.pop()
            except IndexError:
                self._own.method = create_method(self.config)
        return self._own.method

    def pairs(self, frames: Iterable[Image]) -> Iterator[Packed]:
        """N RGB frames [H, W, 3] of one size -> N - 1 packed flows, in order, bounded memory.

        Raises VideoError for fewer than two frames and for frames of changing size.
        """
        under_way: deque[Future[Packed]] = deque()
        last: Picture | None = None
        count = 0
        try:
            for image in frames:
                count += 1
                current = self.picture(lambda image=image: image)
                if last is not None:
                    under_way.append(self.pair(last, current))
                last = current
                if len(under_way) > 2 * self.workers:
                    yield under_way.popleft().result()
            if count < 2:
                raise VideoError(f"{count} frame(s): optical flow needs two")
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def close(self) -> None:
        """Stop the threads; nothing that waits is computed."""
        self._threads.shutdown(cancel_futures=True)


def available_processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared_pool(config: FlowConfig) -> FlowPool:
    """The pool of a configuration in this process; made once."""
    return _pool(config, os.getpid())


@lru_cache(maxsize=4)
def _pool(config: FlowConfig, process: int) -> FlowPool:
    """A forked child gets its own: threads do not survive a fork."""
    return FlowPool(config)
