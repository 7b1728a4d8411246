"""PySlowFast's names of the convolutional families.

    ours                            PySlowFast
    stem.conv.weight                s1.pathway0_stem.conv.weight
    stem.conv_space (X3D)           s1.pathway0_stem.conv_xy
    stem.conv_time (X3D)            s1.pathway0_stem.conv
    res3.2.conv_a, .bn_a            s3.pathway0_res2.branch2.a, .a_bn
    res3.0.shortcut, .shortcut_bn   s3.pathway0_res0.branch1, .branch1_bn
    res2.0.se.reduce, .expand       s2.pathway0_res0.branch2.se.fc1, .fc2
    res3.nonlocal1.theta, .bn       s3.pathway0_nonlocal1.conv_theta, .bn
    fast.res3.2.conv_a              s3.pathway1_res2.branch2.a
    lateral.stem.conv, .res2.bn     s1_fuse.conv_f2s, s2_fuse.bn
    classifier                      head.projection
    conv5, lin5 (X3D)               head.conv_5, head.lin_5

Shapes are the same everywhere: converting is renaming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

STEM = {"conv_space": "conv_xy", "conv_time": "conv"}
BLOCK = {
    "shortcut": "branch1", "shortcut_bn": "branch1_bn",
    "conv_a": "branch2.a", "bn_a": "branch2.a_bn",
    "conv_b": "branch2.b", "bn_b": "branch2.b_bn",
    "conv_c": "branch2.c", "bn_c": "branch2.c_bn",
    "se.reduce": "branch2.se.fc1", "se.expand": "branch2.se.fc2",
}  # fmt: skip
NONLOCAL = {"theta": "conv_theta", "phi": "conv_phi", "g": "conv_g", "out": "conv_out", "bn": "bn"}
LATERAL = {"stem": "s1_fuse", "res2": "s2_fuse", "res3": "s3_fuse", "res4": "s4_fuse"}
HEAD = {
    "classifier": "head.projection", "conv5": "head.conv_5", "conv5_bn": "head.conv_5_bn",
    "lin5": "head.lin_5", "lin5_bn": "head.lin_5_bn",
}  # fmt: skip


def pyslowfast_name(ours: str) -> str:
    """PySlowFast's name of one of our state-dict keys; KeyError where it has none."""
    module, _, tensor = ours.rpartition(".")
    if module in HEAD:
        return f"{HEAD[module]}.{tensor}"
    parts = module.split(".")
    if parts[0] == "lateral":
        layer = {"conv": "conv_f2s", "bn": "bn"}[parts[2]]
        return f"{LATERAL[parts[1]]}.{layer}.{tensor}"
    pathway = 1 if parts[0] == "fast" else 0
    if parts[0] in ("slow", "fast"):
        parts = parts[1:]
    if parts[0] == "stem":
        return f"s1.pathway{pathway}_stem.{STEM.get(parts[1], parts[1])}.{tensor}"
    found = re.fullmatch(r"res([2-5])\.(nonlocal)?(\d+)\.(.+)", ".".join(parts))
    if found is None:
        raise KeyError(ours)
    stage, nonlocal_, index, layer = found.groups()
    if nonlocal_:
        return f"s{stage}.pathway{pathway}_nonlocal{index}.{NONLOCAL[layer]}.{tensor}"
    return f"s{stage}.pathway{pathway}_res{index}.{BLOCK[layer]}.{tensor}"


def pyslowfast_names(model: nn.Module) -> dict[str, str]:
    """{PySlowFast's name: our name} of every tensor of a network that PySlowFast has."""
    names: dict[str, str] = {}
    for ours in model.state_dict():
        try:
            names[pyslowfast_name(ours)] = ours
        except KeyError:
            continue
    return names


def convert(tensors: Mapping[str, Tensor], model: nn.Module) -> Converted:
    """Our names where the network has such a tensor; other keys keep theirs, to be refused."""
    ours = pyslowfast_names(model)
    return Converted({ours.get(name, name): tensor for name, tensor in tensors.items()})


PYSLOWFAST = CheckpointLayout(
    "pyslowfast", lambda names: "s1.pathway0_stem.conv.weight" in names, convert
)
