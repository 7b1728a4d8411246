"""The numbers of the drawings: shapes and kernels of networks that are built on the meta device.

A shape here has no batch: [C, T, H, W] of a map, [N, C] of tokens.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models import zoo
from tubelet.models.registry import config_of

Shape = tuple[int, ...]


@cache
def network(arch: str) -> Any:
    """Of an architecture, or of one set of released weights."""
    family, config = config_of(*zoo.arch_for(arch))
    with torch.device("meta"):
        return family.build(config).eval()


@cache
def alike(name: str) -> str:
    """The first name so far that has the same network and size of clip, whatever its classes."""
    family, config = config_of(*zoo.arch_for(name))
    clip = replace(config.clip, interval=1, mean=(), std=(), sampling="dense")
    same = replace(config, num_classes=0, activation="none", clip=clip)
    return _SEEN.setdefault(f"{family.__name__} {same}", name)


_SEEN: dict[str, str] = {}


def clip_shape(arch: str) -> Shape:
    clip = network(arch).clip
    return (clip.channels, clip.frames, clip.crop, clip.crop)


@cache
def maps(arch: str) -> dict[str, Shape]:
    """Every tap of a network, for a clip of its own size."""
    model = network(arch)
    taps = [tap for tap in model.taps if model.num_classes or tap != "dense_logits"]
    with torch.inference_mode():
        found = model.features(torch.zeros(1, *clip_shape(arch), device="meta"), taps)
    return {tap: tuple(value.shape[1:]) for tap, value in found.items()}


@dataclass(frozen=True)
class Call:
    """One call of a module: shapes of its first input and of its output."""

    inputs: Shape
    output: Shape


@cache
def calls(arch: str) -> dict[str, Call]:
    """What every module of a network was given and gave, by its name."""
    model = network(arch)
    found: dict[str, Call] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                found[name] = Call(tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in model.named_modules()]
    with torch.inference_mode():
        model.features(torch.zeros(1, *clip_shape(arch), device="meta"))
    for handle in handles:
        handle.remove()
    return found


def pool_kernels(module: nn.Module, shape: Shape) -> list[Shape]:
    """Windows of the max and average pools that a module calls on a map of this shape, in order."""
    found: list[Shape] = []

    def spy(pool: Any) -> Any:
        def call(x: Tensor, kernel: Any, *args: Any, **kwargs: Any) -> Tensor:
            found.append((kernel,) * 3 if isinstance(kernel, int) else tuple(kernel))
            return pool(x, kernel, *args, **kwargs)

        return call

    with ExitStack() as stack, torch.inference_mode():
        for name in ("max_pool3d", "avg_pool3d"):
            stack.enter_context(mock.patch.object(F, name, spy(getattr(F, name))))
        module(torch.zeros(1, *shape, device="meta"))
    return found


def parameters_m(arch: str) -> float:
    """In 1e6."""
    return sum(p.numel() for p in network(arch).parameters()) / 1e6


def positions(shape: Shape) -> int:
    """Cells of a map."""
    return math.prod(shape[1:])
