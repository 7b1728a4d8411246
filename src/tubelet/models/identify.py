"""Which network a checkpoint belongs to, by trying its keys and shapes on all of them.

Nothing is allocated: networks and tensors live on torch's meta device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.errors import WeightsError
from tubelet.models import zoo
from tubelet.models.registry import config_of
from tubelet.models.weights.files.checkpoint import Checkpoint, load_checkpoint
from tubelet.models.weights.layouts import encoders, staged
from tubelet.models.weights.layouts.base import CheckpointLayout
from tubelet.models.weights.load import find_layout
from tubelet.types import ClipSpec

PLAIN = ("videomae", "vjepa2", "internvideo2")
"""Plain transformers, whose layouts start with their names."""
ENCODERS = ("swin3d", "hiera", "timesformer", "vivit", "videoprism")
TRANSFORMERS = ("mvit", "revmvit", *PLAIN, *ENCODERS)
STAGED = ("r2plus1d", "csn", "s3d")
CONVOLUTIONS = ("resnet3d", "slowfast", "x3d", *STAGED)


def identify(path: str | Path) -> str:
    """A name for `create_model` whose network takes this checkpoint as it is.

    Networks that differ in their clips only share their weights' names and shapes; the first of
    them is given. Networks that differ in their heads do so too, but compute other numbers from the
    same file: they are named, and none is given. Raises WeightsError.
    """
    return network_of(load_checkpoint(path))


def network_of(checkpoint: Checkpoint) -> str:
    """`identify`, of what was read from a file."""
    path = checkpoint.path
    layout = find_layout(checkpoint)
    tensors = {key: value.to("meta") for key, value in checkpoint.tensors.items()}
    found: dict[int, str] = {}
    for name, family, config in _candidates(layout, tensors):
        with torch.device("meta"):
            if not fits(family.build(config), layout, tensors):
                continue
        if not hasattr(config, "sizes"):
            return name
        found.setdefault(config.sizes.heads, name)
    if len(found) > 1:
        raise WeightsError(
            f"{path}: the file cannot tell how many heads its attention has, and other heads give "
            "other numbers; name the network with --model: "
            + ", ".join(f"{name} ({heads} heads)" for heads, name in found.items())
        )
    for name in found.values():
        return name
    raise WeightsError(
        f"{path}: layout {layout.name}, but no network of the table has exactly these weights; "
        "name the network with --model"
    )


def _candidates(
    layout: CheckpointLayout, keys: Mapping[str, Tensor]
) -> Iterator[tuple[str, Any, Any]]:
    """(name, family file, configuration): networks, then entries whose network differs.

    Configurations that differ in nothing that has weights are given once.
    """
    table = zoo.table()
    families = _families(layout, keys)
    differing = [entry.id for entry in table.entries.values() if entry.config]
    seen: set[str] = set()
    for name in (*table.archs, *differing):
        arch, entry = zoo.arch_for(name)
        if table.archs[arch] not in families:
            continue
        family, config = config_of(arch, entry)
        plain = replace(config, num_classes=min(config.num_classes, 1), activation="none")
        if table.archs[arch] in CONVOLUTIONS:
            clip = ClipSpec(1, 1, 1, 1, channels=config.clip.channels, alpha=config.clip.alpha)
            plain = replace(plain, clip=clip, **({"head": None} if hasattr(plain, "head") else {}))
        if repr(plain) not in seen:
            seen.add(repr(plain))
            yield name, family, config


def _families(layout: CheckpointLayout, keys: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The family files whose weights have such names."""

    def has(*words: str) -> bool:
        return any(word in key for key in keys for word in words)

    if layout in encoders.LAYOUTS:
        return ENCODERS
    if layout in staged.LAYOUTS or has(".branch.0.conv.", "mixed3b.branch1.0."):
        return STAGED
    if "i3d" in layout.name or has("mixed3b."):
        return ("i3d",)
    for family in PLAIN:
        if layout.name.startswith(family):
            return (family,)
    if has("attn", "attention"):
        return TRANSFORMERS
    if has("pathway1", "multipathway", "fast_path", "t_conv1", "fast.stem"):
        return ("slowfast",)
    return ("x3d",) if has("conv_xy", "conv1_s.", "conv_space") else ("resnet3d",)


def fits(model: nn.Module, layout: CheckpointLayout, source: Mapping[str, Tensor]) -> bool:
    """Whether every tensor finds its place with its shape, but for the number of classes.

    A table of positions that would have to be resized does not fit.
    """
    converted = layout.convert(source, model)
    wanted = {
        key: value.shape
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    found = {
        key: value.shape
        for key, value in converted.tensors.items()
        if not key.endswith("num_batches_tracked")
    }
    for shapes in (wanted, found):
        for key in ("classifier.weight", "classifier.bias"):
            if key in shapes:
                shapes[key] = shapes[key][1:]
    if layout in encoders.LAYOUTS:  # these resize no table when they are loaded
        return wanted == found
    used = {key: value for key, value in source.items() if key not in set(converted.dropped)}
    return wanted == found and not _resized(used, converted.tensors)


def _resized(source: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tables of positions have other sizes than in the file."""

    def cells(values: Mapping[str, Tensor], words: tuple[str, ...]) -> int:
        return sum(v.numel() for key, v in values.items() if any(w in key for w in words))

    theirs = ("pos_embed", "rel_pos", "_pos", "tokens.", ".relative.")
    ours = ("tokens.spatial", "tokens.temporal", "tokens.joint", ".relative.", "positions")
    single = ("class",)
    before = cells(source, theirs) - cells({k: v for k, v in source.items() if "pos" in k}, single)
    before -= cells({k: v for k, v in source.items() if "tokens.class" in k}, single)
    return bool(cells(source, theirs)) and before != cells(tensors, ours)
