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
    number = device.partition(":")[2]
    if kind == "cuda" and number.isdecimal() and int(number) >= torch.cuda.device_count():
        raise UsageError(
            f"device {device!r} is not there; this machine has cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}"
        )
    return device


def device_list(text: str) -> tuple[str, ...]:
    """`cuda:0,1` -> ("cuda:0", "cuda:1"); `cuda:0,cuda:1` and a single device too.

    UsageError for devices of several kinds: their last bits differ, and maybe their precision.
    """
    found: list[str] = []
    for part in text.split(","):
        name = part.strip()
        if name.isdecimal() and found and ":" in found[0]:
            name = f"{found[0].split(':')[0]}:{name}"
        found.append(resolve_device(name))
    kinds = sorted({name.split(":")[0] for name in found})
    if len(kinds) > 1:
        raise UsageError(
            f"device {text!r} mixes {' and '.join(kinds)}; a run has one kind, such as cuda:0,1"
        )
    return tuple(found)


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


def resolve_runtime(model: Any, runtime: str, *, device: str, precision: str) -> tuple[Any, str]:
    """(network to run, what it is): the readable one, or one rebuilt for inference."""
    if runtime == "fast":
        from tubelet.models.fast import accelerate

        network = accelerate(model, device=device, precision=precision)
        if network is not model:
            return network, "fast"
    elif runtime != "reference":
        raise UsageError(f"runtime {runtime!r}: it must be fast or reference")
    return model.to(device).eval(), "reference"


def autocast(device: str, precision: str, runtime: str = "reference") -> Any:
    """The readable networks run half precisions by autocast; the others are made of them."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    enabled = dtype is not None and runtime == "reference"
    return torch.autocast(device.split(":")[0], dtype=dtype, enabled=enabled)
