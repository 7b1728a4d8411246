"""Released names of R3D, MC3, R(2+1)D, CSN and S3D, turned into ours.

    torchvision, TSP, ig65m, VMZ     ours
    stem.0, .1, .3, .4               stem.0.conv, .0.bn, .1.conv, .1.bn
    layer2.0.conv1.0, .1             res3.0.branch.0.conv, .bn                 whole kernel
    layer2.0.conv1.0.{0,1,3}, .1     res3.0.branch.{0.conv,0.bn,1.conv}, .1.bn     factored kernel
    layer2.0.conv2.0.{0,1,2}, .1     res3.0.branch.{1.conv,1.bn,2.conv}, .2.bn     VMZ's ip-CSN
    layer2.0.downsample.0, .1        res3.0.shortcut.0.conv, .bn
    fc                               classifier

    mmaction2                        conv1.conv, .bn; conv1.conv.{conv_s,bn_s,conv_t} where factored
    PyTorchVideo's CSN               blocks.2.res_blocks.0.branch2.conv_a, .branch1_conv; blocks.5
    torchvision's S3D                features.5.branch1.1.0.0 is mixed3b.branch1.1.conv
    MIL-NCE                          mixed_3b.conv_b1_b.conv1 is mixed3b.branch1.1.conv

TSP's files have all of that behind `features.`; their heads (`fc`, `fc1`, `fc2`), which TSP itself
leaves out, and MIL-NCE's `text_module` are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

Rename = Callable[[str], str]
PARTS = {"0": "conv", "1": "bn"}
"""torchvision's places in a Sequential."""

S3D_STAGES = {
    "0": "stem", "2": "conv2b", "3": "conv2c", "5": "mixed3b", "6": "mixed3c", "8": "mixed4b",
    "9": "mixed4c", "10": "mixed4d", "11": "mixed4e", "12": "mixed4f", "14": "mixed5b",
    "15": "mixed5c",
}  # fmt: skip


def renamed(source: Mapping[str, Tensor], rename: Rename, *, drop: str = r"(?!)") -> Converted:
    """Every key by `rename`, but those that match `drop`; an unknown key stays as it is.

    A classifier that is a 1 x 1 x 1 convolution becomes a linear layer.
    """
    dropped = [key for key in source if re.match(drop, key)]
    tensors = {rename(key): value for key, value in source.items() if key not in dropped}
    head = tensors.get("classifier.weight")
    if head is not None and head.ndim == 5:
        tensors["classifier.weight"] = head[:, :, 0, 0, 0]
    return Converted(tensors, dropped)


def torchvision_name(key: str, *, steps: int) -> str:
    """steps: convolutions of a block's first `conv1`: 2 where kernels are factored, else 1."""
    module, _, tensor = key.rpartition(".")
    if module == "fc":
        return f"classifier.{tensor}"
    if found := re.fullmatch(r"stem\.([0134])", module):
        place = int(found[1])
        return f"stem.{place // 3}.{PARTS[str(place % 3)]}.{tensor}"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv\d|downsample)\.(\d)(?:\.(\d))?", module)
    if found is None:
        return key
    block = f"res{int(found[1]) + 1}.{found[2]}"
    if found[3] == "downsample":
        return f"{block}.shortcut.0.{PARTS[found[4]]}.{tensor}"
    return f"{block}.branch.{torchvision_step(found, steps)}.{tensor}"


def torchvision_step(found: re.Match[str], steps: int) -> str:
    """Which step of a branch, and which part of it: "2.bn"."""
    number, place, inner = int(found[3][-1]), found[4], found[5]
    first = steps * (number - 1)
    last = first + steps - 1
    if inner is None:
        return f"{last}.{PARTS[place]}"
    if inner in "01":
        return f"{first}.{PARTS[inner]}"
    return f"{last}.conv"  # "3" of a factored kernel, behind its ReLU


def convert_torchvision(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    plain = {key.removeprefix("features."): value for key, value in source.items()}
    tsp = any(key.startswith("features.") for key in source)
    steps = 2 if "layer1.0.conv1.0.3.weight" in plain else 1
    return renamed(
        plain, lambda key: torchvision_name(key, steps=steps), drop=r"fc" if tsp else "(?!)"
    )


def vmz_name(key: str, places: Mapping[str, str]) -> str:
    """A bottleneck. places: where a block's convN.M or convN.M.K goes."""
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv\d\.\d(?:\.\d)?)\.(\w+)", key)
    if found is None or found[3] not in places:
        return torchvision_name(key, steps=1)
    return f"res{int(found[1]) + 1}.{found[2]}.branch.{places[found[3]]}.{found[4]}"


def convert_vmz(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    places = {
        "conv1.0": "0.conv", "conv1.1": "0.bn", "conv2.0": "1.conv", "conv2.1": "1.bn",
        "conv3.0": "2.conv", "conv3.1": "2.bn",
    }  # fmt: skip
    if "layer1.0.conv2.0.2.weight" in source:  # interaction-preserved: conv2 is two steps
        places |= {
            "conv2.0.0": "1.conv", "conv2.0.1": "1.bn", "conv2.0.2": "2.conv", "conv2.1": "2.bn",
            "conv3.0": "3.conv", "conv3.1": "3.bn",
        }  # fmt: skip
    return renamed(source, lambda key: vmz_name(key, places))


MM_STEPS = {"conv_s": "0.conv", "bn_s": "0.bn", "conv_t": "1.conv"}


def mmaction2_name(key: str, *, conv2: int) -> str:
    """conv2: steps of a CSN block's `conv2`; 0 where kernels are factored (R(2+1)D)."""
    module, _, tensor = key.rpartition(".")
    if module == "cls_head.fc_cls":
        return f"classifier.{tensor}"
    place = module.removeprefix("backbone.")
    if found := re.fullmatch(r"conv1\.(?:conv\.(\w+)|(conv|bn))", place):
        step = MM_STEPS[found[1]] if found[1] else f"{0 if conv2 else 1}.{found[2]}"
        return f"stem.{step}.{tensor}"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv\d|downsample)(?:\.(\d))?\.(.+)", place)
    if found is None:
        return key
    block, layer, rest = f"res{int(found[1]) + 1}.{found[2]}", found[3], found[5]
    part = "shortcut" if layer == "downsample" else "branch"
    number = 1 if part == "shortcut" else int(layer[-1])
    if not conv2:
        step, which = MM_STEPS.get(rest.removeprefix("conv."), "1.bn").split(".")
        return f"{block}.{part}.{2 * (number - 1) + int(step)}.{which}.{tensor}"
    step = {1: 0, 2: 1 + int(found[4] or 0), 3: 1 + conv2}[number]
    return f"{block}.{part}.{step}.{rest}.{tensor}"


def convert_mmaction2(source: Mapping[str, Tensor], model: nn.Module) -> Converted:
    conv2 = sum(f"backbone.layer1.0.conv2.{i}.conv.weight" in source for i in range(2))
    return renamed(source, lambda key: mmaction2_name(key, conv2=conv2))


def pytorchvideo_name(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    if module == "blocks.5.proj":
        return f"classifier.{tensor}"
    part = {"conv": "conv", "norm": "bn"}
    if found := re.fullmatch(r"blocks\.0\.(conv|norm)", module):
        return f"stem.0.{part[found[1]]}.{tensor}"
    found = re.fullmatch(
        r"blocks\.([1-4])\.res_blocks\.(\d+)\.(?:branch1_(conv|norm)|branch2\.(conv|norm)_([abc]))",
        module,
    )
    if found is None:
        return key
    block = f"res{int(found[1]) + 1}.{found[2]}"
    if found[3]:
        return f"{block}.shortcut.0.{part[found[3]]}.{tensor}"
    return f"{block}.branch.{'abc'.index(found[5])}.{part[found[4]]}.{tensor}"


def s3d_name(key: str) -> str:
    """torchvision's S3D."""
    module, _, tensor = key.rpartition(".")
    if module == "classifier.1":
        return f"classifier.{tensor}"
    found = re.fullmatch(r"features\.(\d+)\.(?:(branch\d)\.)?(?:(\d)\.)?(?:(\d)\.)?([01])", module)
    if found is None or found[1] not in S3D_STAGES:
        return key
    # branch1.1.0 and .1.1 are the steps 1 and 2 of a branch whose step 0 is branch1.0
    steps = [int(n) for n in (found[3], found[4]) if n is not None]
    places = [S3D_STAGES[found[1]], found[2], str(sum(steps)) if steps else None]
    return ".".join([*(p for p in places if p), PARTS[found[5]], tensor])


def milnce_name(key: str) -> str:
    module, _, tensor = key.rpartition(".")
    if module == "fc":
        return f"classifier.{tensor}"
    if module == "gating.fc":
        return f"conv2c.2.fc.{tensor}"
    if found := re.fullmatch(r"mixed_(\w+)\.gating_b(\d)\.fc", module):
        return f"mixed{found[1]}.gates.{found[2]}.fc.{tensor}"
    found = re.fullmatch(
        r"(?:mixed_(\w+)\.conv_b(\d)(?:_([ab]))?|(conv\w+))\.(conv|bn)([12])", module
    )
    if found is None:
        return key
    number = int(found[6]) - 1
    if found[4]:
        stage = {"conv1": "stem.1", "conv_2b": "conv2b", "conv_2c": f"conv2c.{number}"}
        return f"{stage.get(found[4], found[4])}.{found[5]}.{tensor}"
    place = f"mixed{found[1]}.branch{found[2]}"
    if found[2] != "0":
        place += f".{number + (found[3] == 'b')}"  # the pool of branch3 is its step 0
    return f"{place}.{found[5]}.{tensor}"


def has(*keys: str) -> Callable[[Mapping[str, Tensor]], bool]:
    return lambda tensors: all(key in tensors for key in keys)


def is_video_resnet(keys: Mapping[str, Tensor]) -> bool:
    return any(
        f"{prefix}stem.0.weight" in keys and f"{prefix}layer1.0.conv1.1.weight" in keys
        for prefix in ("", "features.")
    )


def is_pytorchvideo_csn(keys: Mapping[str, Tensor]) -> bool:
    """Depthwise like X3D's, behind an ordinary stem."""
    kernel = keys.get("blocks.1.res_blocks.0.branch2.conv_b.weight")
    return kernel is not None and kernel.shape[1] == 1 and "blocks.0.conv.weight" in keys


def is_mmaction2(keys: Mapping[str, Tensor]) -> bool:
    return any(
        f"backbone.layer1.0.{key}.weight" in keys for key in ("conv2.0.conv", "conv1.conv.conv_s")
    )


LAYOUTS = (
    CheckpointLayout("vmz-csn", has("stem.0.weight", "layer1.0.conv3.0.weight"), convert_vmz),
    CheckpointLayout("torchvision-video-resnet", is_video_resnet, convert_torchvision),
    CheckpointLayout("mmaction2-staged", is_mmaction2, convert_mmaction2),
    CheckpointLayout(
        "pytorchvideo-csn", is_pytorchvideo_csn, lambda found, _: renamed(found, pytorchvideo_name)
    ),
    CheckpointLayout(
        "torchvision-s3d", has("features.0.0.0.weight", "features.15.branch0.0.weight"),
        lambda found, _: renamed(found, s3d_name),
    ),
    CheckpointLayout(
        "milnce-s3d", has("conv1.conv1.weight", "mixed_5c.conv_b0.conv1.weight"),
        lambda found, _: renamed(found, milnce_name, drop=r"text_module\."),
    ),
)  # fmt: skip
