"""The rounding mode of the processor while flow is computed.

It belongs to a thread, new threads inherit it, and any library may leave it changed. DIS then
differs by up to 0.006 pixels in every element.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

TO_NEAREST = 0
"""FE_TONEAREST of C's fenv.h, on x86 and ARM alike."""


@cache
def _c() -> Any:
    """C's own functions; None where Python has none under these names (Windows)."""
    try:
        library = ctypes.CDLL(None)
        return library if library.fegetround and library.fesetround else None
    except (OSError, TypeError, AttributeError):
        return None


@contextmanager
def to_nearest() -> Iterator[None]:
    """Round to nearest within the block, in this thread; then as before."""
    c = _c()
    if c is None or (before := c.fegetround()) == TO_NEAREST:
        yield
        return
    c.fesetround(TO_NEAREST)
    try:
        yield
    finally:
        c.fesetround(before)
