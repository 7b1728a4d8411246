"""What one forward pass costs, counted on shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tubelet.models.blocks import pooling_attention


def operations(build: Callable[[], nn.Module], clip: tuple[int, ...]) -> int:
    """Of convolutions, linear layers and matrix products of `features` of one clip [B, C, T, H, W].

    Two per multiply-add. Nothing is computed: shapes only.
    """
    with torch.device("meta"):
        model: Any = build().eval()
        pixels = torch.zeros(clip)

    def attention(q: Tensor, k: Tensor, v: Tensor, **_: Tensor) -> Tensor:
        return (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v

    biased = mock.patch.object(pooling_attention, "attend", attention)
    plain = mock.patch.object(
        pooling_attention.F, "scaled_dot_product_attention", attention
    )  # fmt: skip
    with biased, plain, FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.features(pixels)
    return counter.get_total_flops()
