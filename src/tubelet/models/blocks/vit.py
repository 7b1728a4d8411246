"""The plain Vision Transformer on tubelets: what VideoMAE, V-JEPA 2 and InternVideo2 share.

Dosovitskiy et al., arXiv 2010.11929; tubelets instead of patches: ViViT, arXiv 2103.15691, 3.2.

    clip [B, 3, T, H, W] -- convolution with stride = kernel --> map [B, C, T', H', W']
         --> tokens [B, N, C], time slowest, columns fastest --> blocks --> tokens [B, N, C]

A block is x + attention(norm(x)), then x + MLP(norm(x)). The families differ in where positions
come from (a table, or a rotation of queries and keys), in their norm, and in what is scaled.

Axes: B batch, N tokens (class token first, where there is one), C channels, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError
from tubelet.models.blocks.mvit_schedule import Grid
from tubelet.models.blocks.pooling_attention import Mlp
from tubelet.models.blocks.positions import to_map
from tubelet.types import ClipSpec

Rotation = tuple[Tensor, Tensor]
"""cos and sin [N, d] of the angle by which every number of a query or key is turned."""


@dataclass(frozen=True)
class Sizes:
    """Of a trunk. hidden: width of the MLP between its two layers."""

    width: int
    depth: int
    heads: int
    hidden: int


def layer_norm(eps: float) -> Callable[[int], nn.LayerNorm]:
    return lambda width: nn.LayerNorm(width, eps=eps)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn neighbours (x0, x1), (x2, x3), ... of [B, heads, N, d] as points of a plane."""
    cos, sin = (table.to(x.dtype) for table in rotation)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-b, a), dim=-1).flatten(-2)
    return x * cos + turned * sin


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v of every head: x [B, N, C] to [B, N, C].

    qkv: one matrix, whose rows are those of q, k and v. qk_norm: norms q and k over all heads
    together, before they are split.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        bias: bool = True,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.norm_q = qk_norm(width) if qk_norm else nn.Identity()
        self.norm_k = qk_norm(width) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = self.norm_q(q), self.norm_k(k)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).flatten(2))


class LayerScale(nn.Module):
    """One factor per channel at the end of a branch (CaiT, 2103.17239)."""

    def __init__(self, width: int, initial: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """x [B, N, C] to [B, N, C]: attention and MLP, each added to its input."""

    def __init__(
        self,
        sizes: Sizes,
        *,
        norm: Callable[[int], nn.Module],
        qkv_bias: bool = True,
        qk_norm: bool = False,
        layer_scale: bool = False,
    ) -> None:
        super().__init__()
        width = sizes.width
        self.norm_attention = norm(width)
        self.attention = SelfAttention(
            width, heads=sizes.heads, bias=qkv_bias, qk_norm=norm if qk_norm else None
        )
        self.scale_attention = LayerScale(width) if layer_scale else nn.Identity()
        self.norm_mlp = norm(width)
        self.mlp = Mlp(width, sizes.hidden, width)
        self.scale_mlp = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        x = x + self.scale_attention(self.attention(self.norm_attention(x), rotation))
        return x + self.scale_mlp(self.mlp(self.norm_mlp(x)))


def run_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    *,
    grid: Grid,
    taps: Sequence[str],
    prefix: int = 0,
    rotation: Rotation | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(tokens behind the last block, the wanted ones of "block0", "block0_tokens", ...).

    A map [B, C, T', H', W'] leaves out the first `prefix` tokens.
    """
    found: dict[str, Tensor] = {}
    for i, block in enumerate(blocks):
        x = block(x, rotation)
        if f"block{i}_tokens" in taps:
            found[f"block{i}_tokens"] = x
        if f"block{i}" in taps:
            found[f"block{i}"] = to_map(x[:, prefix:], grid)
    return x, found


def patch_embedding(channels: int, width: int, *, tubelet: int, patch: int) -> nn.Conv3d:
    """One linear layer for every tubelet: [B, channels, T, H, W] to [B, width, T', H', W']."""
    size = (tubelet, patch, patch)
    return nn.Conv3d(channels, width, size, stride=size)


def patch_grid(clip: ClipSpec, *, tubelet: int, patch: int) -> Grid:
    """(T', H', W') of the tubelets of a clip. Raises ClipError where they do not fill it."""
    check_divisible((clip.frames, clip.crop, clip.crop), tubelet=tubelet, patch=patch)
    return clip.frames // tubelet, clip.crop // patch, clip.crop // patch


def check_divisible(size: Sequence[int], *, tubelet: int, patch: int) -> None:
    """A convolution would drop the rest without a word. size: (T, H, W). Raises ClipError."""
    frames, height, width = size
    if frames % tubelet or not frames:
        raise ClipError(
            f"{frames} frames cannot be cut into tubelets of {tubelet}; use a multiple of {tubelet}"
        )
    if height % patch or width % patch:
        raise ClipError(
            f"{height} x {width} pixels cannot be cut into patches of {patch} x {patch}; "
            f"use a crop that is a multiple of {patch} (--crop)"
        )
