"""torchvision's names of MViT, turned into PySlowFast's.

conv_proj                       patch_embed.proj
pos_encoding.class_token        cls_token (with two leading axes of size 1)
attn.pool_q.pool, .norm_act.0   attn.pool_q, attn.norm_q
mlp.0, mlp.3, project, head.1   mlp.fc1, mlp.fc2, proj, head.projection
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from tubelet.models.weights.layouts import pyslowfast_mvit
from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

RENAMES = (
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^pos_encoding\.class_token$", "cls_token"),
    (r"^pos_encoding\.(spatial|temporal)_pos$", r"pos_embed_\1"),
    (r"^pos_encoding\.class_pos$", "pos_embed_class"),
    (r"\.attn\.project\.0\.", ".attn.proj."),
    (r"\.attn\.pool_([qkv])\.pool\.", r".attn.pool_\1."),
    (r"\.attn\.pool_([qkv])\.norm_act\.0\.", r".attn.norm_\1."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^(blocks\.\d+)\.project\.", r"\1.proj."),
    (r"^head\.1\.", "head.projection."),
)


def rename(key: str) -> str:
    """PySlowFast's name; an unknown key stays as it is."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def convert(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    renamed: dict[str, Tensor] = {}
    for key, value in source.items():
        leading = 3 - value.ndim if key.startswith("pos_encoding.") else 0
        renamed[rename(key)] = value.reshape(*(1,) * leading, *value.shape)
    return Converted(pyslowfast_mvit.to_ours(renamed, model))


TORCHVISION = CheckpointLayout(
    "torchvision",
    lambda keys: "conv_proj.weight" in keys and "pos_encoding.class_token" in keys,
    convert,
)
