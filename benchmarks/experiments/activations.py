"""Experiment d: what autograd keeps for the gradient of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tubelet.models import revmvit
from tubelet.train.hooks import recompute_activations


def saved_bytes(model: torch.nn.Module, clip: torch.Tensor) -> int:
    """Bytes that autograd keeps for the gradient of one forward pass, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(clip).sum()
    total = sum(kept.values())
    del loss
    return total


def memory_by_depth(
    configs: Mapping[int, revmvit.Config],
) -> dict[str, list[tuple[float, float]]]:
    """MiB kept for the gradient of one clip: plain autograd, recomputed blocks, reversible."""
    curves: dict[str, list[tuple[float, float]]] = {"plain": [], "recomputed": [], "reversible": []}
    for depth, config in configs.items():
        for kind, points in curves.items():
            model = revmvit.build(config).train()
            model.recompute = kind == "reversible"
            if kind == "recomputed":
                recompute_activations(model)
            spec = config.clip
            clip = torch.randn(1, 3, spec.frames, spec.crop, spec.crop)
            points.append((depth, round(saved_bytes(model, clip) / 2**20, 2)))
    return curves
