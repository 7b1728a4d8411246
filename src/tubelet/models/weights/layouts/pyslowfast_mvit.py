"""PySlowFast's names of MViT and Rev-MViT, and ours.

    cls_token, pos_embed_spatial, ...        tokens.class_token, tokens.spatial, ...
    patch_embed.proj.weight                  patch_embed.weight
    blocks.1.attn.pool_q.weight              blocks.1.attention.pool_q.conv.weight
    blocks.1.attn.norm_q.weight              blocks.1.attention.pool_q.norm.weight
    blocks.1.attn.rel_pos_h                  blocks.1.attention.relative.h
    blocks.1.proj.weight                     blocks.1.widen.weight
    rev_backbone.layers.1.F.attn.qkv.weight  blocks.1.f.attention.qkv.weight
    rev_backbone.layers.1.res_proj.weight    blocks.1.widen.weight
    head.projection.weight                   classifier.weight

Beyond names: separate q, k and v become one matrix, kernels of image models get an axis for time,
and tables made for another size of clip are resized. Other layouts of these families map to
PySlowFast's names first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.blocks.positions import fit_all

RENAMES: tuple[tuple[str, str], ...] = (
    (r"^cls_token$", "tokens.class_token"),
    (r"^pos_embed_class$", "tokens.class_position"),
    (r"^pos_embed_(spatial|temporal)$", r"tokens.\1"),
    (r"^pos_embed$", "tokens.joint"),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^rev_backbone\.layers\.", "blocks."),
    (r"^head\.projection\.", "classifier."),
    (r"^(blocks\.\d+)\.norm1\.", r"\1.norm_attention."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.norm_mlp."),
    (r"^(blocks\.\d+)\.(?:proj|res_proj)\.", r"\1.widen."),
    (r"^(blocks\.\d+)\.pre_q_fuse\.fuse_fn\.", r"\1.fuse.mlp."),
    (r"^(blocks\.\d+)\.F\.", r"\1.f."),
    (r"^(blocks\.\d+)\.G\.", r"\1.g."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.pool_([qkv])\.", r".attention.pool_\1.conv."),
    (r"\.attn\.norm_([qkv])\.", r".attention.pool_\1.norm."),
    (r"\.attn\.rel_pos_([thw])$", r".attention.relative.\1"),
    (r"\.attn\.", ".attention."),
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """MViT or Rev-MViT as PySlowFast writes it."""
    blocks = ("blocks.0.attn.proj.weight", "rev_backbone.layers.0.F.attn.proj.weight")
    return "patch_embed.proj.weight" in tensors and any(key in tensors for key in blocks)


def rename(key: str) -> str:
    """PySlowFast's key to ours; a key that no rule knows stays as it is."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def to_ours(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """PySlowFast's tensors under our names, fitted to the size that `model` was built for.

    What does not fit is passed on as it is: the strict load names it.
    """
    return fit_all(fuse_qkv({rename(key): value for key, value in tensors.items()}), model)


def fuse_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """attention.q, .k and .v, where they are apart, stacked to attention.qkv in that order."""
    fused: dict[str, Tensor] = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"(.*\.attention)\.([qkv])\.(weight|bias)", key)
        if match is None:
            fused[key] = value
            continue
        parts = [tensors.get(f"{match[1]}.{name}.{match[3]}") for name in "qkv"]
        present = [part for part in parts if part is not None]
        if len(present) < 3:
            fused[key] = value
        elif match[2] == "q":
            fused[f"{match[1]}.qkv.{match[3]}"] = torch.cat(present)
    return fused
