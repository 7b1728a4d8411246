"""V-JEPA's names, and ours.

    Meta                                     transformers                              ours
    patch_embed.proj                         encoder.embeddings.patch_embeddings.proj  patch_embed
    blocks.0.norm1, .norm2                   encoder.layer.0.norm1, .norm2             .norm_attention, .norm_mlp
    .attn.qkv                                .attention.{query,key,value}              .attention.qkv
    .attn.proj                               .attention.proj                           .attention.out
    norm (2), norms_block.0-3 (2.1)          encoder.layernorm                         norms.0-3
    patch_embed_img.proj, img_mod_embed      -                                         patch_embed_image, image_embed
    pooler.query_tokens                      pooler.query_tokens                       pooler.query
    pooler.blocks.0                          pooler.self_attention_layers.0            pooler.blocks.0
    pooler.cross_attention_block.xattn.kv    pooler.cross_attention_layer.cross_attn.  pooler.kv
                                             {k,v}_proj
    linear                                   classifier                                classifier

Meta's files hold an encoder and its moving average, `target_encoder` (`ema_encoder` in files of
2.1 that were distilled): the average is taken, as Meta's evaluation does, and the rest left out.
`pos_embed` is there and unused. A probe file has a head without an encoder.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.errors import WeightsError
from tubelet.models.weights.layouts.base import (
    CheckpointLayout,
    Converted,
    renamed,
    unwrapped,
    without,
)

ENCODERS = ("target_encoder", "ema_encoder", "encoder")
"""Entries of Meta's files, the one to be taken first."""
UNUSED = re.compile(r"pos_embed|predictor\..*")

META = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^patch_embed_img\.proj\.", "patch_embed_image."),
    (r"^img_mod_embed$", "image_embed"),
    (r"^video_mod_embed$", "video_embed"),
    (r"^norm\.", "norms.0."),
    (r"^norms_block\.", "norms."),
    (r"^pooler\.query_tokens$", "pooler.query"),
    (r"^pooler\.cross_attention_block\.norm1\.", "pooler.norm_tokens."),
    (r"^pooler\.cross_attention_block\.norm2\.", "pooler.norm_mlp."),
    (r"^pooler\.cross_attention_block\.(?:xattn\.)?", "pooler."),
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.", ".attention."),
    (r"^linear\.", "classifier."),
)
TRANSFORMERS = (
    (r"^vjepa2\.", ""),
    (r"^encoder\.embeddings\.patch_embeddings\.", "patch_embed."),
    (r"^encoder\.layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.proj\.", ".attn.proj."),
    (r"^pooler\.self_attention_layers\.", "pooler.blocks."),
    (r"^pooler\.cross_attention_layer\.", "pooler.cross_attention_block."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
    (r"\.cross_attn\.([qkv])_proj\.", r".xattn.\1."),
    (r"^classifier\.", "linear."),
)
JOINED = (("query", "key", "value", "qkv"), ("xattn.k", "xattn.v", "xattn.kv"))
"""Matrices that stand one below the other in the last name of each."""


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' separate matrices as Meta's; where one is missing, the others stay apart."""
    found = dict(tensors)
    for *parts, whole in JOINED:
        pattern = re.compile(rf"(.+\.){re.escape(parts[0])}\.(weight|bias)")
        for match in filter(None, map(pattern.fullmatch, tensors)):
            names = [f"{match[1]}{part}.{match[2]}" for part in parts]
            if all(name in found for name in names):
                values = [found.pop(name) for name in names]
                found[f"{match[1]}{whole}.{match[2]}"] = torch.cat(values)
    return found


def convert_meta(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    tensors, dropped = unwrapped(source, ENCODERS)
    tensors, unused = without(tensors, UNUSED)
    return Converted(renamed(tensors, META), [*dropped, *unused])


def convert_transformers(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    tensors, dropped = without(source, re.compile(r"(vjepa2\.)?predictor\..*"))
    return Converted(renamed(joined(renamed(tensors, TRANSFORMERS)), META), dropped)


def refuse_probe(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    raise WeightsError(
        "these are the weights of a head (attentive probe) without an encoder; give a file that "
        "has both, such as the folders facebook/vjepa2-*-ssv2 of the Hugging Face Hub"
    )


def is_meta(keys: Mapping[str, Tensor]) -> bool:
    """A plain transformer on tubelets of two frames whose q, k and v have biases."""
    flat, _ = unwrapped(keys, ENCODERS)
    patch = flat.get("patch_embed.proj.weight")
    named = "norms_block.0.weight" in flat or "norm.weight" in flat
    plain = "blocks.0.attn.qkv.bias" in flat and "cls_token" not in flat
    return named and plain and patch is not None and tuple(patch.shape[2:3]) == (2,)


def is_transformers(keys: Mapping[str, Tensor]) -> bool:
    start = "encoder.embeddings.patch_embeddings.proj.weight"
    return start in keys or f"vjepa2.{start}" in keys


def is_probe(keys: Mapping[str, Tensor]) -> bool:
    flat, _ = unwrapped(keys)
    return "pooler.cross_attention_block.xattn.q.weight" in flat and not is_meta(keys)


LAYOUTS = (
    CheckpointLayout("vjepa2-transformers", is_transformers, convert_transformers),
    CheckpointLayout("vjepa2-probe", is_probe, refuse_probe),
    CheckpointLayout("vjepa2", is_meta, convert_meta),
)
