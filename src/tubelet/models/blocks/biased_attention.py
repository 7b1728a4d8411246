"""What Swin, Hiera, TimeSformer, ViViT and VideoPrism share beside `vit`'s attention.

Axes: B batch, N tokens, C channels, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError
from tubelet.models.blocks.layers import check_clip
from tubelet.types import ClipSpec


class BiasedAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v of every head: x [B, N, C] to [B, N, C].

    cap: scores s become cap * tanh(s / cap) before the bias; None leaves them.
    """

    def __init__(self, width: int, *, heads: int, cap: float | None = None) -> None:
        super().__init__()
        self.heads, self.cap = heads, cap
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """bias: added to the scores, [heads, N, N] or [B, heads, N, N]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        if self.cap is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            scores = self.cap * torch.tanh(scores / self.cap)
            y = (scores if bias is None else scores + bias).softmax(dim=-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class GeluMlp(nn.Module):
    """Linear, GELU, linear; tanh: its approximation by tanh instead of the exact one."""

    def __init__(self, width: int, hidden: int, *, tanh: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.approximate = "tanh" if tanh else "none"

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


def block_taps(depth: int, *, tokens: bool) -> tuple[str, ...]:
    """Taps of a transformer; tokens: it has a class token, so that a map is not everything."""
    kinds = ("", "_tokens") if tokens else ("",)
    blocks = [f"block{i}{kind}" for i in range(depth) for kind in kinds]
    return ("stem", *blocks, "grid", "dense_logits", "pool")


def channels_first(x: Tensor) -> Tensor:
    """[B, T, H, W, C] to [B, C, T, H, W]; a view."""
    return x.movedim(-1, 1)


def check_exact_size(clip: Tensor, spec: ClipSpec, weights: Tensor) -> None:
    """For networks whose tables of positions belong to one size of clip. Raises ClipError."""
    check_clip(clip, channels=spec.channels, frames=spec.frames, weights=weights)
    if tuple(clip.shape[3:]) != (spec.crop, spec.crop):
        raise ClipError(
            f"this network takes {spec.crop} x {spec.crop} pixels, the size of its table of "
            f"positions; the clip has {clip.shape[3]} x {clip.shape[4]}: leave --crop out"
        )


def check_patches(clip: Tensor, *, patch: int) -> None:
    """For networks that cut frames into whole patches. Raises ClipError."""
    if clip.shape[3] % patch or clip.shape[4] % patch:
        raise ClipError(
            f"this network cuts frames into patches of {patch} x {patch} pixels; the clip has "
            f"{clip.shape[3]} x {clip.shape[4]}: use a crop that is a multiple of {patch}"
        )


def with_logits(
    found: dict[str, Tensor], classifier: Any, taps: Sequence[str]
) -> dict[str, Tensor]:
    """The named taps; "dense_logits" is the classifier on "pool"."""
    if "dense_logits" in taps:
        found["dense_logits"] = classifier(found["pool"])
    return {tap: found[tap] for tap in taps}
