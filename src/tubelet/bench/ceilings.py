"""What the machine can do: matrix products in float32 and bfloat16, copies of memory.

The product's ceiling is the best of torch's own product and the same one with a factor that
oneDNN has laid out beforehand: on some CPUs the first is far from what the units can do. Two
operations per multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tubelet.bench.rounds import Call

SIDE = 2048
COPY_MB = 256


def product(dtype: str, packed: bool) -> Call:
    """A matrix product of side 2048; one repetition is `size` of them.

    packed: where oneDNN lays out factors of this type, which not every CPU can.
    """
    import torch

    from tubelet.models.fast.fused import runs

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    a, b = torch.randn(SIDE, SIDE).to(kind), torch.randn(SIDE, SIDE).to(kind)
    multiply: Callable[[], Any] = lambda: a @ b  # noqa: E731
    if packed and runs("cpu", kind):
        laid_out = torch.ops.mkldnn._reorder_linear_weight(b, SIDE)
        multiply = lambda: torch.ops.mkldnn._linear_pointwise(  # noqa: E731
            a, laid_out, None, "none", [], ""
        )

    @torch.inference_mode()
    def call(size: int) -> None:
        for _ in range(size):
            multiply()

    return call


def product_gflops(seconds: float, size: int = 1) -> float:
    return size * 2 * SIDE**3 / seconds / 1e9


def copy() -> Call:
    """A copy of 256 MB."""
    import torch

    source = torch.ones(COPY_MB << 18)
    target = torch.empty_like(source)

    def call(size: int) -> None:
        for _ in range(size):
            target.copy_(source)

    return call


def copy_gb_s(seconds: float, size: int = 1) -> float:
    """Read and written bytes."""
    return size * 2 * COPY_MB / 1024 / seconds
