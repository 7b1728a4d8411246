"""Which axes of a tap survive in a row (`--keep`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Keep = Literal["clip", "time", "space-time"]


def source_tap(tap: str, keep: Keep) -> str:
    """With axes kept, "pool" is read from the map that it is the mean of."""
    return "grid" if tap == "pool" and keep != "clip" else tap


def channels_second(tap: str, values: Tensor) -> Tensor:
    """ "dense_logits" [B, t, h, w, classes] in the order of the maps."""
    return values.movedim(-1, 1) if tap.endswith("dense_logits") else values


def reduce_map(values: Tensor, keep: Keep) -> Tensor:
    """[B, D, T, H, W] -> [B, D], [B, T, D] or [B, T, H, W, D]; other ranks stay as they are."""
    if values.ndim != 5:
        return values
    if keep == "clip":
        return values.mean(dim=(2, 3, 4))
    if keep == "time":
        return values.mean(dim=(3, 4)).transpose(1, 2)
    return values.permute(0, 2, 3, 4, 1)
