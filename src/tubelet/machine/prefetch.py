"""Decoding beside the model: the same rows, made by a thread that runs ahead by a bounded amount.

FFmpeg and numpy let go of the interpreter while they work, so decoding, resizing and the network
share the cores. Nothing is reordered, dropped or computed differently; a test holds the results
equal to the plain loop's, byte for byte.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Batches of rows that may wait for the model."""

POLL_S = 0.1
"""How soon the thread notices that nobody wants its rows any more."""


class _End(Generic[T]):
    """The iterator ended, or failed with `error`."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


QUIET_S = 1.0
"""For how long nothing comes before `quiet` is given."""


def prefetch(items: Iterable[T], ahead: int = AHEAD, *, quiet: T | None = None) -> Iterator[T]:
    """The same items in the same order, produced in a thread that is at most `ahead` items early.
    quiet: given in between, whenever nothing has come for QUIET_S.

    An exception of the producer is raised here, after the items that came before it. When the
    consumer stops early the producer stops at its next item, and its generators are closed.
    """
    ready: queue.Queue[T | _End[T]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def offer(item: T | _End[T]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        source = iter(items)
        end = _End[T]()
        try:
            for item in source:
                if not offer(item):
                    break
        except BaseException as error:  # noqa: BLE001 - carried to the consumer, who raises it
            end = _End(error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()
        offer(end)

    thread = threading.Thread(target=produce, name="tubelet-decode", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = ready.get(timeout=None if quiet is None else QUIET_S)
            except queue.Empty:
                assert quiet is not None
                yield quiet
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        thread.join()
