"""Blob names of the caffe2 checkpoints of PySlowFast and video-nonlocal-net.

    caffe2                                   PySlowFast
    conv1_w                                  s1.pathway0_stem.conv.weight
    res_conv1_bn_{s,b}                       s1.pathway0_stem.bn.{weight,bias}
    res_conv1_bn_{rm,riv}                    s1.pathway0_stem.bn.{running_mean,running_var}
    res3_2_branch2a_w, _bn_s                 s3.pathway0_res2.branch2.a.weight, .a_bn.weight
    t_res3_2_branch2a_w                      s3.pathway1_res2.branch2.a.weight
    t_pool1_subsample_w, _bn_s               s1_fuse.conv_f2s.weight, s1_fuse.bn.weight
    t_res3_3_branch2c_bn_subsample_w         s3_fuse.conv_f2s.weight, whatever the second number
    nonlocal_conv3_1_theta_w                 s3.pathway0_nonlocal1.conv_theta.weight
    pred_w, pred_b                           head.projection.weight, .bias

`_riv` is the running variance itself. Blobs have the parameters' shapes; one of lower rank gets
axes of size one at its end. What the optimiser left (`*_momentum`, `lr`, `model_iter`) is dropped.
Networks trained with frozen norms have scale and shift only: their statistics are 0 and 1.
"""  # fmt: skip

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tubelet.models.weights.layouts.base import CheckpointLayout, Converted
from tubelet.models.weights.layouts.pyslowfast import pyslowfast_names

LEFT_BY_THE_OPTIMISER = ("momentum", "lr", "model_iter")
NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
PLAIN = {"weight": "w", "bias": "b"}
EPSILON = 1e-5

RULES = (  # PySlowFast's module, the blob's; {t} is "t_" for the Fast pathway
    (r"s1\.pathway(\d)_stem\.conv", "{t}conv1"),
    (r"s1\.pathway(\d)_stem\.bn", "{t}res_conv1_bn"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1", "{t}res{0}_{2}_branch1"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1_bn", "{t}res{0}_{2}_branch1_bn"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])", "{t}res{0}_{2}_branch2{3}"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])_bn", "{t}res{0}_{2}_branch2{3}_bn"),
    (
        r"s(\d)\.pathway(\d)_nonlocal(\d+)\.(?:conv_)?(theta|phi|g|out|bn)",
        "{t}nonlocal_conv{0}_{2}_{3}",
    ),
    (r"s1_fuse\.conv_f2s", "t_pool1_subsample"),
    (r"s1_fuse\.bn", "t_pool1_subsample_bn"),
    (r"s(\d)_fuse\.conv_f2s", "t_res{0}_subsample"),
    (r"s(\d)_fuse\.bn", "t_res{0}_subsample_bn"),
    (r"head\.projection", "pred"),
)  # fmt: skip


def blob_name(pyslowfast: str) -> str:
    """The blob of one of PySlowFast's keys, without the block of a lateral; KeyError if none."""
    module, _, tensor = pyslowfast.rpartition(".")
    for pattern, blob in RULES:
        found = re.fullmatch(pattern, module)
        if found:
            t = "t_" if "pathway1" in module else ""
            suffix = (NORM if module.endswith("bn") else PLAIN)[tensor]
            return f"{blob.format(*found.groups(), t=t)}_{suffix}"
    raise KeyError(pyslowfast)


def without_block(blob: str) -> str:
    """t_res4_22_branch2c_bn_subsample_w is t_res4_subsample_w: laterals are one per stage."""
    return re.sub(r"^t_res(\d)_\d+_branch2c_bn_subsample_", r"t_res\1_subsample_", blob)


def blob_names(model: nn.Module) -> dict[str, str]:
    """{blob, without a lateral's block: our name} of every tensor that caffe2 files have."""
    names: dict[str, str] = {}
    for theirs, ours in pyslowfast_names(model).items():
        if not theirs.endswith("num_batches_tracked"):
            try:
                names[blob_name(theirs)] = ours
            except KeyError:
                continue
    return names


def convert(blobs: Mapping[str, Tensor], model: nn.Module) -> Converted:
    """Our names and ranks; blobs that no tensor of the network has keep theirs, to be refused."""
    names, wanted = blob_names(model), model.state_dict()
    converted = Converted({})
    for blob, tensor in blobs.items():
        if any(word in blob for word in LEFT_BY_THE_OPTIMISER):
            converted.dropped.append(blob)
            continue
        ours = names.get(without_block(blob), blob)
        if ours in wanted:
            missing_axes = wanted[ours].ndim - tensor.ndim
            tensor = tensor.reshape(*tensor.shape, *(1,) * missing_axes)
        converted.tensors[ours] = tensor
    if not any(blob.endswith("_bn_rm") for blob in blobs):
        for blob, ours in names.items():
            if blob.endswith("_bn_rm"):
                converted.tensors[ours] = torch.zeros_like(wanted[ours])
            elif blob.endswith("_bn_riv"):
                converted.tensors[ours] = torch.full_like(wanted[ours], 1 - EPSILON)
    return converted


CAFFE2 = CheckpointLayout("caffe2", lambda names: "conv1_w" in names and "pred_w" in names, convert)
