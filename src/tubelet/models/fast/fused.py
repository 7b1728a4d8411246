"""A convolution, its norm and what follows, as one step; the part that fast networks are made of.

    y = act(conv(x) * scale + shift)          norm folded into the kernel and a bias, in float64
    y = act(conv(x) * scale + shift + other)  the end of a residual block

On a CPU this is one oneDNN primitive on maps that lie channels last, with the kernel laid out for
it once. Elsewhere it is a convolution and what follows it, in place.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def packs(device: str, dtype: torch.dtype) -> bool:
    """Whether kernels are laid out by oneDNN beforehand."""
    return device == "cpu" and dtype in (torch.float32, torch.bfloat16)


def runs(device: str, dtype: torch.dtype) -> bool:
    """Whether fused convolutions exist for a device: x86 CPUs through oneDNN, and CUDA.

    float16 is for CUDA only; bfloat16 needs AVX-512 on a CPU.
    """
    if device.startswith("cuda"):
        return True
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


LAYING_OUT = Lock()


class LaidOut(nn.Module):
    """A module whose `weight` oneDNN lays out at first use; `packed` says whether it has."""

    weight: nn.Parameter
    packed: bool

    def lay_out(self, how: Callable[[Tensor], Tensor]) -> None:
        """The weight as `how` makes it; threads that share the network wait for the first."""
        with LAYING_OUT:
            if not self.packed:
                self.weight = nn.Parameter(how(self.weight), requires_grad=False)
                self.packed = True

    def __getstate__(self) -> dict[str, Any]:
        """What oneDNN laid out cannot be copied or sent; its plain form can."""
        state = dict(self.__dict__)
        if self.packed:
            weight = nn.Parameter(self.weight.to_dense(), requires_grad=False)
            state |= {"_parameters": {**self._parameters, "weight": weight}, "packed": False}
        return state


class FusedConv(LaidOut):
    """One step of the file's picture. x [B, C, T, H, W], channels last; so is what comes out.

    norm: folded in; None or an identity where there is none. relu: what act is, else the identity.
    """

    def __init__(
        self,
        conv: nn.Conv3d,
        norm: nn.Module | None,
        *,
        relu: bool,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self.padding, self.stride = [*conv.padding], [*conv.stride]
        self.dilation, self.groups, self.relu = [*conv.dilation], conv.groups, relu
        weight, bias = folded(conv, norm)
        self.packs, self.packed = packs(device, dtype), False
        self.bias = nn.Parameter(bias.to(device, dtype), requires_grad=False)
        weight = weight.to(device, dtype, memory_format=torch.channels_last_3d)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def _pack(self, shape: torch.Size, padding: list[int]) -> None:
        """Lay the kernel out for maps of this shape; others work too, at the price of a copy."""
        self.lay_out(
            lambda kernel: torch.ops.mkldnn._reorder_convolution_weight(
                kernel.contiguous(), padding, self.stride, self.dilation, self.groups, shape
            )
        )

    def forward(self, x: Tensor, padding: list[int] | None = None) -> Tensor:
        """act(conv(x)). padding: instead of the convolution's own."""
        padding = self.padding if padding is None else padding
        where = (padding, self.stride, self.dilation, self.groups)
        if self.packs:
            if not self.packed:
                self._pack(x.shape, padding)
            act = "relu" if self.relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *where, act, [], ""
            )
        y = self._plain(x, padding)
        return y.relu_() if self.relu else y

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """act(conv(x) + other), written over `other`."""
        where = (self.padding, self.stride, self.dilation, self.groups)
        if self.packs:
            if not self.packed:
                self._pack(x.shape, self.padding)
            act = "relu" if self.relu else None
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                other, x, self.weight, self.bias, *where, "add", 1.0, act, [], None
            )
        y = other.add_(self._plain(x, self.padding))
        return y.relu_() if self.relu else y

    def _plain(self, x: Tensor, padding: list[int]) -> Tensor:
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


@torch.no_grad()
def folded(conv: nn.Conv3d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """(kernel, bias) of a convolution and the batch norm behind it, computed in float64."""
    weight = conv.weight.double()
    bias = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    if conv.bias is not None:
        bias += conv.bias.double()
    if isinstance(norm, nn.BatchNorm3d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = (bias - norm.running_mean.double()) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        weight = weight * scale.view(-1, 1, 1, 1, 1)
    return weight.float(), bias.float()
