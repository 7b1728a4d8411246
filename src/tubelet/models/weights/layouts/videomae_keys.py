"""VideoMAE's names, and ours.

    authors (v1, v2)               transformers                                       ours
    patch_embed.proj               embeddings.patch_embeddings.projection             patch_embed
    blocks.0.norm1, .norm2         encoder.layer.0.layernorm_before, _after           .norm_attention, .norm_mlp
    .attn.qkv.weight               .attention.attention.{query,key,value}.weight      .attention.qkv.weight
    .attn.q_bias, .attn.v_bias     .attention.attention.{q_bias,v_bias} (old),        .attention.qkv.bias
                                   .{query,value}.bias (version 5)
    .attn.proj                     .attention.output.dense                            .attention.out
    .mlp.fc1, .mlp.fc2             .intermediate.dense, .output.dense                 .mlp.fc1, .mlp.fc2
    fc_norm | norm                 fc_norm | layernorm                                pool_norm | token_norm
    head                           classifier                                         classifier

mmaction2 has the authors' names with `backbone.` before them, `patch_embed.projection`,
`mlp.layers.0.0`, `mlp.layers.1` and `cls_head.fc_cls`, and stores the table of sines.

Beyond names: q, k and v become one matrix, and the key's bias, which no file has, is zero. A file
without the biases of query and value is refused: some versions of other tools lose them silently.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.errors import KeyMismatch
from tubelet.models.weights.layouts.base import (
    CheckpointLayout,
    Converted,
    renamed,
    unwrapped,
    without,
)

DECODER = re.compile(r"(decoder|encoder_to_decoder|decoder_pos_embed)\b.*|mask_token")
"""What only pre-training uses."""

AUTHORS = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_mlp."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.", ".attention."),
    (r"^fc_norm\.", "pool_norm."),
    (r"^norm\.", "token_norm."),
    (r"^head\.", "classifier."),
)
TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.(q_bias|v_bias)$", r".attn.\1"),
    (r"\.attention\.attention\.query\.bias$", ".attn.q_bias"),
    (r"\.attention\.attention\.value\.bias$", ".attn.v_bias"),
    (r"\.attention\.attention\.(query|key|value)\.weight$", r".attn.\1.weight"),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
MMACTION2 = (
    (r"^backbone\.", ""),
    (r"^cls_head\.fc_cls\.", "head."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
)


def convert_authors(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    return to_ours(*unwrapped(source))


def convert_transformers(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    tensors, dropped = without(source, DECODER)
    tensors = {key.removeprefix("videomae."): value for key, value in tensors.items()}
    tensors = renamed(tensors, TRANSFORMERS)
    for key in [key for key in tensors if key.endswith(".attn.query.weight")]:
        names = [key.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(name in tensors for name in names):  # else the strict load names what is there
            tensors[key.replace(".query.", ".qkv.")] = torch.cat([tensors.pop(n) for n in names])
    return to_ours(tensors, dropped)


def convert_mmaction2(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    tensors = renamed(source, MMACTION2)
    table = tensors.get("pos_embed")
    dropped: list[str] = []
    if table is not None and is_sine_table(table, model):
        dropped.append("backbone.pos_embed")
        del tensors["pos_embed"]
    return to_ours(tensors, dropped)


def is_sine_table(table: Tensor, model: nn.Module) -> bool:
    """Whether a stored table is the fixed one of this network; a learned one is not."""
    ours = getattr(model, "positions", None)
    if ours is None or ours.shape != table.shape:
        return False
    return table.is_meta or ours.is_meta or torch.allclose(table.float(), ours, atol=1e-4)


def to_ours(tensors: Mapping[str, Tensor], dropped: list[str]) -> Converted:
    """The authors' names to ours. Raises KeyMismatch for missing biases of query or value."""
    tensors, more = without(tensors, DECODER)
    joined = with_bias(tensors)
    return Converted(renamed(joined, AUTHORS), [*dropped, *more])


def with_bias(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The biases of query, key (zero) and value as one. Raises KeyMismatch, naming lost ones."""
    found = dict(tensors)
    missing: list[str] = []
    for key in tensors:
        if not key.endswith(".attn.qkv.weight"):
            continue
        start = key.removesuffix("qkv.weight")
        names = [f"{start}q_bias", f"{start}v_bias"]
        missing += [name for name in names if name not in found]
        if all(name in found for name in names):
            q, v = (found.pop(name) for name in names)
            found[f"{start}qkv.bias"] = torch.cat([q, torch.zeros_like(v), v])
    if missing:
        raise KeyMismatch(
            f"the query and value biases are missing: {', '.join(missing[:4])}"
            f"{', ...' if len(missing) > 4 else ''}; without them every feature would be slightly "
            "wrong, so the file is not used: fetch the released one again, or save it with a "
            "version of transformers that keeps q_bias and v_bias"
        )
    return found


def recognises_authors(keys: Mapping[str, Tensor]) -> bool:
    """A plain transformer whose linear layer for q, k and v has no bias of its own."""
    flat, _ = unwrapped(keys)
    patch = flat.get("patch_embed.proj.weight")
    plain = "blocks.0.attn.qkv.weight" in flat and "blocks.0.attn.qkv.bias" not in flat
    named = not {"cls_token", "pos_embed_spatial", "blocks.0.attn.q_norm.weight"} & set(flat)
    return plain and named and patch is not None and tuple(patch.shape[2:3]) == (2,)


def recognises_transformers(keys: Mapping[str, Tensor]) -> bool:
    start = "embeddings.patch_embeddings.projection.weight"
    return f"videomae.{start}" in keys or (
        start in keys and "encoder.layer.0.attention.attention.query.weight" in keys
    )


def recognises_mmaction2(keys: Mapping[str, Tensor]) -> bool:
    mlp = "backbone.blocks.0.mlp.layers.0.0.weight"
    return mlp in keys and "backbone.patch_embed.projection.weight" in keys


LAYOUTS = (
    CheckpointLayout("videomae-transformers", recognises_transformers, convert_transformers),
    CheckpointLayout("videomae-mmaction2", recognises_mmaction2, convert_mmaction2),
    CheckpointLayout("videomae", recognises_authors, convert_authors),
)
