"""InternVideo2's names, and ours.

    patch_embed.proj, cls_token, pos_embed          patch_embed, class_token, positions
    blocks.0.norm1, .norm2                          blocks.0.norm_attention, .norm_mlp
    .attn.qkv, .attn.q_norm, .attn.k_norm           .attention.qkv, .norm_q, .norm_k
    .attn.proj                                      .attention.out
    .ls1.gamma, .ls2.gamma                          .scale_attention.gamma, .scale_mlp.gamma
    clip_projector.norm1_q                          projector.norm_q
    clip_projector.cross_attn.{q.weight,q_bias}     projector.q.{weight,bias}
    clip_projector.cross_attn.proj                  projector.out
    extra_mlp.0, extra_mlp.1                        probe.norm, probe.mlp
    fc_norm, head                                   norm, classifier

Beyond names: a separate table of times and places becomes the joint one, and one of 8 times is
resized for another number of frames. The decoders of pre-training are left out, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.internvideo2 import resized_positions
from tubelet.models.weights.layouts.base import (
    CheckpointLayout,
    Converted,
    renamed,
    unwrapped,
    without,
)

TRAINING_ONLY = re.compile(
    r"(clip_decoder|final_clip_decoder|mae_decoder|clip_middle_decoder)\..+"
    r"|(clip|mae)_(img_)?pos_embed(_spatial|_temporal|_cls)?|(img_)?pos_embed_img|mask_token"
)
TIMES = 8
"""Of every released table."""

RENAMES = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "positions"),
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.([qk])_norm\.", r".attention.norm_\1."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.ls1\.", ".scale_attention."),
    (r"\.ls2\.", ".scale_mlp."),
    (r"^clip_projector\.norm1_([qkv])\.", r"projector.norm_\1."),
    (r"^clip_projector\.cross_attn\.([qkv])_bias$", r"projector.\1.bias"),
    (r"^clip_projector\.cross_attn\.proj\.", "projector.out."),
    (r"^clip_projector\.cross_attn\.", "projector."),
    (r"^extra_mlp\.0\.", "probe.norm."),
    (r"^extra_mlp\.1\.", "probe.mlp."),
    (r"^fc_norm\.", "norm."),
    (r"^head\.", "classifier."),
)


def convert(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    tensors, dropped = unwrapped(source)
    tensors, training = without(tensors, TRAINING_ONLY)
    tensors = renamed(one_table(tensors), RENAMES)
    table, wanted = tensors.get("positions"), getattr(model, "positions", None)
    if table is not None and wanted is not None and table.shape != wanted.shape:
        tensors["positions"] = fitted(table, model)
    return Converted(tensors, [*dropped, *training])


def one_table(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Places and times that are added become one table [1, 1 + T*H*W, C]."""
    found = dict(tensors)
    names = [f"pos_embed_{part}" for part in ("spatial", "temporal", "cls")]
    if all(name in found for name in names):
        places, times, first = (found.pop(name) for name in names)
        cells = (times[:, :, None] + places[:, None]).flatten(1, 2)
        found["pos_embed"] = torch.cat([first, cells], dim=1)
    return found


def fitted(table: Tensor, model: nn.Module) -> Tensor:
    """A table for the frames and crop of `model`; one of another width stays as it is."""
    grid, width = getattr(model, "grid", None), model.state_dict()["positions"].shape[-1]
    side = round(((table.shape[1] - 1) / TIMES) ** 0.5)
    if grid is None or table.shape[-1] != width or TIMES * side * side != table.shape[1] - 1:
        return table
    return resized_positions(table.float(), (TIMES, side, side), grid)


def recognises(keys: Mapping[str, Tensor]) -> bool:
    flat, _ = unwrapped(keys)
    projector = any(key.startswith("clip_projector.") for key in flat)
    return projector and "blocks.0.attn.q_norm.weight" in flat


LAYOUTS = (CheckpointLayout("internvideo2", recognises, convert),)
