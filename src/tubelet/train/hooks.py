"""What only training does to a network, as hooks, so that `forward` stays the paper's figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tubelet.models.blocks.layers import exact_if_short
from tubelet.train.norm import not_recording


def add_dropout(model: Any, rate: float) -> None:
    """Dropout on what the classifier sees, in training."""

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(inputs[0], rate, training=module.training), *inputs[1:])

    if rate:
        model.classifier.register_forward_pre_hook(drop)


def residual_branches(model: nn.Module) -> list[nn.Module]:
    """The last norm of every residual branch of a convolutional network, in order."""
    return [
        getattr(module, last)
        for module in model.modules()
        for last in ("bn_c", "bn_b")
        if hasattr(module, last) and (last == "bn_c" or not hasattr(module, "bn_c"))
    ]


def add_drop_path(model: nn.Module, rate: float) -> None:
    """Stochastic depth (1603.09382): a clip loses the branch of a block, from never in the first
    block to `rate` in the last. Transformers have their own, see `Trunk.drop_path`."""
    branches = residual_branches(model)
    for i, branch in enumerate(branches):
        share = rate * i / max(len(branches) - 1, 1)
        if share:
            branch.register_forward_hook(_dropping(share))


def _dropping(share: float) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        kept = output.new_empty(len(output)).bernoulli_(1 - share) / (1 - share)
        return output * kept.view(-1, *[1] * (output.ndim - 1))

    return drop


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The units whose inputs are kept when activations are recomputed."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if (last.isdecimal() or last.startswith("mixed")) and list(module.children()):
            yield module


def recompute_activations(model: nn.Module) -> int:
    """Keep only the inputs of blocks and compute the rest again for the gradient (1604.06174).

    Norms do not count the second pass. Returns how many blocks do so; a reversible network already
    recomputes and is left alone.
    """
    if getattr(model, "recompute", False):
        return 0

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), not_recording(model)

    blocks = list(blocks_of(model))
    for block in blocks:
        block.forward = _recomputed(block.forward, contexts)
    return len(blocks)


def _recomputed(forward: Callable[..., Any], contexts: Callable[[], Any]) -> Callable[..., Any]:
    def run(*inputs: Any) -> Any:
        if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)

    return run


def short_convolutions_in_float32(model: nn.Module) -> None:
    """Convolutions over fewer frames than their kernel has keep out of autocast on the CPU, see
    `layers.exact_if_short`."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
            frames = module.kernel_size[0]
            exact: Any = partial(exact_if_short, module.forward, frames=frames)
            module.forward = exact
