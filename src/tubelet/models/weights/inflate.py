"""2-D weights into 3-D networks (Carreira & Zisserman 1705.07750, section 2).

A k x k kernel becomes t x k x k: the 2-D values repeated t times and divided by t. A "boring"
video, one picture shown over and over, then gives the 2-D network's activations, away from the
first and last frames, where the padding differs.

    2-D weights                                   into                                  kernels
    ResNet-50, 101 (torchvision, timm,            C2D, I3D-ResNet, Slow                 / t
      PySlowFast's rank-5 kernels with t = 1)
    Inception-v1 (TF-slim, torchvision GoogLeNet) I3D                                   / t
    MViT for images (PySlowFast)                  MViT of the same blocks for video     not divided

MViT's patch and pooling kernels are repeated and not divided, as the reference does; its
position tables are resized to the video's grid. A classifier of another number of classes stays
as it was initialised, and so do non-local blocks and tables over time, which a picture does not
have: `Inflation.left` names them all. Anything else that is missing or left over is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from tubelet.errors import KeyMismatch, WeightsError
from tubelet.models.blocks import positions
from tubelet.models.weights.files.checkpoint import load_checkpoint
from tubelet.models.weights.layouts import pyslowfast, pyslowfast_mvit
from tubelet.models.weights.load import FORMAT, save_atomically

RESNET_STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}
RESNET_PARTS = {
    "conv1": "conv_a", "bn1": "bn_a", "conv2": "conv_b", "bn2": "bn_b", "conv3": "conv_c",
    "bn3": "bn_c", "downsample.0": "shortcut", "downsample.1": "shortcut_bn",
}  # fmt: skip
SLIM_STEM = {"Conv2d_1a_7x7": "stem", "Conv2d_2b_1x1": "conv2b", "Conv2d_2c_3x3": "conv2c"}
SLIM_BRANCH = {
    "Branch_0/Conv2d_0a_1x1": "branch0",
    "Branch_1/Conv2d_0a_1x1": "branch1_reduce",
    "Branch_1/Conv2d_0b_3x3": "branch1",
    "Branch_2/Conv2d_0a_1x1": "branch2_reduce",
    "Branch_2/Conv2d_0b_3x3": "branch2",
    "Branch_2/Conv2d_0a_3x3": "branch2",  # as one block of the released graph is called
    "Branch_3/Conv2d_0b_1x1": "branch3",
}
SLIM_LEAF = {
    "weights": "conv.weight",
    "BatchNorm/beta": "bn.bias",
    "BatchNorm/gamma": "bn.weight",
    "BatchNorm/moving_mean": "bn.running_mean",
    "BatchNorm/moving_variance": "bn.running_var",
}
GOOGLENET_STEM = {"conv1": "stem", "conv2": "conv2b", "conv3": "conv2c"}
GOOGLENET_BRANCH = {
    "branch1": "branch0", "branch2.0": "branch1_reduce", "branch2.1": "branch1",
    "branch3.0": "branch2_reduce", "branch3.1": "branch2", "branch4.1": "branch3",
}  # fmt: skip
# GoogLeNet counts its inception blocks from a, I3D from b.
NEXT = {"3a": "3b", "3b": "3c", "5a": "5b", "5b": "5c", **{f"4{a}": f"4{b}" for a, b in
        zip("abcde", "bcdef", strict=True)}}  # fmt: skip


@dataclass(frozen=True)
class Inflation:
    """What became of every tensor, by our names: copied, inflated (a kernel that got an axis of
    time), resized (a position table), left (as initialised); unused: source keys left out."""

    source: str
    copied: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A naming of 2-D weights. rename: to our names, None where we have no such tensor.

    may_lack: our keys that the source cannot have. ignored: source keys of no use here.
    """

    name: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    rename: Callable[[str], str | None]
    may_lack: str = r"classifier\..*"
    ignored: str = r"$^"
    divide: bool = True
    channels_last: bool = False


def resnet_name(key: str) -> str | None:
    """Our name of a key of torchvision's and timm's ResNet."""
    module, _, leaf = key.rpartition(".")
    if module in ("conv1", "bn1"):
        return f"stem.{module[:-1]}.{leaf}"
    if module == "fc":
        return f"classifier.{leaf}"
    found = re.fullmatch(r"(layer[1-4])\.(\d+)\.(.+)", module)
    if found is None or found[3] not in RESNET_PARTS:
        return None
    return f"{RESNET_STAGES[found[1]]}.{found[2]}.{RESNET_PARTS[found[3]]}.{leaf}"


def slim_name(key: str) -> str | None:
    """Our name of a TF-slim variable of Inception-v1."""
    found = re.fullmatch(r"(?:InceptionV1/){1,2}(.+?)/((?:BatchNorm/)?[a-z_]+)(?::0)?", key)
    if found is None:
        return None
    place, leaf = found.groups()
    if place == "Logits/Conv2d_0c_1x1":
        return {"weights": "classifier.weight", "biases": "classifier.bias"}.get(leaf)
    if leaf not in SLIM_LEAF:
        return None
    if place in SLIM_STEM:
        return f"{SLIM_STEM[place]}.{SLIM_LEAF[leaf]}"
    block, _, branch = place.partition("/")
    if not re.fullmatch(r"Mixed_\d[a-f]", block) or branch not in SLIM_BRANCH:
        return None
    return f"{block.lower().replace('_', '')}.{SLIM_BRANCH[branch]}.{SLIM_LEAF[leaf]}"


def googlenet_name(key: str) -> str | None:
    """Our name of a key of torchvision's GoogLeNet."""
    if key.startswith("fc."):
        return f"classifier.{key[3:]}"
    found = re.fullmatch(r"(.+)\.((?:conv|bn)\.[a-z_]+)", key)
    if found is None:
        return None
    place, leaf = found.groups()
    if place in GOOGLENET_STEM:
        return f"{GOOGLENET_STEM[place]}.{leaf}"
    block, _, branch = place.partition(".")
    block = block.removeprefix("inception")
    if block not in NEXT or branch not in GOOGLENET_BRANCH:
        return None
    return f"mixed{NEXT[block]}.{GOOGLENET_BRANCH[branch]}.{leaf}"


def _pyslowfast_resnet(tensors: Mapping[str, Tensor]) -> bool:
    stem = tensors.get("s1.pathway0_stem.conv.weight")
    return stem is not None and stem.ndim == 5 and stem.shape[2] == 1


def _sources(model: nn.Module) -> tuple[_Source, ...]:
    def theirs(key: str) -> str | None:
        return pyslowfast.pyslowfast_names(model).get(key)

    lacks = r"classifier\..*|.*\.nonlocal\d+\..*|.*num_batches_tracked"
    return (
        _Source("resnet", lambda t: "layer1.0.conv1.weight" in t, resnet_name, lacks),
        _Source("pyslowfast resnet", _pyslowfast_resnet, theirs, lacks),
        _Source(
            "inception-v1 slim",
            lambda t: any("InceptionV1/Conv2d_1a_7x7/weights" in key for key in t),
            slim_name,
            r"classifier\..*|.*num_batches_tracked|.*bn\.weight",
            r".*(/Momentum|/ExponentialMovingAverage|/RMSProp(_1)?)|global_step",
            channels_last=True,
        ),
        _Source(
            "googlenet",
            lambda t: "inception3a.branch1.conv.weight" in t,
            googlenet_name,
            r"classifier\..*|.*num_batches_tracked",
            r"aux[12]\..*",
        ),
        _Source(
            "pyslowfast image mvit",
            lambda t: pyslowfast_mvit.recognises(t) and t["patch_embed.proj.weight"].ndim == 4,
            pyslowfast_mvit.rename,
            r"(head|classifier)\..*|tokens\.(class_token|class_position|spatial|temporal|joint)"
            r"|.*\.relative\.t",
            divide=False,
        ),
    )


def inflate_kernel(kernel: Tensor, frames: int, *, divide: bool = True) -> Tensor:
    """[O, I, H, W] or [O, I, 1, H, W] to [O, I, frames, H, W]: repeated, and divided by frames."""
    if kernel.ndim == 4:
        kernel = kernel.unsqueeze(2)
    repeated = kernel.expand(-1, -1, frames, -1, -1)
    return repeated / frames if divide else repeated.clone()


def inflate(weights_2d: str | Path | Mapping[str, Tensor], model: nn.Module) -> Inflation:
    """Fill `model` in place from 2-D weights (a checkpoint file, or a flat state dict).

    Raises WeightsError for names of no known 2-D network and KeyMismatch where a tensor has no
    counterpart; the network is unchanged then.
    """
    if isinstance(weights_2d, Mapping):
        where, tensors = "weights_2d", dict(weights_2d)
    else:
        where, tensors = str(weights_2d), load_checkpoint(weights_2d).tensors
    source = next((s for s in _sources(model) if s.recognises(tensors)), None)
    if source is None:
        raise WeightsError(
            f"{where}: key names of no known 2-D network ({', '.join(list(tensors)[:4])}, ...); "
            "known: ResNet of torchvision or timm, Inception-v1 of TF-slim or torchvision, image "
            "models of PySlowFast"
        )
    renamed, unused, problems = _renamed(tensors, source)
    names = {source.rename(key): key for key in tensors}
    wanted = model.state_dict()
    report = Inflation(source.name, unused=unused)
    fitted: dict[str, Tensor] = {}
    for key, target in wanted.items():
        value = renamed.pop(key, None)
        new = None if value is None else _fit(key, value, target, source.divide, report)
        if new is not None:
            fitted[key] = new
        elif re.fullmatch(source.may_lack, key):
            report.left.append(key)
        elif value is None:
            problems.append(f"missing {key}")
        else:
            problems.append(f"{key} {list(value.shape)} for {list(target.shape)}")
    for key in renamed:
        if re.fullmatch(source.may_lack, key):
            unused.append(names[key])
        else:
            problems.append(f"unexpected {names.get(key, key)}")
    if problems:
        few = "; ".join(problems[:6]) + (", ..." if len(problems) > 6 else "")
        raise KeyMismatch(f"{where}: these 2-D weights do not fit {type(model).__name__}: {few}")
    with torch.no_grad():
        for key, value in fitted.items():
            wanted[key].copy_(value)
    return report


def _renamed(
    tensors: Mapping[str, Tensor], source: _Source
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """(tensors under our names, source keys left out, keys that nobody knows)."""
    renamed: dict[str, Tensor] = {}
    unused: list[str] = []
    problems: list[str] = []
    for key, value in tensors.items():
        ours = None if re.fullmatch(source.ignored, key) else source.rename(key)
        if ours is None:
            known = re.fullmatch(source.ignored, key)
            (unused if known else problems).append(key if known else f"unexpected {key}")
        elif source.channels_last and value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
            renamed[ours] = value.flatten(1) if ours == "classifier.weight" else value
        else:
            renamed[ours] = value
    if source.divide:
        _without_scale(renamed)
    return renamed, unused, problems


def _without_scale(renamed: dict[str, Tensor]) -> None:
    """Norms that were trained without a scale get ones."""
    for mean in [key for key in renamed if key.endswith("bn.running_mean")]:
        weight = mean.replace("running_mean", "weight")
        renamed.setdefault(weight, torch.ones_like(renamed[mean]))


def _fit(key: str, value: Tensor, target: Tensor, divide: bool, report: Inflation) -> Tensor | None:
    """`value` in the shape of `target`, or None where no rule brings it there."""
    if value.shape == target.shape:
        report.copied.append(key)
        return value
    kernel = value.unsqueeze(2) if value.ndim == 4 else value
    if kernel.ndim == 5 and kernel.shape[2] == 1 and target.ndim == 5:
        inflated = inflate_kernel(kernel, target.shape[2], divide=divide)
        if inflated.shape == target.shape:
            report.inflated.append(key)
            return inflated
    table = positions.fit(key, value, tuple(target.shape))
    if table.shape == target.shape:
        report.resized.append(key)
        return table
    return None


def inflate_file(
    source: Path, model: nn.Module, target: Path, *, origin: str, network: str
) -> Inflation:
    """Inflate a file of 2-D weights into `model`, called `network`, and save it under our names.

    The header says where the weights came from and which tensors stayed as initialised. Raises
    WeightsError, KeyMismatch.
    """
    checkpoint = load_checkpoint(source)
    report = inflate(checkpoint.tensors, model)
    metadata = {
        "format": FORMAT,
        "layout": f"inflated {report.source}",
        "source": origin,
        "source_sha256": checkpoint.sha256,
        "network": network,
        "left_as_initialised": ", ".join(k for k in report.left if "num_batches" not in k),
    }
    save_atomically(model, target, metadata=metadata)
    return report
