"""Pooling attention on one clip's rows, equal to `pooling_attention.PoolingAttention`.

    x [N, C] -- q, k, v apart, keys and values only where their pooling reads --> pooled
      --> per head and piece of the queries: (q, relative logits) . (k, axes), softmax, . v

The scores of a piece stay in a cache. Both products are oneDNN's, which on AMD processors run at
twice the speed of those inside the flash kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.pooling_attention import Pool, PoolingAttention
from tubelet.models.blocks.positions import RelativePosition, resize_table
from tubelet.models.fast.tokens import PackedLinear, TokenPool, packed, pieces, product


class Relative(nn.Module):
    """`RelativePosition`: the product with every row of the tables at once, then the right ones.

    table [R + 1, d]: the axes' tables below each other, and a row of zeros for the class token.
    rows [P + Nq, K]: where each query finds its logits. axes [P + Nk, K]: as there.
    """

    table: Tensor
    rows: Tensor
    axes: Tensor

    def __init__(self, relative: RelativePosition, *, prefix: int, dtype: torch.dtype) -> None:
        super().__init__()
        tables: list[Tensor] = []
        found: list[Tensor] = []
        start = 0
        for axis, name in enumerate("thw"):
            if name not in relative.used:
                continue
            rows = relative.get_buffer(f"rows_{name}")
            tables.append(resize_table(relative.get_parameter(name), 2 * max(rows.shape) - 1))
            shape = [1, 1, 1, rows.shape[1]]
            shape[axis] = rows.shape[0]
            found.append((rows + start).view(shape).expand(*relative.q_grid, -1).flatten(0, 2))
            start += len(tables[-1])
        table = F.pad(torch.cat(tables).detach().float(), (0, 0, 0, 1)).to(dtype)
        rows = F.pad(torch.cat(found, dim=1), (0, 0, prefix, 0), value=start)
        axes = F.pad(relative.axes.float(), (0, 0, prefix, 0)).to(dtype)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def forward(self, q: Tensor, piece: slice) -> Tensor:
        """Logits [n, K] of the queries [n, d] of a piece."""
        return product(q, self.table).gather(1, self.rows[piece])


class TokenAttention(nn.Module):
    """x [P + N, C] to other + attention(x), both [P + Nq, C']."""

    def __init__(self, attention: PoolingAttention, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads, self.prefix = attention.heads, attention.prefix
        self.residual = attention.residual
        bias = attention.qkv.bias
        biases = bias.chunk(3) if bias is not None else [None] * 3
        self.q, self.k, self.v = (
            PackedLinear(weight, part, dtype=dtype)
            for weight, part in zip(attention.qkv.weight.chunk(3), biases, strict=True)
        )
        self.pool_q, self.pool_k, self.pool_v = (
            TokenPool(pool, heads=self.heads, sparse=sparse, dtype=dtype)
            if isinstance(pool, Pool)
            else nn.Identity()
            for pool, sparse in (
                (attention.pool_q, False),
                (attention.pool_k, True),
                (attention.pool_v, True),
            )
        )
        self.relative = (
            Relative(attention.relative, prefix=self.prefix, dtype=dtype)
            if attention.relative is not None
            else None
        )
        self.out = packed(attention.out, dtype)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        q = self.pool_q(self.q(x))
        if isinstance(self.pool_k, TokenPool) and self.pool_k.keep is not None:
            x = x[self.pool_k.keep]
        k, v = self.pool_k(self.k(x)), self.pool_v(self.v(x))
        return self.out.add(self._attend(q, k, v), other)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All heads: q [Nq, C'], k and v [Nk, C'] to [Nq, C'], with the residual pooling."""
        out = torch.empty_like(q)
        heads = range(self.heads)
        width = q.shape[1] // self.heads
        cut = [slice(i * width, (i + 1) * width) for i in heads]
        keys = [self._keys(k[:, c] * width**-0.5) for c in cut]
        values = [v[:, c].t().contiguous() for c in cut]
        for piece in pieces(len(q), len(k)):
            for i in heads:
                rows = q[piece, cut[i]].contiguous()
                longer = rows
                if self.relative is not None:
                    longer = torch.cat([rows, self.relative(rows, piece)], dim=1)
                chances = product(longer, keys[i]).softmax(dim=-1)
                out[piece, cut[i]] = product(chances, values[i])
        if self.residual:
            out[self.prefix :] += q[self.prefix :]
        return out

    def _keys(self, k: Tensor) -> Tensor:
        """Scaled keys of a head, with their coordinates where positions are relative."""
        return k if self.relative is None else torch.cat([k, self.relative.axes], dim=1)
