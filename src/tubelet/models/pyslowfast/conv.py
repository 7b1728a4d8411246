"""PySlowFast configurations of the convolutional families: settings to each family's Config."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from tubelet.errors import UsageError
from tubelet.models import resnet3d
from tubelet.models import slowfast as slowfast_family
from tubelet.models import x3d as x3d_family
from tubelet.models.blocks.nonlocal_block import FORMS, NonLocals
from tubelet.models.blocks.resnet import C2D, I3D, SLOW, ResNetLayout, Times
from tubelet.models.blocks.resnet import trunk as resnet_trunk
from tubelet.models.pyslowfast.yaml import ACTIVATIONS, YamlFile, clip_spec

ARCHS: dict[str, tuple[Times, int]] = {  # kernels in time, and the pool in time behind res2
    "2d": (C2D, 1), "c2d": (C2D, 2), "c2d_nopool": (C2D, 1), "slow_c2d": (C2D, 1),
    "i3d": (I3D, 2), "i3d_nopool": (I3D, 1), "slow_i3d": (I3D, 1),
    "slow": (SLOW, 1),
}  # fmt: skip
BLOCKS = {"bottleneck_transform": "bottleneck", "basic_transform": "basic"}
Family = tuple[ModuleType, Any]


def resnet(settings: YamlFile) -> Family:
    """C2D, I3D, Slow."""
    arch = settings.choose("MODEL.ARCH", "slow", tuple(ARCHS))
    times, time_pool = ARCHS[arch]
    if settings.get("MODEL.MODEL_NAME", "ResNet") == "ResNet_nopool":  # an old name, of C2D_NOPOOL
        time_pool = 1
    spec = trunk(settings, times)
    config = resnet3d.Config(
        clip=clip_spec(settings),
        trunk=replace(spec, stride_in_1x1=settings.get("RESNET.STRIDE_1X1", False)),
        time_pool=time_pool,
        head=None,
        **head(settings),
    )
    if not settings.get("MULTIGRID.SHORT_CYCLE", False):
        side = settings.get("DATA.TRAIN_CROP_SIZE", 224) // 32
        config = replace(config, head=(config.clip.frames // time_pool, side, side))
    return resnet3d, config


def slowfast(settings: YamlFile) -> Family:
    """SlowFast. RESNET.STRIDE_1X1 has no effect, as in the reference."""
    settings.choose("MODEL.ARCH", "slowfast", ("slowfast",))
    side = settings.get("DATA.TRAIN_CROP_SIZE", 224) // 32
    beta_inv = settings.get("SLOWFAST.BETA_INV", 8)
    return slowfast_family, slowfast_family.Config(
        clip=clip_spec(settings, pathways=2, alpha=settings.get("SLOWFAST.ALPHA", 8)),
        slow=trunk(settings, SLOW, pathways=2),
        fast=trunk(settings, slowfast_family.FAST, pathway=1, pathways=2, beta_inv=beta_inv),
        lateral_kernel=settings.get("SLOWFAST.FUSION_KERNEL_SZ", 5),
        lateral_ratio=settings.get("SLOWFAST.FUSION_CONV_CHANNEL_RATIO", 2),
        head=None if settings.get("MULTIGRID.SHORT_CYCLE", False) else (side, side),
        **head(settings),
    )


def x3d(settings: YamlFile) -> Family:
    """X3D. One centre view is the training crop at the first training scale (2004.04730, 4.1);
    where a file asks for several crops, those are squares of the short side."""
    settings.choose("MODEL.ARCH", "x3d", ("x3d",))
    transform = settings.get("RESNET.TRANS_FUNC", "bottleneck_transform")
    if settings.get("MODEL.MODEL_NAME", "X3D") == "X3D" and transform != "x3d_transform":
        raise settings.refuse("RESNET.TRANS_FUNC", "X3D blocks are 'x3d_transform'")
    if any(per_stage(settings, "NONLOCAL.LOCATION", ((((),),) * 4))[0]):
        raise settings.refuse("NONLOCAL.LOCATION", "use insert_nonlocal to put blocks into X3D")
    crop = settings.get("DATA.TRAIN_CROP_SIZE", 224)
    clip = clip_spec(settings)
    if settings.get("TEST.NUM_SPATIAL_CROPS", 3) != 1:
        scales = settings.get("DATA.TRAIN_JITTER_SCALES", (256, 320))
        clip = replace(clip, short_side=scales[0], crop=crop)
    dilations = per_stage(settings, "RESNET.SPATIAL_DILATIONS", ((1,),) * 4)
    return x3d_family, x3d_family.Config(
        clip=clip,
        train_crop=crop,
        width=settings.get("X3D.WIDTH_FACTOR", 1.0) or 1.0,
        depth=settings.get("X3D.DEPTH_FACTOR", 1.0) or 1.0,
        bottleneck=settings.get("X3D.BOTTLENECK_FACTOR", 1.0),
        stem=settings.get("X3D.DIM_C1", 12),
        lin5=settings.get("X3D.DIM_C5", 2048),
        lin5_norm=settings.get("X3D.BN_LIN5", False),
        grow_res2=settings.get("X3D.SCALE_RES2", False),
        channelwise=settings.get("X3D.CHANNELWISE_3x3x3", True),
        groups=settings.get("RESNET.NUM_GROUPS", 1),
        stride_in_1x1=settings.get("RESNET.STRIDE_1X1", False),
        dilations=(dilations[0][0], dilations[1][0], dilations[2][0], dilations[3][0]),
        **head(settings),
    )


def head(settings: YamlFile) -> dict[str, Any]:
    """num_classes and activation. Raises UsageError for the heads of self-supervised training."""
    if settings.get("CONTRASTIVE.NUM_MLP_LAYERS", 1) != 1:
        raise settings.refuse("CONTRASTIVE.NUM_MLP_LAYERS", "only linear classifiers are built")
    return {
        "num_classes": settings.get("MODEL.NUM_CLASSES", 400),
        "activation": settings.choose("MODEL.HEAD_ACT", "softmax", ACTIVATIONS),
    }


def trunk(
    settings: YamlFile, times: Times, *, pathway: int = 0, pathways: int = 1, beta_inv: int = 1
) -> ResNetLayout:
    """One pathway's layers. Raises UsageError where a list has not one entry per pathway."""

    def of_pathway(key: str, default: Any) -> tuple[Any, ...]:
        """The pathway's entry for each stage; `default`, one per stage, where the key is absent."""
        stages = per_stage(settings, key, tuple((entry,) * pathways for entry in default))
        if any(len(stage) != pathways for stage in stages):
            raise settings.refuse(key, f"every stage needs {pathways} entries, one a pathway")
        return tuple(stage[pathway] for stage in stages)

    transform = settings.choose("RESNET.TRANS_FUNC", "bottleneck_transform", tuple(BLOCKS))
    spec = resnet_trunk(
        times,
        depth=settings.get("RESNET.DEPTH", 50),
        temporal_blocks=of_pathway("RESNET.NUM_BLOCK_TEMP_KERNEL", (3, 4, 6, 3)),
        width=settings.get("RESNET.WIDTH_PER_GROUP", 64),
        groups=settings.get("RESNET.NUM_GROUPS", 1),
        beta_inv=beta_inv,
    )
    form = settings.choose("NONLOCAL.INSTANTIATION", "dot_product", FORMS)
    pools = per_stage(settings, "NONLOCAL.POOL", (((1, 2, 2),) * 2,) * 4)
    after = of_pathway("NONLOCAL.LOCATION", ((),) * 4)
    groups = of_pathway("NONLOCAL.GROUP", (1,) * 4)
    nonlocals: list[NonLocals] = []
    for stage, positions in enumerate(after):
        if len(pools[stage]) <= pathway:
            raise settings.refuse("NONLOCAL.POOL", f"every stage needs {pathways} entries")
        here = tuple(sorted(set(positions)))
        block = NonLocals(here, form, pools[stage][pathway], groups[stage])  # pyright: ignore[reportArgumentType]
        nonlocals.append(block if here else NonLocals())
    return replace(
        spec,
        strides=of_pathway("RESNET.SPATIAL_STRIDES", (1, 2, 2, 2)),
        dilations=of_pathway("RESNET.SPATIAL_DILATIONS", (1, 1, 1, 1)),
        block=BLOCKS[transform],  # pyright: ignore[reportArgumentType]
        nonlocals=tuple(nonlocals),
    )


def per_stage(settings: YamlFile, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list of res2 to res5. Raises UsageError for another number of entries."""
    stages = settings.get(key, default)
    if len(stages) != 4:
        raise UsageError(f"{settings.path}: {key} has {len(stages)} entries; res2 to res5 are 4")
    return stages
