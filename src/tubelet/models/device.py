"""Where a network runs, and with which numbers."""

from __future__ import annotations

from typing import Any

from tubelet.errors import UsageError


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu. UsageError for a device that is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(kind, False):
        have = ", ".join(k for k, v in present.items() if v)
        raise UsageError(f"device {device!r} is not available; this machine has {have}")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """`auto` picks the fastest precision with a stated error bound; today that is fp32 on CPUs
    without bfloat16 units and bf16 elsewhere."""
    if precision != "auto":
        return precision
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capable = device == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if capable else "fp32"


def autocast(device: str, precision: str) -> Any:
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype is not None)
