"""What several families share: checking a clip, checking tap names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tubelet.errors import ClipError, UnknownName, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


def check_clip(
    clip: Tensor,
    *,
    channels: int,
    min_frames: int = 1,
    min_side: int = 1,
    frames: int | None = None,
) -> None:
    """Refuse what a network cannot take: anything but a floating [B, channels, T, H, W].

    T must be at least `min_frames`, or exactly `frames` where that is given; H and W at least
    `min_side` pixels. Raises ClipError.
    """
    shape = tuple(clip.shape)
    if clip.ndim != 5 or shape[1] != channels:
        raise ClipError(
            f"a clip must be [batch, {channels}, frames, height, width]; this one is {list(shape)}"
        )
    if not clip.is_floating_point():
        raise ClipError(
            f"a clip must be floating and normalised with model.clip; this one is {clip.dtype}"
        )
    if frames is not None and shape[2] != frames:
        raise ClipError(f"this network takes clips of {frames} frames; this one has {shape[2]}")
    if shape[2] < min_frames:
        raise ClipError(f"this network needs {min_frames} frames or more; the clip has {shape[2]}")
    if min(shape[3:]) < min_side:
        raise ClipError(
            f"this network needs {min_side} x {min_side} pixels or more; "
            f"the clip has {shape[3]} x {shape[4]}"
        )
    if not shape[0]:
        raise ClipError("the batch has no clip")


def check_taps(taps: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a tap that the network does not have. Raises UnknownName."""
    known = list(known)
    if isinstance(taps, str):
        raise UnknownName(f"taps is a sequence of names, such as ({taps!r},), not one string")
    for tap in taps:
        if tap not in known:
            raise UnknownName(
                f"no tap {tap!r}{did_you_mean(tap, known)} (this model has: {', '.join(known)})"
            )
