"""What flow is made of: a field, how it is stored, and what computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Setting = float | int | str
Rounding = Literal["none", "float16", "uint8"]
Field = NDArray[np.float32]
"""The flow of one pair: [H, W, 2], horizontal (right) then vertical (down), in pixels."""

Packed = NDArray[Any]
"""A truncated field as it is stored: float32 or float16 pixels, or uint8 levels."""


class FlowMethod(Protocol):
    """One way to compute flow. An object serves one thread at a time.

    takes: grey [H, W] or RGB [H, W, 3] uint8 pictures. recipe: everything that decides the
    numbers, the library's version included.
    """

    @property
    def name(self) -> str: ...
    @property
    def takes(self) -> Literal["gray", "rgb"]: ...
    @property
    def recipe(self) -> Mapping[str, Setting]: ...

    def __call__(self, previous: NDArray[np.uint8], following: NDArray[np.uint8]) -> Field: ...
