"""Optical flow of a pair of frames: which methods there are, and how a flow becomes input.

    previous, following [H, W] or [H, W, 3] uint8  --FlowMethod-->  [H, W, 2] float32, pixels
    [H, W, 2] pixels  --pack: truncate, round-->  stored field  --unpack-->  [-1, 1] float32

flow[y, x] = (u, v): what is at (x, y) in `previous` is at (x + u, y + v) in `following`.

The numbers of Carreira & Zisserman 2017: TV-L1 on grey pictures at the working resolution,
truncated to [-20, 20] pixels, mapped linearly to [-1, 1]. Their files held whole levels, 256 from
-20 to 20 (`rounding="uint8"`; kinetics-i3d, issue 24). No OpenCV and no torch at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UnknownName, UsageError, did_you_mean
from tubelet.flow.types import Field, FlowMethod, Packed, Rounding, Setting

# Parameters and their defaults. TV-L1 and Farneback: OpenCV's own (Zach, Pock & Bischof 2007;
# Farneback 2003); DIS: Kroeger et al. 2016; RAFT: Teed & Deng 2020, 12 updates as published.
METHODS: dict[str, dict[str, Setting]] = {
    "tvl1": {
        "tau": 0.25, "lambda": 0.15, "theta": 0.3, "epsilon": 0.01, "scales": 5, "scale_step": 0.8,
        "warps": 5, "inner": 30, "outer": 10, "median": 5,
    },
    "dis": {"preset": "medium"},
    "farneback": {
        "pyramid_scale": 0.5, "levels": 5, "window": 15, "iterations": 3, "poly_n": 5,
        "poly_sigma": 1.2,
    },
    "raft": {"weights": "", "size": "large", "iterations": 12, "device": "cpu"},
}  # fmt: skip
CHOICES = {"preset": ("ultrafast", "fast", "medium"), "size": ("large", "small")}


@dataclass(frozen=True)
class FlowConfig:
    """A method with its parameters, and what becomes of its numbers.

    parameters: all of the method's, in the order of METHODS (`flow_config` fills them in).
    bound: truncation in pixels. rounding: none; `float16`; or `uint8`, the reference's 256 levels.
    """

    method: str
    parameters: tuple[tuple[str, Setting], ...]
    bound: float = 20.0
    rounding: Rounding = "none"

    def __post_init__(self) -> None:
        if self.rounding not in get_args(Rounding):
            known = ", ".join(get_args(Rounding))
            raise UsageError(f"flow rounding {self.rounding!r}; it must be one of {known}")
        if not 0 < self.bound < 1000:
            raise UsageError(f"flow bound {self.bound}; it must be in (0, 1000) pixels")


def flow_config(text: str = "tvl1", *, rounding: Rounding = "none") -> FlowConfig:
    """`METHOD` or `METHOD:name=value,name=value` -> FlowConfig with every parameter.

    Raises UnknownName for a method or parameter, UsageError for a value.
    """
    method, _, rest = text.partition(":")
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise UnknownName(
            f"no flow method {method!r}{did_you_mean(method, METHODS)}; there are {known}"
        )
    settings = dict(METHODS[method])
    for item in filter(None, rest.split(",")):
        name, equals, value = item.partition("=")
        if name not in settings:
            raise UnknownName(
                f"flow method {method!r} has no parameter {name!r}{did_you_mean(name, settings)}; "
                f"it has {', '.join(settings)}"
            )
        if not equals:
            raise UsageError(f"flow parameter {item!r}: need name=value")
        settings[name] = _setting(name, value, like=settings[name])
    return FlowConfig(method, tuple(settings.items()), rounding=rounding)


def _setting(name: str, value: str, *, like: Setting) -> Setting:
    """A value of the kind of the default; positive where it is a number."""
    if isinstance(like, str):
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"flow parameter {name}={value}: one of {', '.join(CHOICES[name])}")
        return value
    try:
        number = type(like)(value)
    except ValueError:
        number = type(like)(0)
    if not 0 < number < float("inf"):
        kind = "whole number" if isinstance(like, int) else "number"
        raise UsageError(f"flow parameter {name}={value}: need a positive {kind}")
    return number


def create_method(config: FlowConfig) -> FlowMethod:
    """The method of a configuration. Raises UsageError naming what is not installed."""
    settings = dict(config.parameters)
    if config.method == "raft":
        from tubelet.flow.raft import Raft

        return Raft(settings)
    from tubelet.flow.opencv import create

    return create(config.method, settings)


def pack(field: Field, config: FlowConfig) -> Packed:
    """Truncated to +-bound, rounded as configured. The field itself may be overwritten."""
    bound = np.float32(config.bound)
    cut = np.clip(field, -bound, bound, out=field)
    if config.rounding == "uint8":
        cut += bound
        cut *= np.float32(255) / (2 * bound)
        return np.rint(cut, out=cut).astype(np.uint8)
    return cut.astype(np.float16) if config.rounding == "float16" else cut


def unpack(packed: Packed, config: FlowConfig) -> NDArray[np.float32]:
    """A stored field as float32 in [-1, 1]."""
    values = packed.astype(np.float32)
    if packed.dtype == np.uint8:
        return values * np.float32(2 / 255) - np.float32(1)
    return values / np.float32(config.bound)
