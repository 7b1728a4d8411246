"""Parts of the fast transformers: one clip's tokens [N, C], rows that lie one behind the other.

A map of tokens [T, H, W, C] is a channels-last map as it lies, so pooling needs no other layout,
and the heads, which share their kernel, are one depthwise convolution of all channels. Long steps
run on `pieces` of the rows that fit into a cache: what lies between two of them never does in RAM.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.mvit_schedule import Grid
from tubelet.models.blocks.pooling_attention import Mlp, Pool, SkipPool
from tubelet.models.fast.fused import FusedConv, LaidOut

PIECE = 1 << 20
"""Numbers in the widest intermediate of a piece: 4 MB in float32."""


def pieces(rows: int, width: int) -> list[slice]:
    """Slices of nearly the same length whose intermediate, `width` numbers a row, is a PIECE."""
    count = -(-rows * width // PIECE)
    edges = [rows * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """x [N, K] times matrix [M, K] transposed, by oneDNN: [N, M]."""
    return torch.ops.mkldnn._linear_pointwise(x, matrix, None, "none", [], "")


class PackedLinear(LaidOut):
    """Rows [N, K] to [N, M], the matrix laid out by oneDNN at first use."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.packed = False
        self.weight = nn.Parameter(weight.detach().to(dtype).clone(), requires_grad=False)
        self.bias = None
        if bias is not None:
            self.bias = nn.Parameter(bias.detach().to(dtype).clone(), requires_grad=False)

    def _matrix(self, rows: int) -> Tensor:
        if not self.packed:
            self.lay_out(lambda matrix: torch.ops.mkldnn._reorder_linear_weight(matrix, rows))
        return self.weight

    def forward(self, x: Tensor, act: str = "none") -> Tensor:
        """act(linear(x)); "gelu" is the exact one, with erf."""
        return torch.ops.mkldnn._linear_pointwise(
            x, self._matrix(len(x)), self.bias, act, [], "none"
        )

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """linear(x) + other."""
        return torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self._matrix(len(x)), self.bias, "add"
        )


def packed(linear: nn.Linear, dtype: torch.dtype) -> PackedLinear:
    return PackedLinear(linear.weight, linear.bias, dtype=dtype)


class Norm(nn.Module):
    """A layer norm with float32 parameters for rows of any precision."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.shape, self.eps = list(norm.normalized_shape), norm.eps
        self.weight = nn.Parameter(norm.weight.detach().float().clone(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().float().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


class TokenMlp(nn.Module):
    """The end of a block: x [N, C] to other + mlp(norm(x)), or widen(norm(x)) + mlp(norm(x))."""

    def __init__(
        self, norm: nn.LayerNorm, mlp: Mlp, *, widen: nn.Linear | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.norm, self.hidden, self.width = Norm(norm), mlp.fc1.out_features, mlp.fc2.out_features
        self.fc1, self.fc2 = packed(mlp.fc1, dtype), packed(mlp.fc2, dtype)
        self.widen = packed(widen, dtype) if widen is not None else None

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        out = x.new_empty(len(x), self.width)
        for piece in pieces(len(x), self.hidden):
            normed = self.norm(x[piece])
            skip = other[piece] if self.widen is None else self.widen(normed)
            out[piece] = self.fc2.add(self.fc1(normed, "gelu"), skip)
        return out


def read_cells(cells: int, size: int, stride: int, padding: int) -> list[int]:
    """The cells of an axis that a kernel reads, where its stride steps over some; all otherwise.

    A kernel with the stride `size` reads the same from those cells alone:

        cells 0 1 . . . . . 7 8 9 . . . . . 15 ...     size 3, stride 8, padding 1: -1 0 1, 7 8 9
    """
    if size >= stride:
        return list(range(cells))
    starts = range(-padding, cells + padding - size + 1, stride)
    return [i for a in starts for i in range(a, a + size) if 0 <= i < cells]


def triple(values: Iterable[int]) -> Grid:
    t, h, w = values
    return t, h, w


class TokenPool(nn.Module):
    """`Pool` of all heads at once: x [P + N, C] to [P + N', C], P class tokens first.

    keep: the rows of the input that are read, or None for all. With `keep`, give only them.
    """

    keep: Tensor | None

    def __init__(self, pool: Pool, *, heads: int, sparse: bool, dtype: torch.dtype) -> None:
        super().__init__()
        conv, grid = pool.conv, pool.grid
        size, strides, padding = (
            cast(Grid, v) for v in (conv.kernel_size, conv.stride, conv.padding)
        )
        self.prefix, self.heads, self.grid, keep = pool.prefix, heads, grid, None
        if sparse and any(k < s for k, s in zip(size, strides, strict=True)):
            read = [read_cells(*axis) for axis in zip(grid, size, strides, padding, strict=True)]
            t, h, w = (torch.tensor(cells) for cells in read)
            rows = (t[:, None, None] * grid[1] + h[:, None]) * grid[2] + w
            keep = torch.cat([torch.arange(self.prefix), self.prefix + rows.flatten()])
            strides = triple(min(k, s) for k, s in zip(size, strides, strict=True))
            self.grid = triple(len(cells) for cells in read)
        self.register_buffer("keep", keep, persistent=False)
        width = heads * conv.out_channels
        wide = nn.Conv3d(
            width, width, size, stride=strides, padding=padding, groups=width, bias=False
        )
        wide.weight = nn.Parameter(conv.weight.detach().repeat(heads, 1, 1, 1, 1))
        self.conv = FusedConv(wide, None, relu=False, device="cpu", dtype=dtype)
        self.norm = Norm(pool.norm)

    def forward(self, x: Tensor) -> Tensor:
        cells = x[self.prefix :].view(1, *self.grid, -1).permute(0, 4, 1, 2, 3)
        pooled = self.conv(cells).permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])
        if self.prefix:
            pooled = torch.cat([x[: self.prefix], pooled])
        return self.norm(pooled.unflatten(1, (self.heads, -1))).flatten(1)


class TokenSkipPool(nn.Module):
    """`SkipPool` of rows: x [P + N, C] to [P + N', C]."""

    def __init__(self, pool: SkipPool) -> None:
        super().__init__()
        self.prefix, self.grid, self.kernel = pool.prefix, pool.grid, pool.kernel

    def forward(self, x: Tensor) -> Tensor:
        size, stride, padding = self.kernel.size, self.kernel.stride, self.kernel.padding
        cells = x[self.prefix :].view(*self.grid, -1).permute(0, 3, 1, 2)  # [T, C, H, W]
        if size[0] == stride[0] == 1:
            pooled = F.max_pool2d(cells, size[1:], stride[1:], padding[1:])
        else:
            cells = cells.transpose(0, 1)[None]
            pooled = F.max_pool3d(cells, size, stride, padding)[0].transpose(0, 1)
        pooled = pooled.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        return torch.cat([x[: self.prefix], pooled]) if self.prefix else pooled
