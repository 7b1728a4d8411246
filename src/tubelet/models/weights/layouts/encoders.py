"""Released names of Video Swin, Hiera, TimeSformer, ViViT and VideoPrism, turned into ours.

    Video Swin      features.2.1.attn.qkv, .mlp.0, .mlp.3; features.1.reduction   (torchvision)
                    backbone.layers.1.blocks.1.attn.qkv, .mlp.fc1, .mlp.fc2; layers.0.downsample
                    (mmaction2; the authors' repository has `norm` for its `norm3`)
    Hiera           blocks.3.attn.qkv, .proj; pos_embed_spatial; head.projection
    TimeSformer     model.blocks.3.temporal_attn.qkv, .temporal_fc                (authors)
                    timesformer.encoder.layer.3.temporal_attention.attention.qkv  (transformers)
    ViViT           vivit.encoder.layer.3.attention.attention.query               (as published)
                    vivit.layers.3.attention.q_proj                   (written by transformers 5)
    VideoPrism      spatial_layers.3.attention.q_proj, behind `vision_model.` or
                    `video_model.vision_model.` in files with text

Beyond names: matrices of queries, keys and values become one; Swin's blocks are counted through all
stages; kernels of pictures get an axis of time. Left out: what pre-training alone uses (Hiera's
decoder), towers for text, Swin's table of offsets, which is computed, and ViViT's `pooler`, which
no released classifier was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

Rules = Sequence[tuple[str, str]]
"""(pattern, replacement), applied in order."""

BLOCK: Rules = (
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.", ".attention."),
)
"""What blocks of timm's style are called here."""

SWIN: Rules = (
    (r"^backbone\.", ""),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^patch_embed\.norm\.", "patch_norm."),
    (r"^(norm3)\.", "norm."),
    (r"^(cls_head\.fc_cls|head)\.", "classifier."),
    (r"\.attn\.relative_position_bias_table$", ".attention.bias_table"),
    (r"\.attn\.(qkv|proj)\.", r".attn.attention.\1."),
    (r"\.attention\.proj\.", ".attention.out."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    *BLOCK,
)
HIERA: Rules = (
    (r"^pos_embed_spatial$", "position_space"),
    (r"^pos_embed_temporal$", "position_time"),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^head\.projection\.", "classifier."),
    (r"^(blocks\.\d+)\.proj\.", r"\1.widen."),
    *BLOCK,
)
TIMESFORMER: Rules = (
    (r"^model\.", ""),
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "position_space"),
    (r"^time_embed$", "position_time"),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^head\.", "classifier."),
    (r"\.temporal_norm1\.", ".norm_time."),
    (r"\.temporal_attn\.proj\.", ".time.out."),
    (r"\.temporal_attn\.", ".time."),
    (r"\.temporal_fc\.", ".time_out."),
    (r"\.norm1\.", ".norm_space."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.proj\.", ".space.out."),
    (r"\.attn\.", ".space."),
)
TIMESFORMER_HUB: Rules = (
    (r"^timesformer\.", ""),
    (r"^embeddings\.cls_token$", "class_token"),
    (r"^embeddings\.position_embeddings$", "position_space"),
    (r"^embeddings\.time_embeddings$", "position_time"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.temporal_layernorm\.", ".norm_time."),
    (r"\.temporal_attention\.attention\.", ".time."),
    (r"\.temporal_attention\.output\.dense\.", ".time.out."),
    (r"\.temporal_dense\.", ".time_out."),
    (r"\.layernorm_before\.", ".norm_space."),
    (r"\.layernorm_after\.", ".norm_mlp."),
    (r"\.attention\.attention\.", ".space."),
    (r"\.attention\.output\.dense\.", ".space.out."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
VIVIT: Rules = (
    (r"^vivit\.", ""),
    (r"^embeddings\.cls_token$", "class_token"),
    (r"^embeddings\.position_embeddings$", "positions"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm_attention."),
    (r"\.layernorm_after\.", ".norm_mlp."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.output\.dense\.", ".attention.out."),
    (r"\.attention\.o_proj\.", ".attention.out."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
VIDEOPRISM: Rules = (
    (r"^video_model\.", ""),
    (r"^vision_model\.", ""),
    (r"^spatial_embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^spatial_embeddings\.position_embeddings$", "position_space"),
    (r"^temporal_embeddings\.position_embeddings$", "position_time"),
    (r"^(spatial|temporal|auxiliary)_layers\.", r"\1."),
    (r"^layernorm1\.", "norm_space."),
    (r"^layernorm2\.", "norm_time."),
    (r"^head_layernorm\.", "head.norm."),
    (r"^head\.pooling_attention_query$", "head.query"),
    (r"^head\.per_dim_scale$", "head.scale"),
    (r"^head\.([qkv])_proj\.", r"head.\1."),
    (r"^head\.o_proj\.", "head.out."),
    (r"\.layernorm_before\.", ".norm_attention."),
    (r"\.layernorm_after\.", ".norm_mlp."),
    (r"\.attention\.o_proj\.", ".attention.out."),
)

HIERA_MASKED = re.compile(r"(encoder_norm|decoder_\w+|mask_token|multi_scale_fusion_heads)(\.|$).*")
TEXT = re.compile(r"(text_model\.|logit_).*")
VIVIT_POOLER = re.compile(r"(vivit\.)?pooler\..*")
OFFSETS = re.compile(r".*\.relative_position_index$")
NOTHING = re.compile(r"(?!)")
TRIPLES = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))


def rename(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def converted(
    source: Mapping[str, Tensor], rules: Rules, *, drop: re.Pattern[str] = NOTHING
) -> Converted:
    """Every key by the rules; an unknown one stays as it is, and is refused by the strict load."""
    dropped = [key for key in source if drop.fullmatch(key)]
    tensors = {rename(key, rules): source[key] for key in source if key not in set(dropped)}
    kernel = tensors.get("patch_embed.weight")
    if kernel is not None and kernel.ndim == 4:
        tensors["patch_embed.weight"] = kernel.unsqueeze(2)  # of a picture: one step of time
    return Converted(joined(tensors), dropped)


def joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one matrix; where one is missing, the others stay."""
    for first, second, third in TRIPLES:
        for key in [key for key in tensors if f".attention.{first}." in key]:
            names = [key.replace(f".{first}.", f".{part}.") for part in (first, second, third)]
            if all(name in tensors for name in names):
                parts = [tensors.pop(name) for name in names]
                tensors[key.replace(f".{first}.", ".qkv.")] = torch.cat(parts)
    return tensors


def convert_swin(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    """Blocks are counted through the stages; a merge has the number of the block behind it."""
    plain = {key.removeprefix("backbone."): value for key, value in source.items()}
    numbers = {
        (int(found[1]) if found[2] else int(found[1]) // 2, int(found[3]))
        for key in plain
        if (found := re.match(r"(?:features|layers)\.(\d+)\.(blocks\.)?(\d+)\.norm1", key))
    }
    order = {place: i for i, place in enumerate(sorted(numbers))}

    def flat(key: str) -> str:
        if found := re.match(r"features\.(\d+)\.(\d+)\.", key):
            return f"blocks.{order.get((int(found[1]) // 2, int(found[2])))}.{key[found.end() :]}"
        if found := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", key):
            return f"blocks.{order.get((int(found[1]), int(found[2])))}.{key[found.end() :]}"
        found = re.match(r"features\.(\d+)\.|layers\.(\d+)\.downsample\.", key)
        if found is None:
            return key
        stage = int(found[1]) // 2 + 1 if found[1] else int(found[2]) + 1
        return f"merges.{order.get((stage, 0))}.{key[found.end() :]}"

    return converted({flat(key): plain[key] for key in plain}, SWIN, drop=OFFSETS)


def is_swin(keys: Mapping[str, Tensor]) -> bool:
    table = "attn.relative_position_bias_table"
    starts = ("features.0.0.", "backbone.layers.0.blocks.0.", "layers.0.blocks.0.")
    found = [keys[f"{start}{table}"] for start in starts if f"{start}{table}" in keys]
    return bool(found) and "patch_embed.proj.weight" in {k.removeprefix("backbone.") for k in keys}


def is_hiera(keys: Mapping[str, Tensor]) -> bool:
    named = {"pos_embed_spatial", "pos_embed_temporal", "blocks.0.attn.qkv.weight"} <= set(keys)
    return named and "cls_token" not in keys and not any(".pool" in key for key in keys)


def starts_with(pattern: str, keys: Mapping[str, Tensor]) -> bool:
    return any(re.match(pattern, key) for key in keys)


LAYOUTS = (
    CheckpointLayout("video-swin", is_swin, convert_swin),
    CheckpointLayout(
        "hiera", is_hiera, lambda source, _: converted(source, HIERA, drop=HIERA_MASKED)
    ),
    CheckpointLayout(
        "timesformer",
        lambda keys: starts_with(r"(model\.)?blocks\.0\.temporal_attn\.qkv\.", keys),
        lambda source, _: converted(source, TIMESFORMER),
    ),
    CheckpointLayout(
        "timesformer-transformers",
        lambda keys: starts_with(r"(timesformer\.)?encoder\.layer\.0\.temporal_dense\.", keys),
        lambda source, _: converted(source, TIMESFORMER_HUB),
    ),
    CheckpointLayout(
        "vivit",
        lambda keys: starts_with(r"vivit\.(encoder\.layer|layers)\.0\.", keys),
        lambda source, _: converted(source, VIVIT, drop=VIVIT_POOLER),
    ),
    CheckpointLayout(
        "videoprism",
        lambda keys: starts_with(r"(video_model\.)?(vision_model\.)?spatial_layers\.0\.", keys),
        lambda source, _: converted(source, VIDEOPRISM, drop=TEXT),
    ),
)
