"""MViT, MViTv2, Rev-ViT and Rev-MViT for inference on a CPU; `models.mvit` and `models.revmvit` are
the networks to read.

    accelerate_mvit(model, device="cpu", dtype=...) -> `FastMViT`, with the same methods and taps

Clips of a batch run one after the other, so a row never depends on its neighbours. A block takes
and gives streams of rows: one in MViT, two in a reversible network (one after a transition).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tubelet.models.blocks.layers import check_size, check_taps, normed_mean, scores
from tubelet.models.blocks.pooling_attention import Pool, SkipPool
from tubelet.models.blocks.positions import to_map
from tubelet.models.fast.attention import TokenAttention
from tubelet.models.fast.fused import FusedConv
from tubelet.models.fast.tokens import Norm, TokenMlp, TokenPool, TokenSkipPool, packed
from tubelet.models.mvit import Block, MViT
from tubelet.models.revmvit import AttentionBranch, ReversibleBlock, RevMViT, Transition

Streams = tuple[Tensor, ...]
"""Rows [N, C] of one clip, one or two of them."""


class FastBlock(nn.Module):
    """`mvit.Block`."""

    def __init__(self, block: Block, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = Norm(block.norm_attention)
        self.attention = TokenAttention(block.attention, dtype=dtype)
        in_mlp = not block.widen_in_attention
        self.mlp = TokenMlp(
            block.norm_mlp, block.mlp, widen=block.widen if in_mlp else None, dtype=dtype
        )
        wide = block.widen if block.widen_in_attention else None
        self.widen = packed(wide, dtype) if wide is not None else None
        pool = block.pool_skip
        self.pool_skip = TokenSkipPool(pool) if isinstance(pool, SkipPool) else nn.Identity()

    def forward(self, streams: Streams) -> Streams:
        (x,) = streams
        normed = self.norm(x)
        if self.widen is not None:
            x = self.widen(normed)
        x = self.attention(normed, self.pool_skip(x))
        return (self.mlp(x, x),)


class FastBranch(nn.Module):
    """`revmvit.AttentionBranch`, added to `other`."""

    def __init__(self, branch: AttentionBranch, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = Norm(branch.norm)
        self.attention = TokenAttention(branch.attention, dtype=dtype)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.attention(self.norm(x), other)


class FastReversible(nn.Module):
    """`revmvit.ReversibleBlock`, forwards."""

    def __init__(self, block: ReversibleBlock, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.f = FastBranch(block.f, dtype=dtype)
        self.g = TokenMlp(block.g.norm, block.g.mlp, widen=None, dtype=dtype)

    def forward(self, streams: Streams) -> Streams:
        x1, x2 = streams[0], streams[-1]
        y1 = self.f(x2, x1)
        return y1, self.g(y1, x2)


class FastTransition(nn.Module):
    """`revmvit.Transition`."""

    def __init__(self, block: Transition, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.fuse = copy.deepcopy(block.fuse).to(dtype)
        self.f = FastBranch(block.f, dtype=dtype)
        self.g = TokenMlp(block.g.norm, block.g.mlp, widen=None, dtype=dtype)
        wide = block.widen
        self.widen = packed(wide, dtype) if isinstance(wide, nn.Linear) else nn.Identity()
        attention = block.f.attention
        self.pool_skip = (
            TokenPool(attention.pool_q, heads=attention.heads, sparse=False, dtype=dtype)
            if isinstance(attention.pool_q, Pool)
            else nn.Identity()
        )

    def forward(self, streams: Streams) -> Streams:
        x = self.fuse(streams[0], streams[-1])
        x = self.f(x, self.pool_skip(self.widen(x)))
        return (self.g(x, x),)


def fast_block(block: nn.Module, dtype: torch.dtype) -> nn.Module:
    if isinstance(block, Block):
        return FastBlock(block, dtype=dtype)
    if isinstance(block, Transition):
        return FastTransition(block, dtype=dtype)
    assert isinstance(block, ReversibleBlock)
    return FastReversible(block, dtype=dtype)


class FastMViT(nn.Module):
    """Both families. Clips [B, 3, T, H, W], channels last, of `dtype`; taps of `dtype` or float32.

    The last norm, the mean and the classifier are float32.
    """

    def __init__(self, model: MViT | RevMViT, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.clip, self.taps, self.activation = model.clip, model.taps, model.activation
        self.grids, self.mean_pooling = model.grids, model.config.mean_pooling
        self.prefix = model.prefix if isinstance(model, MViT) else 0
        self.patch_embed = FusedConv(model.patch_embed, None, relu=False, device="cpu", dtype=dtype)
        self.tokens = copy.deepcopy(model.tokens).to(dtype)
        self.blocks = nn.ModuleList(fast_block(block, dtype) for block in model.blocks)
        self.norm = copy.deepcopy(model.norm).float()
        self.classifier = copy.deepcopy(model.classifier).float()

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """As the readable network's."""
        check_taps(taps, self.taps)
        check_size(clip, self.clip)
        found = [self._one(one[None], taps) for one in clip]
        return {tap: torch.cat([one[tap] for one in found]) for tap in taps}

    def _one(self, clip: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        found = {"stem": self.patch_embed(clip)}
        streams: Streams = (self.tokens(found["stem"])[0].contiguous(),)
        for i, (block, grid) in enumerate(zip(self.blocks, self.grids, strict=True)):
            streams = block(streams)
            if f"block{i}" in taps or f"block{i}_tokens" in taps:
                x = torch.cat(streams, dim=-1)[None]
                found[f"block{i}_tokens"] = x
                found[f"block{i}"] = to_map(x[:, self.prefix :], grid)
        found["pool"], cells = self._pool(torch.cat(streams, dim=-1)[None].float())
        found["grid"] = to_map(cells, self.grids[-1])
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["pool"])
        return {tap: found[tap] for tap in taps}

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [1, N, C] of the last block to the feature [1, C] and the normed patch tokens."""
        if self.mean_pooling:
            return normed_mean(x[:, self.prefix :], self.norm)
        x = self.norm(x)
        return (x[:, 0], x[:, 1:]) if self.prefix else (x.mean(dim=1), x)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]."""
        return scores(self.classify(self.features(clip)["pool"]), self.activation)


def accelerate_mvit(model: MViT | RevMViT, *, device: str, dtype: torch.dtype) -> FastMViT | None:
    """None where there is nothing faster than the readable network: outside the CPU."""
    return FastMViT(model, dtype=dtype) if device == "cpu" else None
