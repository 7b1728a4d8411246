"""Pooling attention: what MViT-v1 (2104.11227), MViT-v2 (2112.01526) and Rev-MViT share.

Section 3.1 of the first paper, figure 2 of the second:

    x [B, N, C] -- linear --> q, k, v [B, heads, N, d] -- each pooled on its grid --> attention
                                                                                          |
    out [B, Nq, C'] <-- linear <-- heads joined <-- (+ q: residual pooling, v2 sec. 4.1) <-+

A token stands for one cell of a grid (T, H, W), in that order, the last axis fastest; a class
token, where there is one, comes first and is never pooled. Nq and Nk count the tokens of the
pooled query and key grids. `d` is the width of a head.

Axes: B batch, N tokens, C channels, T time, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models.blocks.layers import exact_if_short
from tubelet.models.blocks.mvit_schedule import Grid, Kernel, Pooling, grown
from tubelet.models.blocks.positions import RelativePosition, to_map, to_tokens

NORM_EPS = 1e-6  # of every layer norm of these families, where nothing else is said


@dataclass(frozen=True)
class AttentionVariant:
    """What MViT-v2 adds to the attention of v1 (2112.01526, section 4.1).

    pool_norm_eps: of the norms behind the pools; 1e-5 in PyTorchVideo's networks.
    """

    rel_spatial: bool = False
    rel_temporal: bool = False
    residual_pooling: bool = False
    pool_norm_eps: float = NORM_EPS


def layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=NORM_EPS)


class Pool(nn.Module):
    """P(x) of 2104.11227, section 3.1: a depthwise convolution that all heads share, then a norm.

    x [B, heads, N, d] to [B, heads, N', d]. The class token skips the convolution, not the norm.
    """

    def __init__(
        self,
        width: int,
        *,
        kernel: Kernel,
        grid: Grid,
        class_token: bool,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.grid, self.prefix = grid, int(class_token)
        self.conv = nn.Conv3d(
            width,
            width,
            kernel.size,
            stride=kernel.stride,
            padding=kernel.padding,
            groups=width,
            bias=False,
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        token, patches = x[:, :, : self.prefix], x[:, :, self.prefix :]
        maps = to_map(patches.flatten(0, 1), self.grid)
        pooled = to_tokens(exact_if_short(self.conv, maps, frames=self.conv.kernel_size[0]))
        return self.norm(torch.cat([token, pooled.unflatten(0, x.shape[:2])], dim=2))


class SkipPool(nn.Module):
    """Max pooling of the skip path, so that it meets the pooled attention: x [B, N, C]."""

    def __init__(self, stride: Grid, *, grid: Grid, class_token: bool) -> None:
        super().__init__()
        self.grid, self.prefix = grid, int(class_token)
        self.kernel = Kernel(grown(stride), stride)

    def forward(self, x: Tensor) -> Tensor:
        token, patches = x[:, : self.prefix], x[:, self.prefix :]
        pooled = F.max_pool3d(
            to_map(patches, self.grid), self.kernel.size, self.kernel.stride, self.kernel.padding
        )
        return torch.cat([token, to_tokens(pooled)], dim=1)


def attend(q: Tensor, k: Tensor, v: Tensor, *, logits: Tensor, axes: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + logits axes^T) v, as one plain scaled dot product.

    q [B, heads, Nq, d], k and v [B, heads, Nk, d], logits [B, heads, Nq, K], axes [Nk, K]. The
    two sums are one dot product of longer vectors, (q / sqrt(d), logits) . (k, axes): so the
    bias, Nq x Nk numbers for every head, never exists, and the kernels without a mask apply. They
    want vectors of one length, GPUs a multiple of eight: the rest is zeros.
    `attend_written_out` is the same, step by step.
    """
    width, extra = q.shape[-1], axes.shape[-1]
    gap = -(width + extra) % 8
    nothing = q.new_zeros(()).expand(*q.shape[:-1], gap)
    q = torch.cat([q * width**-0.5, logits, nothing], dim=-1)
    k = torch.cat([k, F.pad(axes.to(k), (0, gap)).expand(*k.shape[:2], -1, -1)], dim=-1)
    v = F.pad(v, (0, extra + gap))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :width]


def attend_written_out(q: Tensor, k: Tensor, v: Tensor, *, logits: Tensor, axes: Tensor) -> Tensor:
    """Equation 4 of 2112.01526, the readable path that `attend` must agree with."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    bias = logits @ axes.transpose(-1, -2)
    return (scores + bias).softmax(dim=-1) @ v


class PoolingAttention(nn.Module):
    """Multi-head pooling attention: x [B, N, dim] to [B, Nq, dim_out]."""

    def __init__(
        self,
        dim: int,
        dim_out: int,
        *,
        heads: int,
        pooling: Pooling,
        qkv_bias: bool = True,
        class_token: bool = False,
        variant: AttentionVariant | None = None,
    ) -> None:
        super().__init__()
        variant = variant or AttentionVariant()
        width = dim_out // heads
        self.heads, self.prefix = heads, int(class_token)
        self.residual = variant.residual_pooling
        self.qkv = nn.Linear(dim, 3 * dim_out, bias=qkv_bias)
        self.pool_q, self.pool_k, self.pool_v = (
            Pool(
                width,
                kernel=kernel,
                grid=pooling.grid,
                class_token=class_token,
                norm_eps=variant.pool_norm_eps,
            )
            if kernel
            else nn.Identity()
            for kernel in (pooling.q, pooling.kv, pooling.kv)
        )
        self.relative = (
            RelativePosition(
                width, pooling=pooling, spatial=variant.rel_spatial, temporal=variant.rel_temporal
            )
            if variant.rel_spatial or variant.rel_temporal
            else None
        )
        self.out = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = self.pool_q(qkv[0]), self.pool_k(qkv[1]), self.pool_v(qkv[2])
        if self.relative is None:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            # The class token has no position: its row and its column of the bias are zero.
            logits = F.pad(self.relative(q[:, :, self.prefix :]), (0, 0, self.prefix, 0))
            axes = F.pad(self.relative.axes, (0, 0, self.prefix, 0))
            x = attend(q, k, v, logits=logits, axes=axes)
        if self.residual:
            x = torch.cat([x[:, :, : self.prefix], (x + q)[:, :, self.prefix :]], dim=2)
        return self.out(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU (the exact one, with erf), linear: [..., dim] to [..., dim_out]."""

    def __init__(self, dim: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Drop(nn.Module):
    """Dropout and stochastic depth at the end of a branch, in training: x [B, N, C].

    path: share of samples that lose the branch. rate: share of its numbers. `seed` decides which:
    the same seed removes the same again, and no global generator is touched. Without one the
    global generator decides.
    """

    def __init__(self, *, path: float, rate: float) -> None:
        super().__init__()
        self.path, self.rate = path, rate

    @property
    def active(self) -> bool:
        return self.training and (self.path > 0 or self.rate > 0)

    def forward(self, x: Tensor, seed: int | None = None) -> Tensor:
        if not self.active:
            return x
        generator = None if seed is None else torch.Generator(x.device).manual_seed(seed)
        for share, shape in ((self.rate, x.shape), (self.path, (len(x), 1, 1))):
            kept = torch.rand(shape, generator=generator, device=x.device) >= share
            x = x * kept / (1 - share)
        return x


def init_weights(module: nn.Module) -> None:
    """Truncated normal, std 0.02, for every matrix, kernel and table; norms and biases plain."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02)
