"""PySlowFast's self-supervised checkpoints: the backbone, without what only training used.

    contrastive (MoCo, BYOL, SimCLR, SwAV)   backbone.s1.pathway0_stem.conv.weight, ...
    MaskFeat                                 MViT's names, mask_token, pred_head.*, no final norm

Left out and reported: the second encoder, queues, prototypes and memories; the projection head,
which is no classifier; the mask token and the prediction head. MaskFeat's network has no norm
behind the last block; it gets one without scale and shift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts import pyslowfast, pyslowfast_mvit
from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

TRAINING_ONLY = re.compile(
    r"(backbone_hist|knn_mem|memory|predictors?|swav_prototypes|backbone\.head|pred_head|hogs)\..+"
    r"|swav_prototypes|queue_x|queue_swav|ptr|iter|mask_token"
)


def split(source: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """(the network's tensors, names of the others)."""
    dropped = [key for key in source if TRAINING_ONLY.fullmatch(key)]
    kept = {key: value for key, value in source.items() if key not in set(dropped)}
    return kept, dropped


def convert_contrastive(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    kept, dropped = split(source)
    named = {key.removeprefix("backbone."): value for key, value in kept.items()}
    return Converted(pyslowfast.convert(named, model).tensors, dropped)


def convert_maskfeat(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    kept, dropped = split(source)
    tensors = pyslowfast_mvit.to_ours(kept, model)
    norm = model.state_dict().get("norm.weight")
    if norm is not None and "norm.weight" not in tensors:
        tensors["norm.weight"] = torch.ones(norm.shape)
        tensors["norm.bias"] = torch.zeros(norm.shape)
    return Converted(tensors, dropped)


LAYOUTS = (
    CheckpointLayout(
        "pyslowfast-contrastive",
        lambda keys: "backbone.s1.pathway0_stem.conv.weight" in keys,
        convert_contrastive,
    ),
    CheckpointLayout(
        "pyslowfast-maskfeat",
        lambda keys: "mask_token" in keys and pyslowfast_mvit.recognises(keys),
        convert_maskfeat,
    ),
)
