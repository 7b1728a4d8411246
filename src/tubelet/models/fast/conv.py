"""The convolutional families rebuilt from fused convolutions.

The network stays what it is, with its `maps`, `features` and head; its blocks are replaced by
blocks with the same forward and fewer steps:

    Stem, Unit, Lateral     conv - norm - ReLU                      one step
    Bottleneck, Basic       ... - conv - norm - sum - ReLU          one step per convolution
    ConvNorm, ShortcutBlock the same for R3D, R(2+1)D, CSN, S3D
    Inception               its max pool separated by axes, no padded copies
    X3D's block             squeeze-excitation and swish between two such steps
    MaxPool3d               over whole frames: the maximum of their maps
    NonLocal                its norm goes into its last convolution; attention on [positions, d]
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models import i3d, slowfast, x3d
from tubelet.models.blocks import conv_norm
from tubelet.models.blocks import resnet as pathway
from tubelet.models.blocks.nonlocal_block import NonLocal
from tubelet.models.fast.fused import FusedConv
from tubelet.models.fast.tokens import pieces, product

Fuse = Callable[..., FusedConv]
"""FusedConv for one device and type."""


def accelerate_conv(model: nn.Module, *, device: str, dtype: torch.dtype) -> nn.Module:
    """A network of the same class made of fused parts; `model` stays as it is."""
    return rebuilt(model, partial(FusedConv, device=device, dtype=dtype), device, dtype)


def rebuilt(module: nn.Module, fuse: Fuse, device: str, dtype: torch.dtype) -> nn.Module:
    """A copy with every known block replaced; nothing is shared that could change."""
    if isinstance(module, FusedConv):
        return module
    if type(module) in BLOCKS:
        return BLOCKS[type(module)](module, fuse)
    if isinstance(module, x3d.X3D):
        module = x3d_head(module, fuse, device)
    twin = copy.copy(module)
    twin._modules = {
        name: Head(child, device) if name == "classifier" else rebuilt(child, fuse, device, dtype)
        for name, child in module._modules.items()
        if child is not None
    }
    twin._parameters = {
        name: None if p is None else nn.Parameter(p.to(device, dtype), requires_grad=False)
        for name, p in module._parameters.items()
    }
    twin._buffers = {
        name: None if b is None else b.to(device, copy=True) for name, b in module._buffers.items()
    }
    if isinstance(twin, nn.Sequential):
        for block in list(twin)[1:]:  # what a block inside a stage gets is nobody else's
            if isinstance(block, (Residual, X3DBlock, Shortcut)):
                block.owns_input = True
    return twin


def x3d_head(model: x3d.X3D, fuse: Fuse, device: str) -> nn.Module:
    """A shallow copy whose last two convolutions have their norms folded in; lin5 is in float32."""
    exact = partial(FusedConv, device=device, dtype=torch.float32)
    twin = copy.copy(model)
    twin._modules = {
        **model._modules,
        "conv5": fuse(model.conv5, model.conv5_bn, relu=False),
        "conv5_bn": nn.Identity(),
        "lin5": exact(model.lin5, model.lin5_bn, relu=False),
        "lin5_bn": nn.Identity(),
    }
    return twin


class Head(nn.Module):
    """The classifier, in float32 whatever comes."""

    def __init__(self, head: nn.Module, device: str) -> None:
        super().__init__()
        self.head = copy.deepcopy(head).to(device)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.float())


class Stem(nn.Module):
    """`pathway.Stem`."""

    def __init__(self, stem: pathway.Stem, fuse: Fuse) -> None:
        super().__init__()
        self.conv = fuse(stem.conv, stem.bn, relu=True)
        self.pool = stem.pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


class Residual(nn.Module):
    """`pathway.Bottleneck` and `Basic`: the last convolution adds itself to the shortcut."""

    def __init__(self, block: Any, fuse: Fuse) -> None:
        super().__init__()
        names = ("a", "b") if isinstance(block, pathway.Basic) else ("a", "b", "c")
        convs = [
            fuse(getattr(block, f"conv_{name}"), getattr(block, f"bn_{name}"), relu=True)
            for name in names
        ]
        self.convs, self.last, self.owns_input = nn.Sequential(*convs[:-1]), convs[-1], False
        self.shortcut = None
        if block.shortcut is not None:
            self.shortcut = fuse(block.shortcut, block.shortcut_bn, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        return self.last.add(y, skipped(x, self.shortcut, self.owns_input))


def conv_norm_step(step: Any, fuse: Fuse) -> FusedConv:
    """`conv_norm.ConvNorm`."""
    return fuse(step.conv, step.bn, relu=step.relu)


class Shortcut(nn.Module):
    """`conv_norm.ShortcutBlock`: the branch's last convolution adds itself to the shortcut."""

    def __init__(self, block: conv_norm.ShortcutBlock, fuse: Fuse) -> None:
        super().__init__()
        *convs, last = block.branch
        self.convs = nn.Sequential(*(conv_norm_step(conv, fuse) for conv in convs))
        self.last = fuse(last.conv, last.bn, relu=True)
        self.owns_input = False
        self.shortcut = None
        if block.shortcut is not None:
            steps = (conv_norm_step(conv, fuse) for conv in block.shortcut)
            self.shortcut = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        return self.last.add(y, skipped(x, self.shortcut, self.owns_input))


def skipped(x: Tensor, shortcut: nn.Module | None, owned: bool) -> Tensor:
    """What a block adds its branch to, and writes over: x itself only where nobody else has it."""
    if shortcut is not None:
        return shortcut(x)
    return x if owned else x.clone()


class Lateral(nn.Module):
    """`slowfast.Lateral`."""

    def __init__(self, lateral: slowfast.Lateral, fuse: Fuse) -> None:
        super().__init__()
        self.conv = fuse(lateral.conv, lateral.bn, relu=lateral.bn is not None)

    def forward(self, fast: Tensor) -> Tensor:
        return self.conv(fast)


class Unit(nn.Module):
    """`i3d.Unit`; SAME padding is the convolution's own where it is the same on both sides."""

    def __init__(self, unit: i3d.Unit, fuse: Fuse) -> None:
        super().__init__()
        self.conv = fuse(unit.conv, unit.bn, relu=True)
        self.kernel, self.stride = unit.conv.kernel_size, unit.conv.stride

    def forward(self, x: Tensor) -> Tensor:
        pads = i3d.same_padding(x.shape[2:], self.kernel, self.stride)
        even = pads[0::2] == pads[1::2]
        if even:
            return self.conv(x, list(pads[0::2][::-1]))
        return self.conv(F.pad(x, pads), [0, 0, 0])


class MaxPool(nn.Module):
    """`i3d.MaxPool` without a padded copy: what sticks out at the end never wins."""

    def __init__(self, pool: i3d.MaxPool, fuse: Fuse) -> None:
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor) -> Tensor:
        pads = i3d.same_padding(x.shape[2:], self.kernel, self.stride)
        before = pads[0::2][::-1]
        return F.max_pool3d(x, self.kernel, self.stride, before, ceil_mode=True)


class TimePool(nn.Module):
    """A max pool over `frames` frames that do not overlap: the maximum of as many maps."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        whole = x.shape[2] // self.frames * self.frames
        first, *others = (x[:, :, i : whole : self.frames] for i in range(self.frames))
        for other in others:
            first = torch.maximum(first, other)
        return first


def max_pool(pool: nn.MaxPool3d, fuse: Fuse) -> nn.Module:
    """A pool over whole frames as a `TimePool`, another one as it is."""
    size = pool.kernel_size
    unpadded = pool.padding in (0, (0, 0, 0))
    if isinstance(size, tuple) and size[1:] == (1, 1) and pool.stride == size and unpadded:
        return TimePool(size[0])
    return pool


class Inception(nn.Module):
    """`i3d.Inception`; the maximum over 3 x 3 x 3 is taken along one axis after the other."""

    def __init__(self, block: i3d.Inception, fuse: Fuse) -> None:
        super().__init__()
        self.branch0 = Unit(block.branch0, fuse)
        self.branch1_reduce = Unit(block.branch1_reduce, fuse)
        self.branch1 = Unit(block.branch1, fuse)
        self.branch2_reduce = Unit(block.branch2_reduce, fuse)
        self.branch2 = Unit(block.branch2, fuse)
        self.branch3 = Unit(block.branch3, fuse)

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self.branch0(x),
            self.branch1(self.branch1_reduce(x)),
            self.branch2(self.branch2_reduce(x)),
            self.branch3(largest_of_three(x)),
        ]
        return torch.cat(branches, dim=1)


def largest_of_three(x: Tensor) -> Tensor:
    """The maximum over 3 x 3 x 3 cells, stride 1; cells outside never win."""
    for axis in (2, 3, 4):
        before, x = x, x.clone()
        cells = x.shape[axis] - 1
        for to, other in ((1, 0), (0, 1)):
            part = x.narrow(axis, to, cells)
            torch.maximum(part, before.narrow(axis, other, cells), out=part)
    return x


class X3DStem(nn.Module):
    """`x3d.Stem`."""

    def __init__(self, stem: x3d.Stem, fuse: Fuse) -> None:
        super().__init__()
        self.space = fuse(stem.conv_space, None, relu=False)
        self.time = fuse(stem.conv_time, stem.bn, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.space(x))


class SqueezeExcitation(nn.Module):
    """`x3d.SqueezeExcitation`, in place; means of frames first, which keeps sums short."""

    def __init__(self, squeeze: x3d.SqueezeExcitation, fuse: Fuse) -> None:
        super().__init__()
        self.reduce = fuse(squeeze.reduce, None, relu=True)
        self.expand = fuse(squeeze.expand, None, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, frames, height, width = x.shape
        pictures = x.transpose(1, 2).flatten(0, 1)  # [B T, C, H, W], a view
        means = F.avg_pool2d(pictures, (height, width)).view(batch, frames, channels).mean(dim=1)
        weights = self.expand(self.reduce(means.view(batch, channels, 1, 1, 1)))
        return x.mul_(weights.sigmoid_())


class X3DBlock(nn.Module):
    """`x3d.Block`."""

    def __init__(self, block: x3d.Block, fuse: Fuse) -> None:
        super().__init__()
        self.owns_input = False
        self.a = fuse(block.conv_a, block.bn_a, relu=True)
        self.b = fuse(block.conv_b, block.bn_b, relu=False)
        self.se = None
        if isinstance(block.se, x3d.SqueezeExcitation):
            self.se = SqueezeExcitation(block.se, fuse)
        self.c = fuse(block.conv_c, block.bn_c, relu=True)
        self.shortcut = None
        if block.shortcut is not None:
            self.shortcut = fuse(block.shortcut, block.shortcut_bn, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        if self.se is not None:
            y = self.se(y)
        y = F.silu(y, inplace=True)
        return self.c.add(y, skipped(x, self.shortcut, self.owns_input))


class Attention(nn.Module):
    """`nonlocal_block.NonLocal`; positions come first, so that no map changes its layout.

    "dot_product" has no softmax, so that theta (phi^T g) replaces (theta phi^T) g: a d x d product
    instead of one of all pairs of positions.
    """

    def __init__(self, block: NonLocal, fuse: Fuse) -> None:
        super().__init__()
        self.block = copy.copy(block)
        convs = {
            name: fuse(conv, None, relu=False)
            for name, conv in block.named_children()
            if name in ("theta", "phi", "g")
        }
        self.packs = convs["g"].packs
        out = fuse(block.out, block.bn, relu=False)
        pair = {"pair": block.pair} if block.form == "concatenation" else {}
        self.block._modules = {
            **convs, **pair, "pool": block.pool, "out": out, "bn": nn.Identity()
        }  # fmt: skip
        if block.form in ("softmax", "dot_product"):
            self.block.attend = self.attend

    def forward(self, x: Tensor) -> Tensor:
        if self.block.groups == 1:  # cutting time into one piece would change how the map lies
            return x + self.block.attend(x)
        return self.block(x)

    def attend(self, x: Tensor) -> Tensor:
        block = self.block
        keys = x if block.pool_last else block.pooled(x)
        theta = positions(block.theta(x))  # [B, N, d]
        phi, g = (positions(block.finish(conv(keys))) for conv in (block.phi, block.g))  # [B, M, d]
        if block.form == "softmax":
            y = attention(theta, phi, g, scale=block.scale, packs=self.packs)
        else:
            y = theta @ (phi.transpose(1, 2) @ g / phi.shape[1])
        batch, _, *grid = x.shape
        return block.out(y.view(batch, *grid, -1).permute(0, 4, 1, 2, 3))


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float, packs: bool) -> Tensor:
    """softmax(q k^T scale) v of q [B, N, d], k and v [B, M, d].

    packs: by oneDNN's products, in pieces whose scores stay in a cache, as `fast.attention` does.
    """
    if not packs:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for queries, keys, values, result in zip(q, k * scale, v, out, strict=True):
        values = values.t().contiguous()
        for piece in pieces(len(queries), len(keys)):
            chances = product(queries[piece], keys).softmax(dim=-1)
            result[piece] = product(chances, values)
    return out


def positions(x: Tensor) -> Tensor:
    """[B, d, T, H, W], channels last, to [B, N, d]; a view."""
    return x.permute(0, 2, 3, 4, 1).flatten(1, 3)


BLOCKS: dict[type[nn.Module], Callable[[Any, Fuse], nn.Module]] = {
    pathway.Stem: Stem,
    pathway.Bottleneck: Residual,
    pathway.Basic: Residual,
    slowfast.Lateral: Lateral,
    conv_norm.ConvNorm: conv_norm_step,
    conv_norm.ShortcutBlock: Shortcut,
    NonLocal: Attention,
    i3d.Unit: Unit,
    i3d.MaxPool: MaxPool,
    nn.MaxPool3d: max_pool,
    i3d.Inception: Inception,
    x3d.Stem: X3DStem,
    x3d.Block: X3DBlock,
}
