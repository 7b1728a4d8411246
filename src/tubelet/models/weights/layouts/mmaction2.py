"""mmaction2's names (0.x and 1.x), turned into PySlowFast's.

    backbone.layer3.5.conv1.conv, .bn              s4.pathway0_res5.branch2.a, .a_bn
    backbone.layer3.0.downsample.conv              s4.pathway0_res0.branch1
    backbone.fast_path.conv1.conv                  s1.pathway1_stem.conv
    backbone.slow_path.layer1_lateral.conv         s2_fuse.conv_f2s
    backbone.layer2.1.non_local_block.phi.0.conv   s3.pathway0_nonlocal1.conv_phi
    backbone.conv1_s, conv1_t, conv5 (X3D)         stem conv_xy, stem conv, head.conv_5
    backbone.norm3, patch_embed.projection (MViT)  norm, patch_embed.proj
    cls_head.fc_cls                                head.projection

mmaction2 1.x trained one Slow network on pictures and videos, with names of its own:

    backbone.conv1, backbone.bn1                   s1.pathway0_stem.conv, .bn
    backbone.layer3.5.conv1, .bn1                  s4.pathway0_res5.branch2.a, .a_bn
    backbone.layer3.0.downsample.0, .1             s4.pathway0_res0.branch1, .branch1_bn
    cls_head.fc3d.2, .3, .6                        classifier.0, .1, .3 (ours)
    cls_head.fc2d                                  left out: classes of pictures

Beyond names: SlowFast's classifier has the Fast pathway's columns first; kernels of 2-D networks
and the linear layers that are convolutions here get axes of size one. The heads of detection
networks (`roi_head.*`) are left out: what remains is the backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts import pyslowfast, pyslowfast_mvit
from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

BRANCH = {"conv1": "branch2.a", "conv2": "branch2.b", "conv3": "branch2.c", "downsample": "branch1"}
X3D = {
    "conv1_s.conv": "s1.pathway0_stem.conv_xy",
    "conv1_t.conv": "s1.pathway0_stem.conv",
    "conv1_t.bn": "s1.pathway0_stem.bn",
    "conv5.conv": "head.conv_5",
    "conv5.bn": "head.conv_5_bn",
}
HEAD = {
    "cls_head.fc_cls": "head.projection",
    "cls_head.fc1": "head.lin_5",
    "cls_head.fc2": "head.projection",
}
OMNI_HEAD = {"2": "0", "3": "1", "6": "3"}
LATERAL = {"conv": "conv_f2s", "bn": "bn"}
NONLOCAL = {
    "g": "conv_g", "g.0": "conv_g", "phi": "conv_phi", "phi.0": "conv_phi", "theta": "conv_theta",
    "conv_out": "conv_out",
}  # fmt: skip


def conv_name(key: str) -> str:
    """PySlowFast's name of a key of the convolutional families; an unknown key stays as it is."""
    module, _, tensor = key.rpartition(".")
    if module in HEAD:
        return f"{HEAD[module]}.{tensor}"
    place = module.removeprefix("backbone.")
    pathway = 1 if place.startswith("fast_path.") else 0
    place = re.sub(r"^(slow|fast)_path\.", "", place)
    if place in X3D:
        return f"{X3D[place]}.{tensor}"
    if found := re.fullmatch(r"conv1\.(conv|bn)", place):
        return f"s1.pathway{pathway}_stem.{found[1]}.{tensor}"
    if found := re.fullmatch(r"(?:conv1|layer(\d))_lateral\.(conv|bn)", place):
        return f"s{int(found[1] or 0) + 1}_fuse.{LATERAL[found[2]]}.{tensor}"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", place)
    if found is None:
        return key
    stage, index, layer = int(found[1]) + 1, found[2], found[3]
    if found := re.fullmatch(r"se_module\.(fc[12])", layer):
        return f"s{stage}.pathway{pathway}_res{index}.branch2.se.{found[1]}.{tensor}"
    if found := re.fullmatch(r"non_local_block\.(.+)\.(conv|bn)", layer):
        if found[2] == "bn":
            return f"s{stage}.pathway{pathway}_nonlocal{index}.bn.{tensor}"
        if found[1] in NONLOCAL:
            return f"s{stage}.pathway{pathway}_nonlocal{index}.{NONLOCAL[found[1]]}.{tensor}"
    if (found := re.fullmatch(r"(\w+)\.(conv|bn)", layer)) and found[1] in BRANCH:
        norm = "_bn" if found[2] == "bn" else ""
        return f"s{stage}.pathway{pathway}_res{index}.{BRANCH[found[1]]}{norm}.{tensor}"
    return key


def convert_conv(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    dropped = [key for key in source if key.startswith("roi_head.")]
    renamed = {
        conv_name(key): with_time(value) if key.startswith("backbone.") else value
        for key, value in source.items()
        if key not in dropped
    }
    if any(key.startswith("backbone.fast_path.") for key in source):
        slow_first(renamed)
    if "head.lin_5.weight" in renamed:
        renamed["head.lin_5.weight"] = renamed["head.lin_5.weight"][..., None, None, None]
    converted = pyslowfast.convert(renamed, model)
    return Converted(converted.tensors, dropped)


def omni_name(key: str) -> str:
    """The key as mmaction2's other networks spell it; the head's as ours."""
    module, _, tensor = key.rpartition(".")
    if found := re.fullmatch(r"cls_head\.fc3d\.(\d+)", module):
        return f"classifier.{OMNI_HEAD.get(found[1], found[1])}.{tensor}"
    module = re.sub(r"\bdownsample\.0$", "downsample.conv", module)
    module = re.sub(r"\bdownsample\.1$", "downsample.bn", module)
    module = re.sub(r"\bconv(\d)$", r"conv\1.conv", module)
    module = re.sub(r"\bbn(\d)$", r"conv\1.bn", module)
    return f"{module}.{tensor}"


def convert_omni(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    dropped = [key for key in source if key.startswith("cls_head.fc2d.")]
    renamed = {omni_name(key): value for key, value in source.items() if key not in dropped}
    return Converted(convert_conv(renamed, model).tensors, dropped)


def with_time(kernel: Tensor) -> Tensor:
    """[out, in, H, W] to [out, in, 1, H, W]; others as they are."""
    return kernel.unsqueeze(2) if kernel.ndim == 4 else kernel


def slow_first(tensors: dict[str, Tensor]) -> None:
    """Columns of the classifier: [fast | slow] to [slow | fast]."""
    weight = tensors.get("head.projection.weight")
    fast = tensors.get("s5.pathway1_res0.branch1.weight")
    if weight is not None and fast is not None:
        columns = torch.cat([weight[:, len(fast) :], weight[:, : len(fast)]], dim=1)
        tensors["head.projection.weight"] = columns


def mvit_name(key: str) -> str:
    """PySlowFast's name of a key of MViT."""
    key = key.removeprefix("backbone.")
    key = re.sub(r"^patch_embed\.projection\.", "patch_embed.proj.", key)
    key = re.sub(r"^norm3\.", "norm.", key)
    return re.sub(r"^cls_head\.fc_cls\.", "head.projection.", key)


def convert_mvit(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    renamed = {mvit_name(key): value for key, value in source.items()}
    return Converted(pyslowfast_mvit.to_ours(renamed, model))


def is_conv(keys: Mapping[str, Tensor]) -> bool:
    stems = ("backbone.conv1.conv.weight", "backbone.conv1_s.conv.weight")
    return any(key in keys for key in (*stems, "backbone.slow_path.conv1.conv.weight"))


LAYOUTS = (
    CheckpointLayout("mmaction2", is_conv, convert_conv),
    CheckpointLayout("mmaction2-omni", lambda keys: "backbone.conv1.weight" in keys, convert_omni),
    CheckpointLayout(
        "mmaction2-mvit",
        lambda keys: "backbone.patch_embed.projection.weight" in keys,
        convert_mvit,
    ),
)
