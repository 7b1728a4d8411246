"""PyTorchVideo's names, turned into PySlowFast's.

    blocks.0.conv, .norm                        s1.pathway0_stem.conv, .bn
    blocks.1.res_blocks.0.branch2.conv_a        s2.pathway0_res0.branch2.a
    blocks.1.multipathway_blocks.1.res_blocks.  s2.pathway1_res
    blocks.1.multipathway_fusion.norm           s2_fuse.bn
    blocks.5.pool.pre_conv (X3D)                head.conv_5
    norm_embed, head.proj (MViT)                norm, head.projection

The blocks with residual blocks are s2 to s5, whatever their numbers: C2D and I3D have a pooling
block in between. X3D's stem calls the convolution in space `conv_t` and the one in time `conv_xy`,
and its first shortcut has no norm: it gets the identity. Copies wrapped by PySlowFast, and
detection networks, have everything under `model.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts import pyslowfast, pyslowfast_mvit
from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

EPSILON = 1e-5
STEM = {"conv": "conv", "norm": "bn", "conv.conv_t": "conv_xy", "conv.conv_xy": "conv"}
BLOCK = (
    (r"branch1_conv", "branch1"),
    (r"branch1_norm", "branch1_bn"),
    (r"branch2\.conv_([abc])", r"branch2.\1"),
    (r"branch2\.norm_b\.1\.block\.0", "branch2.se.fc1"),
    (r"branch2\.norm_b\.1\.block\.2", "branch2.se.fc2"),
    (r"branch2\.norm_([abc])(?:\.0)?", r"branch2.\1_bn"),
)
FUSION = {"conv_fast_to_slow": "conv_f2s", "norm": "bn"}
HEAD = {
    "proj": "head.projection",
    "pool.pre_conv": "head.conv_5",
    "pool.pre_norm": "head.conv_5_bn",
    "pool.post_conv": "head.lin_5",
}
MVIT = (
    (r"^patch_embed\.patch_model\.", "patch_embed.proj."),
    (r"^cls_positional_encoding\.", ""),
    (r"^norm_embed\.", "norm."),
    (r"^head\.proj\.", "head.projection."),
)


def bare(key: str) -> str:
    """Without what PySlowFast's wrapper and detection networks put in front."""
    return key.removeprefix("model.").replace("detection_head.proj.", "head.projection.")


def stages(keys: Mapping[str, Tensor]) -> dict[int, int]:
    """{number of a block with residual blocks: its stage, 2 to 5}; {0: 1} is the stem."""
    found = {int(m[1]) for k in keys if (m := re.match(r"blocks\.(\d+)\..*res_blocks\.", bare(k)))}
    return {0: 1} | {number: 2 + i for i, number in enumerate(sorted(found))}


def conv_name(key: str, stage: Mapping[int, int]) -> str:
    """PySlowFast's name of a key of the convolutional families; an unknown key stays as it is."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(\w+)", bare(key))
    if found is None:
        return bare(key)
    number, place, tensor = int(found[1]), found[2], found[3]
    lateral = re.fullmatch(r"multipathway_fusion\.(\w+)", place)
    if lateral and lateral[1] in FUSION and number in stage:
        return f"s{stage[number]}_fuse.{FUSION[lateral[1]]}.{tensor}"
    pathway = re.match(r"multipathway_blocks\.(\d)\.", place)
    if pathway:
        place = place[pathway.end() :]
    path = pathway[1] if pathway else "0"
    if number == 0 and place in STEM:
        return f"s1.pathway{path}_stem.{STEM[place]}.{tensor}"
    block = re.fullmatch(r"res_blocks\.(\d+)\.(.+)", place)
    if block:
        for pattern, name in BLOCK:
            layer = re.fullmatch(pattern, block[2])
            if layer:
                layer_name = layer.expand(name)
                return f"s{stage[number]}.pathway{path}_res{block[1]}.{layer_name}.{tensor}"
    return f"{HEAD[place]}.{tensor}" if place in HEAD else key


def convert_conv(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    stage = stages(source)
    renamed = {conv_name(key, stage): value for key, value in source.items()}
    shortcut = "s2.pathway0_res0.branch1"
    if shortcut + ".weight" in renamed and shortcut + "_bn.weight" not in renamed:
        renamed |= identity_norm(shortcut + "_bn", channels=len(renamed[shortcut + ".weight"]))
    return pyslowfast.convert(renamed, model)


def identity_norm(name: str, *, channels: int) -> dict[str, Tensor]:
    """A batch norm that changes nothing."""
    one, zero = torch.ones(channels), torch.zeros(channels)
    return {
        f"{name}.weight": one,
        f"{name}.bias": zero,
        f"{name}.running_mean": zero,
        f"{name}.running_var": one - EPSILON,
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def convert_mvit(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    """The aliases of the pooling layers, which later versions write as well, are left out."""
    renamed: dict[str, Tensor] = {}
    dropped: list[str] = []
    for key, value in source.items():
        if "._attention_pool_" in key:
            dropped.append(key)
            continue
        name = bare(key)
        for pattern, replacement in MVIT:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return Converted(pyslowfast_mvit.to_ours(renamed, model), dropped)


def is_conv(keys: Mapping[str, Tensor]) -> bool:
    names = ("blocks.0.conv.", "blocks.0.multipathway_blocks.0.conv.")
    return any(bare(key).startswith(names) for key in keys) and len(stages(keys)) > 1


def is_mvit(keys: Mapping[str, Tensor]) -> bool:
    return any(bare(key) == "patch_embed.patch_model.weight" for key in keys)


LAYOUTS = (
    CheckpointLayout("pytorchvideo", is_conv, convert_conv),
    CheckpointLayout("pytorchvideo-mvit", is_mvit, convert_mvit),
)
