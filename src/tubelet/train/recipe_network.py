"""The network that a recipe trains: a name of the zoo or a small variant, at the recipe's size.

Small variants are the families' own code with fewer, narrower layers: they learn toy tasks on a
CPU in minutes. Their names end in `_small`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tubelet.errors import UsageError, did_you_mean
from tubelet.models import mvit, registry, resnet3d, revmvit, slowfast, x3d, zoo
from tubelet.models.blocks import resnet as pathway
from tubelet.models.blocks.mvit_schedule import MViTSchedule as TransformerTrunk
from tubelet.models.blocks.mvit_schedule import staged
from tubelet.models.blocks.nonlocal_block import NonLocals, insert_nonlocal
from tubelet.models.blocks.positions import fit_all
from tubelet.models.described import Description
from tubelet.types import ClipSpec

SMALL_CLIP = ClipSpec(8, 2, 64, 64)
ONE = ((1,),) * 4
THREE = ((3,),) * 4


def _resnet(
    times: tuple[tuple[int, ...], ...], *, stem: int, width: int = 16
) -> pathway.ResNetLayout:
    return pathway.ResNetLayout(
        stem=width,
        stem_time=stem,
        widths=tuple(width * 2 * 2**i for i in range(4)),
        inner=tuple(width * 2**i // 2 for i in range(4)),
        times=times,
    )


def _small_resnet(times: tuple[tuple[int, ...], ...], *, stem: int = 1) -> resnet3d.Config:
    return resnet3d.Config(SMALL_CLIP, _resnet(times, stem=stem), head=(8, 2, 2))


def _small_nonlocal() -> resnet3d.Config:
    places = (NonLocals(), NonLocals((0,)), NonLocals((0,)), NonLocals())
    config = _small_resnet(ONE)
    return replace(config, trunk=replace(config.trunk, nonlocals=places))


def _small_slowfast() -> slowfast.Config:
    return slowfast.Config(
        replace(SMALL_CLIP, frames=16, interval=1, alpha=4),
        slow=_resnet(((1,), (1,), (3,), (3,)), stem=1),
        fast=_resnet(THREE, stem=5, width=4),
        lateral_kernel=5,
        head=(2, 2),
    )


def _small_trunk(**options: Any) -> TransformerTrunk:
    return staged((1, 2, 2, 1), kv=(1, 4, 4), dim=24, **options)


SMALL: dict[str, Callable[[], tuple[ModuleType, Any]]] = {
    "c2d_nopool_small": lambda: (resnet3d, _small_resnet(ONE)),
    "c2d_nonlocal_small": lambda: (resnet3d, _small_nonlocal()),
    "i3d_small": lambda: (resnet3d, _small_resnet(THREE, stem=5)),
    "slow_small": lambda: (resnet3d, _small_resnet(((1,), (1,), (3,), (3,)))),
    "slowfast_small": lambda: (slowfast, _small_slowfast()),
    "x3d_small": lambda: (x3d, x3d.Config(SMALL_CLIP, 64, width=1.0, depth=1.0, lin5=256)),
    "mvit_v1_small": lambda: (mvit, mvit.v1(_small_trunk(), SMALL_CLIP, 400)),
    "mvit_v2_small": lambda: (mvit, mvit.v2(_small_trunk(every_block=True), SMALL_CLIP, 400)),
    "rev_mvit_small": lambda: (
        revmvit,
        revmvit.Config(
            SMALL_CLIP, 400,
            replace(staged((1, 2, 2, 2), kv=(1, 4, 4), dim=48, heads=2), position="separate"),
            transitions=(1, 3, 5),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """What to train, and from where.

    name: of the zoo, a small variant, or a PySlowFast YAML file. weights: "released", a checkpoint
    file, or None for random ones. inflate: a file of 2-D weights instead. frames, interval, crop,
    short_side: of the clip where they differ from the name's. drop_path: share of samples that the
    last block's branch loses (it grows from none in the first). dropout: before the classifier.
    nonlocals: stages and blocks that get a fresh non-local block, as for `insert_nonlocal`:
    {"res3": (1, 3)}, or {"res3": NonLocals((1, 3), form="dot_product")}.
    """

    name: str
    weights: str | None = None
    inflate: str | None = None
    frames: int | None = None
    interval: int | None = None
    crop: int | None = None
    short_side: int | None = None
    drop_path: float = 0.0
    dropout: float = 0.0
    nonlocals: Mapping[str, tuple[int, ...] | NonLocals] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.inflate is not None:
            raise UsageError("weights and inflate are two sources of weights; give one")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")


def describe(
    network: Network, model: Any, *, classes: tuple[str, ...], multi_label: bool
) -> Description:
    """What a file of its weights says of a network, so that it can be built from the file alone."""
    name, family = network.name, type(model).__module__.rpartition(".")[2]
    blocks = network.nonlocals or {}
    specs = {k: v if isinstance(v, NonLocals) else NonLocals(tuple(v)) for k, v in blocks.items()}
    if name.endswith((".yaml", ".yml")):
        name = Path(name).stem
    return Description(name, family, model.config, classes, multi_label, specs)


def find_config(name: str) -> tuple[ModuleType, Any]:
    """(family module, configuration) of a name. Raises UnknownName."""
    if name in SMALL:
        return SMALL[name]()
    if name.endswith((".yaml", ".yml")):
        from tubelet.models.pyslowfast.yaml import network

        return network(name)
    if name.endswith("_small"):
        raise UsageError(f"no small variant {name!r}{did_you_mean(name, SMALL)}")
    arch, entry = zoo.arch_for(name)
    return registry.config_of(arch, entry)


def is_transformer(config: Any) -> bool:
    """Its position tables belong to one size of clip."""
    return hasattr(config.trunk, "depth") if hasattr(config, "trunk") else False


def configure(
    network: Network, *, num_classes: int, multi_label: bool, any_size: bool = False
) -> tuple[ModuleType, Any]:
    """(family module, configuration) at the recipe's size. any_size: the head takes clips of every
    size, for multigrid training."""
    family, config = find_config(network.name)
    sizes = ("frames", "interval", "crop", "short_side")
    given = {k: v for k in sizes if (v := getattr(network, k)) is not None}
    if "crop" in given and "short_side" not in given:
        given["short_side"] = round(config.clip.short_side * given["crop"] / config.clip.crop)
    clip = replace(config.clip, **given)
    if clip.channels != 3:
        raise UsageError(
            f"{network.name} takes {clip.modality} clips; training decodes RGB: name an RGB network"
        )
    if clip.crop > clip.short_side:
        raise UsageError(f"crop {clip.crop} is larger than short_side {clip.short_side}")
    activation = "sigmoid" if multi_label else "softmax"
    config = replace(config, clip=clip, num_classes=num_classes, activation=activation)
    if is_transformer(config) and network.drop_path:
        config = replace(config, trunk=replace(config.trunk, drop_path=network.drop_path))
    return family, fit_head(config, any_size=any_size)


def fit_head(config: Any, *, any_size: bool) -> Any:
    """The windows of the test head at the size of the configuration's clip, or the whole grid."""
    clip, cells = config.clip, config.clip.crop // 32
    if isinstance(config, resnet3d.Config):
        head = (clip.frames // config.time_pool, cells, cells)
        return replace(config, head=None if any_size else head)
    if isinstance(config, slowfast.Config):
        return replace(config, head=None if any_size else (cells, cells))
    if isinstance(config, x3d.Config):
        return replace(config, train_crop=clip.crop, global_pool=any_size)
    return config


def build(
    network: Network, *, num_classes: int, multi_label: bool = False, any_size: bool = False
) -> Any:
    """The network with its first weights. A classifier of other classes starts afresh.

    Raises the errors of names, files and sizes that do not fit.
    """
    family, config = configure(
        network, num_classes=num_classes, multi_label=multi_label, any_size=any_size
    )
    model = family.build(config)
    if network.inflate is not None:
        from tubelet.models.weights.inflate import inflate

        inflate(network.inflate, model)
    elif network.weights is not None:
        _load(network, model)
    if network.nonlocals:
        insert_nonlocal(model, network.nonlocals)
    return model


def _load(network: Network, model: nn.Module) -> None:
    """The weights of another network of the same architecture, its classifier where it fits."""
    from tubelet.models.weights.load import convert, load_strictly

    if network.weights == "released":
        source = registry.create_model(network.name)
        tensors = source.state_dict()
    else:
        from tubelet.models.weights.files.checkpoint import load_checkpoint

        path = Path(str(network.weights))
        if not path.is_file():
            raise UsageError(f"weights={network.weights!r}: no such file")
        _, converted = convert(load_checkpoint(path), model)
        tensors = dict(converted.tensors)
    own = model.state_dict()
    for key in ("classifier.weight", "classifier.bias"):
        if key not in tensors or tensors[key].shape != own[key].shape:
            tensors[key] = own[key]
    load_strictly(
        model, fit_all(tensors, model), where=f"{network.name}, weights={network.weights!r}"
    )
