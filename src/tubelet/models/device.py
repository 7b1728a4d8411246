"""Where a network runs, and with which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from tubelet.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


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
        raise UsageError(
            f"device {device!r} is not available; this machine has {have}: name one of these, or "
            "leave --device out"
        )
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


BF16_COSINE = 0.999
"""Between a row in bfloat16 and the same row in float32, at least: the bound of `auto`. Tests hold
every family to it; benchmarks/precision.md has rows of real videos."""


def resolve_precision(precision: str, device: str) -> str:
    """`auto` is the fastest precision with a stated bound (BF16_COSINE), else fp32.

    That is bf16 where there are units for it: CPUs with AMX or AVX512-BF16, CUDA from 8.0 on.
    """
    if precision != "auto":
        return precision
    return "bf16" if has_bf16_units(device) else "fp32"


def has_bf16_units(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there, and not only emulated."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()  # AMX implies it


def faster_precision(precision: str, device: str) -> str | None:
    """What a faster precision would cost, in one line; None where there is none."""
    if precision != "fp32" or not has_bf16_units(device):
        return None
    return (
        "float32; --precision auto would use bfloat16 here, 1.2 to 1.9 times as fast where that "
        f"was measured; rows keep a cosine of {BF16_COSINE} or more with their float32 ones "
        "(docs/fast.md)"
    )


def resolve_runtime(model: Any, runtime: str, *, device: str, precision: str) -> tuple[Any, str]:
    """(network to run, what it is): the readable one, or one rebuilt or compiled for inference."""
    if runtime == "fast":
        from tubelet.models.fast import accelerate

        network = accelerate(model, device=device, precision=precision)
        if network is not model:
            return network, "fast"
    elif runtime == "compile":
        from tubelet.models.compiled import compiled

        return compiled(model, device=device), "compile"
    elif runtime != "reference":
        raise UsageError(f"runtime {runtime!r}: it must be fast, reference or compile")
    return model.to(device).eval(), "reference"


@contextmanager
def arithmetic(device: str, precision: str, runtime: str) -> Iterator[None]:
    """How numbers are computed inside: float32 is float32 (CUDA would take TF32 for convolutions),
    fast networks are made of half precisions, the others run them by autocast."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    kind = device.split(":")[0]
    cast = torch.autocast(kind, dtype=dtype, enabled=dtype is not None and runtime != "fast")
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with cast, exact if kind == "cuda" and precision == "fp32" else nullcontext():
        yield


def sent(clip: Tensor, device: str) -> Tensor:
    """The clip on the device; to CUDA from pinned memory, so that nobody waits for the copy."""
    if device.startswith("cuda"):
        return clip.pin_memory().to(device, non_blocking=True)
    return clip.to(device)
