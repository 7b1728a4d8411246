"""PySlowFast configurations of MViT and its reversible relatives: settings to a Config.

Built is what released checkpoints and PySlowFast's own files use. Any other value is refused by
name: pooling before the projections (POOL_FIRST), pooling without learned kernels (MODE), a norm
after the stem, layer scale, fixed sine positions, detection.

Reversible networks never have a class token: REV_MVIT_B_16x4_CONV.yaml asks for one
(MVIT.CLS_EMBED_ON), and the reference builds it only without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from tubelet.models import mvit as mvit_family
from tubelet.models import revmvit
from tubelet.models.blocks.mvit_schedule import (
    Grid,
    Kernel,
    MViTSchedule,
    PerBlock,
    adaptive_strides,
)
from tubelet.models.blocks.pooling_attention import AttentionVariant
from tubelet.models.pyslowfast.yaml import ACTIVATIONS, YamlFile, clip_spec, frozen
from tubelet.types import ClipSpec

Family = tuple[ModuleType, Any]

# Keys of which only one value is built, and the keys of older versions, which have none.
ONLY: Mapping[str, Any] = {
    "MVIT.MODE": "conv",
    "MVIT.NORM": "layernorm",
    "MVIT.POOL_FIRST": False,
    "MVIT.NORM_STEM": False,
    "MVIT.LAYER_SCALE_INIT_VALUE": 0.0,
    "MVIT.USE_FIXED_SINCOS_POS": False,
    "MVIT.REV.RESPATH_FUSE": "concat",
    "MVIT.REV.RES_PATH": "conv",
    "CONTRASTIVE.NUM_MLP_LAYERS": 1,
    "DETECTION.ENABLE": False,
}
OLD = ("POOL_KV_KERNEL", "POOL_Q_KERNEL", "POOL_SKIP_KERNEL", "POOL_SKIP_STRIDE")
NOT_REVERSIBLE = ("REL_POS_SPATIAL", "REL_POS_TEMPORAL", "RESIDUAL_POOLING")


def mvit(settings: YamlFile) -> Family:
    """MViT, or with MVIT.REV.ENABLE its reversible form. Raises UsageError."""
    for key, value in ONLY.items():
        if settings.get(key, value) != value:
            raise settings.refuse(key, f"only {value!r} is built")
    for key in OLD:
        if f"MVIT.{key}" in settings.given:
            raise settings.refuse(f"MVIT.{key}", "use the keys of today's PySlowFast")
    return reversible(settings) if settings.get("MVIT.REV.ENABLE", False) else plain(settings)


def plain(settings: YamlFile) -> Family:
    return mvit_family, mvit_family.Config(
        clip=clip(settings),
        num_classes=settings.get("MODEL.NUM_CLASSES", 400),
        trunk=trunk(settings),
        activation=activation(settings),
        class_token=settings.get("MVIT.CLS_EMBED_ON", True),
        attention=AttentionVariant(
            rel_spatial=settings.get("MVIT.REL_POS_SPATIAL", False),
            rel_temporal=settings.get("MVIT.REL_POS_TEMPORAL", False),
            residual_pooling=settings.get("MVIT.RESIDUAL_POOLING", False),
        ),
        widen_in_attention=settings.get("MVIT.DIM_MUL_IN_ATT", False),
        mean_pooling=settings.get("MVIT.USE_MEAN_POOLING", False),
    )


def reversible(settings: YamlFile) -> Family:
    for key in NOT_REVERSIBLE:
        if settings.get(f"MVIT.{key}", False):
            raise settings.refuse(f"MVIT.{key}", "reversible networks are built without it")
    transitions = settings.get("MVIT.REV.BUFFER_LAYERS", (0,)[:0])
    config = revmvit.Config(
        clip=clip(settings),
        num_classes=settings.get("MODEL.NUM_CLASSES", 400),
        trunk=trunk(settings),
        activation=activation(settings),
        transitions=transitions,
        mean_pooling=settings.get("MVIT.USE_MEAN_POOLING", False),
    )
    return revmvit, with_fusion(config, settings) if transitions else config


def with_fusion(config: revmvit.Config, settings: YamlFile) -> revmvit.Config:
    """PRE_Q_FUSION: avg, concat, concat_linear, concat_linear_RATIO. Raises UsageError."""
    value = settings.get("MVIT.REV.PRE_Q_FUSION", "avg")
    if value in ("avg", "concat"):
        return replace(config, fusion="average" if value == "avg" else "concat")
    found = re.fullmatch(r"concat_linear(?:_(\d+(?:\.\d+)?))?", value)
    if found is None:
        raise settings.refuse(
            "MVIT.REV.PRE_Q_FUSION", "there are: avg, concat, concat_linear, concat_linear_RATIO"
        )
    return replace(config, fusion="mlp", fusion_ratio=float(found[1] or 1.0))


def activation(settings: YamlFile) -> Any:
    return settings.choose("MODEL.HEAD_ACT", "softmax", ACTIVATIONS)


def clip(settings: YamlFile) -> ClipSpec:
    """Images are resized to crop / IN_VAL_CROP_RATIO. Raises UsageError for two crop sizes."""
    spec = clip_spec(settings)
    if settings.get("DATA.TRAIN_CROP_SIZE", 224) != spec.crop:
        raise settings.refuse(
            "DATA.TEST_CROP_SIZE", "MViT takes one size: that of DATA.TRAIN_CROP_SIZE"
        )
    ratio = settings.get("DATA.IN_VAL_CROP_RATIO", 0.875)
    if settings.get("TEST.DATASET", "kinetics") == "imagenet" and ratio:
        spec = replace(spec, short_side=int(1 / ratio * spec.crop))
    return spec


def trunk(settings: YamlFile) -> MViTSchedule:
    """Widths and pooling. Raises UsageError for a list that is not what its key wants."""
    depth = settings.get("MVIT.DEPTH", 16)
    kernel, stride, padding = patch(settings)
    q_strides = strides(settings, "MVIT.POOL_Q_STRIDE", depth)
    kv_strides = strides(settings, "MVIT.POOL_KV_STRIDE", depth)
    first = triple(settings, "MVIT.POOL_KV_STRIDE_ADAPTIVE")
    if first is not None:
        kv_strides = adaptive_strides(depth, q_strides, first=first)
    position = "separate" if settings.get("MVIT.SEP_POS_EMBED", False) else "joint"
    return MViTSchedule(
        depth=depth,
        embed_dim=settings.get("MVIT.EMBED_DIM", 96),
        num_heads=settings.get("MVIT.NUM_HEADS", 1),
        mlp_ratio=settings.get("MVIT.MLP_RATIO", 4.0),
        qkv_bias=settings.get("MVIT.QKV_BIAS", True),
        patch=Kernel(kernel, stride),
        patch_padding=padding,
        dim_mul=factors(settings, "MVIT.DIM_MUL", depth),
        head_mul=factors(settings, "MVIT.HEAD_MUL", depth),
        q_strides=q_strides,
        kv_strides=kv_strides,
        pool_kernel=triple(settings, "MVIT.POOL_KVQ_KERNEL"),
        position=position if settings.get("MVIT.USE_ABS_POS", True) else None,
    )


def patch(settings: YamlFile) -> tuple[Grid, Grid, Grid]:
    """Kernel, stride and padding of the stem; flat ones (PATCH_2D) leave time alone."""
    flat = settings.get("MVIT.PATCH_2D", False)
    found: list[Grid] = []
    for key, default, lead in (
        ("MVIT.PATCH_KERNEL", (3, 7, 7), 1),
        ("MVIT.PATCH_STRIDE", (2, 4, 4), 1),
        ("MVIT.PATCH_PADDING", (2, 4, 4), 0),
    ):
        value: tuple[int, ...] = settings.get(key, default)
        if flat and len(value) == 2:
            value = (lead, *value)
        if len(value) != 3 or (flat and value[0] != lead):
            raise settings.refuse(key, f"MVIT.PATCH_2D is {flat}: give {2 if flat else 3} numbers")
        found.append((value[0], value[1], value[2]))
    return found[0], found[1], found[2]


def triple(settings: YamlFile, key: str) -> Grid | None:
    """Three numbers, or None. Raises UsageError."""
    if settings.given.get(key) is None:
        return None
    value = settings.get(key, (1, 1, 1))
    if len(value) != 3:
        raise settings.refuse(key, "give three numbers: time, height, width")
    return (value[0], value[1], value[2])


def strides(settings: YamlFile, key: str, depth: int) -> dict[int, Grid]:
    """[[block, time, height, width], ...] as block -> stride. Raises UsageError."""
    found: dict[int, Grid] = {}
    for row in rows(settings, key, depth, length=4):
        if not all(type(n) is int and n > 0 for n in row[1:]):
            raise settings.refuse(key, f"{list(row)}: strides are whole numbers above zero")
        found[row[0]] = (row[1], row[2], row[3])
    return found


def factors(settings: YamlFile, key: str, depth: int) -> PerBlock:
    """[[block, factor], ...]; for a block that is named twice the last counts."""
    found = {row[0]: float(row[1]) for row in rows(settings, key, depth, length=2)}
    return tuple(found.items())


def rows(settings: YamlFile, key: str, depth: int, *, length: int) -> list[tuple[Any, ...]]:
    """A table whose rows start with the number of a block. Raises UsageError."""
    table = frozen(settings.given.get(key) or ())
    if not isinstance(table, tuple):
        raise settings.refuse(key, "give a list of rows")
    for row in table:
        numbers = isinstance(row, tuple) and all(type(n) in (int, float) for n in row)
        if not numbers or len(row) != length or type(row[0]) is not int:
            raise settings.refuse(key, f"every row is a block's number and {length - 1} more")
        if not 0 <= row[0] < depth:
            raise settings.refuse(key, f"there is no block {row[0]}: MVIT.DEPTH is {depth}")
    return list(table)
