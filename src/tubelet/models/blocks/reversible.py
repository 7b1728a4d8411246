"""Running reversible blocks: forwards, and backwards without kept activations.

Section 3.2 of "Reversible Vision Transformers" (CVPR 2022). Plain autograd keeps the activations
of every block; here only the last outputs are kept, and going back, each block first gives its
inputs (`block.inverse`'s two lines), then its gradients:

    y1, y2, dy1, dy2
      G again on y1:  x2 = y2 - G(y1)     dy1 += gradient of G at y1 for dy2
      F again on x2:  x1 = y1 - F(x2)     dx2  = dy2 + gradient of F at x2 for dy1, dx1 = dy1
    x1, x2, dx1, dx2  go to the block before

What was random is the same the second time because it depends on a seed per branch and nothing
else: no global generator is read or set on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Seeds = tuple[int, int] | None


class Reversible(Protocol):
    """What a block has to offer: its two branches, with what they drop, and the whole."""

    @property
    def f(self) -> nn.Module: ...
    @property
    def g(self) -> nn.Module: ...
    def f_dropped(self, x2: Tensor, seeds: Seeds) -> Tensor: ...
    def g_dropped(self, y1: Tensor, seeds: Seeds) -> Tensor: ...
    def __call__(self, x1: Tensor, x2: Tensor, seeds: Seeds) -> tuple[Tensor, Tensor]: ...


class Dropping(Protocol):
    """A block whose branches may drop something; `active` says whether they do now."""

    @property
    def active(self) -> bool: ...


def draw_seeds(blocks: Sequence[Dropping]) -> list[Seeds]:
    """Two seeds for every block that drops something, from the global CPU generator."""
    seeds: list[Seeds] = []
    for block in blocks:
        pair = torch.randint(2**62, (2,)).tolist() if block.active else None
        seeds.append((pair[0], pair[1]) if pair else None)
    return seeds


def run_plain(
    blocks: Sequence[Reversible], x1: Tensor, x2: Tensor, seeds: Sequence[Seeds]
) -> tuple[Tensor, Tensor]:
    """The blocks one after the other, for inference and for plain autograd."""
    for block, pair in zip(blocks, seeds, strict=True):
        x1, x2 = block(x1, x2, pair)
    return x1, x2


def run_reversible(
    blocks: Sequence[Reversible], x1: Tensor, x2: Tensor, seeds: Sequence[Seeds]
) -> tuple[Tensor, Tensor]:
    """The same numbers and the same gradients; memory does not grow with the number of blocks."""
    if not torch.is_grad_enabled():
        return run_plain(blocks, x1, x2, seeds)
    parameters = [p for block in blocks for p in trained(block.f) + trained(block.g)]
    outputs = ReversibleBlocks.apply(blocks, seeds, x1, x2, *parameters)
    return cast(tuple[Tensor, Tensor], outputs)


def trained(branch: nn.Module) -> list[nn.Parameter]:
    return [p for p in branch.parameters() if p.requires_grad]


class ReversibleBlocks(torch.autograd.Function):
    """Parameters are arguments, so that their gradients leave through autograd like all others."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Reversible],
        seeds: Sequence[Seeds],
        x1: Tensor,
        x2: Tensor,
        *parameters: nn.Parameter,
    ) -> tuple[Tensor, Tensor]:
        device = x1.device.type
        y1, y2 = run_plain(blocks, x1, x2, seeds)
        ctx.blocks, ctx.seeds = blocks, seeds
        ctx.device, ctx.dtypes = device, (x1.dtype, x2.dtype)
        ctx.autocast = (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        ctx.save_for_backward(y1, y2)
        return y1, y2

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        y1, y2 = ctx.saved_tensors
        dy1, dy2 = grad_outputs
        found: list[list[Tensor]] = []
        for block, seeds in zip(reversed(ctx.blocks), reversed(ctx.seeds), strict=True):
            g = partial(block.g_dropped, seeds=seeds)
            g_y1, more, g_gradients = again(ctx, g, trained(block.g), at=y1, gradient=dy2)
            x2, dy1 = y2 - g_y1, dy1 + more
            f = partial(block.f_dropped, seeds=seeds)
            f_x2, more, f_gradients = again(ctx, f, trained(block.f), at=x2, gradient=dy1)
            x1, dy2 = y1 - f_x2, dy2 + more
            y1, y2 = x1, x2
            found.append(f_gradients + g_gradients)
        dx1, dx2 = (d.to(dtype) for d, dtype in zip((dy1, dy2), ctx.dtypes, strict=True))
        return None, None, dx1, dx2, *(g for block in reversed(found) for g in block)


def again(
    ctx: Any,
    branch: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    *,
    at: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A branch computed once more: its output, its gradients at the input and the parameters."""
    enabled, dtype = ctx.autocast
    leaf = at.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(ctx.device, dtype=dtype, enabled=enabled):
        out = branch(leaf)
    first, *rest = torch.autograd.grad(out, [leaf, *parameters], gradient.to(out.dtype))
    return out.detach(), first, rest
