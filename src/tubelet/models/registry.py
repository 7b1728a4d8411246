"""Names to networks: the public `list_models` and `create_model`. Torch is imported only to build.

create_model("i3d_inception.k400")                         released weights, fetched and verified
create_model("i3d_inception_rgb_scratch", weights="x.pt")  a file of any known layout
create_model("i3d_inception_rgb_scratch", weights=None)    random, because it was asked for
create_model("SLOWFAST_8x8_R50.yaml", weights="x.pyth")    the network of a PySlowFast file
create_model("run/best.safetensors"), create_model("run")  what `tubelet train` wrote, in full
create_model("videomae-base-finetuned-kinetics")           a Hub folder: config.json beside weights
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubelet.errors import UsageError
from tubelet.models import zoo
from tubelet.models.weights.files.hub_folder import is_hub_folder
from tubelet.models.zoo import DEFAULT_MODEL, ZooEntry, list_models

if TYPE_CHECKING:
    from torch import nn

    from tubelet.models.weights.fetch.download import Progress
    from tubelet.models.weights.files.checkpoint import Checkpoint

__all__ = ["DEFAULT_MODEL", "create_model", "list_models"]


TWO_HEADS = "rgb.classifier.weight"
"""The classifier of a two-stream network's first stream, under our names."""


SAFETENSORS, BEST = ".safetensors", "best.safetensors"


class _Unset(Enum):
    """The weights that belong to the name."""

    RELEASED = "released"


Weights = str | Path | Mapping[str, str | Path] | _Unset | None


def create_model(
    name: str,
    *,
    weights: Weights = _Unset.RELEASED,
    progress: Progress | None = None,
) -> Any:
    """A network in eval mode that satisfies `types.VideoModel` and is an `nn.Module`.

    name: `arch.tag` (released weights), `arch` or a PySlowFast YAML file (with weights=), or a file
    of `tubelet train`, or its folder, or a Hub folder (config.json beside its weights). weights: a
    checkpoint file of any known layout, a Hub folder of the named network, or None for
    random initialisation. The number of classes follows the weights. A two-stream network takes
    one file per stream, {"rgb": ..., "flow": ...} or "rgb=FILE,flow=FILE", or one file of both
    under our names. progress(bytes, total or None) is called while weights are fetched.
    The network carries its origin: `model_id`, `weights_id`, `weights_source`, `weights_sha256`
    (of the released file), `weights_layout`, `dataset` (whose class names its classes have, or
    None), `class_names` (where a trained file tells them). Raises UnknownName, UsageError,
    WeightsError and its kinds.
    """
    files = _stream_files(weights)
    if files is not None:
        return _two_stream_from(name, files)
    assert not isinstance(weights, Mapping)
    file = trained_file(name)
    if file is not None:
        return _trained(name, file, weights)
    if isinstance(weights, (str, Path)) and Path(weights).suffix == SAFETENSORS:
        found = _trained_as(name, Path(weights))
        if found is not None:
            return found
    if name.endswith((".yaml", ".yml")):
        return _from_yaml(name, weights)
    if is_hub_folder(Path(name)) and zoo.find(name) is None:
        if not isinstance(weights, _Unset):
            raise UsageError(f"{name!r} has weights of its own; leave weights= (--weights) out")
        return _from_hub(Path(name), Path(name).resolve().name, None, like=None)
    if isinstance(weights, _Unset):
        return _released(zoo.entry_for(name), progress=progress)
    arch, entry = zoo.arch_for(name)
    model_id = entry.id if entry is not None and zoo.find(name) else arch
    if weights is None:
        return _random(_build(arch, entry), model_id)
    if is_hub_folder(Path(weights)):
        like = zoo.table().archs[arch], config_of(arch, entry)[1]
        return _from_hub(Path(weights), model_id, entry, like=like)
    return _from_file(Path(weights), partial(_build, arch, entry), entry=entry, model_id=model_id)


def trained_file(name: str) -> Path | None:
    """The file that a name stands for: a .safetensors file, or the best one in the folder of a
    training run. None for other names. Torch is not imported."""
    path = Path(name)
    if path.suffix == SAFETENSORS and path.is_file():
        return path
    best = path / BEST
    return best if zoo.find(name) is None and best.is_file() else None


def _trained(name: str, file: Path, weights: str | Path | _Unset | None) -> nn.Module:
    """The network of a file that describes it in full."""
    from tubelet.models.described import load_described, read_description

    about = read_description(file)
    if about is None:
        raise UsageError(
            f"{name!r}: the file does not say which network its weights belong to; name that with "
            f"-m, and the file with --weights {file}"
        )
    if weights is None:
        return _random(about.build(), about.name)
    if not isinstance(weights, _Unset):
        raise UsageError(f"{name!r} has weights of its own; leave weights= (--weights) out")
    model, sha256 = load_described(file, about)
    origin = {
        "model_id": about.name,
        "weights_source": str(file),
        "weights_sha256": sha256,
        "weights_layout": "tubelet",
        "class_names": about.classes,
    }
    return _finish(model, origin)


def _trained_as(name: str, file: Path) -> nn.Module | None:
    """The network of a trained file, if `name` is what it was trained as; None for other files."""
    from tubelet.models.described import read_description

    about = read_description(file)
    if about is None:
        return None
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if about.name != stem and _arch(about.name) != _arch(stem):
        raise UsageError(
            f"{file} was trained as {about.name!r}, not {name!r}; -m {file} alone is enough"
        )
    return _trained(str(file), file, _Unset.RELEASED)


def _arch(name: str) -> str:
    """The network of a name; names that the table does not know are their own."""
    entry = zoo.find(name)
    return entry.arch if entry is not None else zoo.SHORT_ARCHS.get(name, name)


def _from_yaml(path: str, weights: str | Path | _Unset | None) -> nn.Module:
    """The network that a PySlowFast configuration describes; called by the file's stem."""
    if isinstance(weights, _Unset):
        raise UsageError(
            f"{path!r} describes a network; give its weights= (--weights FILE), "
            "or weights=None for random ones"
        )
    from tubelet.models.pyslowfast.yaml import network

    family, config = network(path)

    def build(*, num_classes: int | None = None) -> Any:
        return family.build(
            config if num_classes is None else replace(config, num_classes=num_classes)
        )

    model_id = Path(path).stem
    if weights is None:
        return _random(build(), model_id)
    return _from_file(Path(weights), build, entry=None, model_id=model_id)


def _random(model: nn.Module, model_id: str) -> nn.Module:
    return _finish(model, {"model_id": model_id, "weights_source": "random initialisation"})


def _stream_files(weights: Weights) -> dict[str, Path] | None:
    """The files of the streams, where several are named."""
    if isinstance(weights, str) and re.match("(rgb|flow)=", weights):
        named = (part.partition("=") for part in weights.split(","))
        weights = {stream: path for stream, _, path in named}
    if not isinstance(weights, Mapping):
        return None
    if set(weights) != {"rgb", "flow"}:
        raise UsageError(
            f"weights of the streams {', '.join(map(repr, weights))}: need rgb=FILE,flow=FILE"
        )
    return {stream: Path(path) for stream, path in weights.items()}


def _two_stream_from(name: str, files: Mapping[str, Path]) -> nn.Module:
    """A two-stream network whose streams come from two files."""
    arch, entry = zoo.arch_for(name)
    if arch != zoo.TWO_STREAM:
        raise UsageError(f"{name!r} has one stream; give one weights file")
    named = {s: entry.source[s] if entry else f"i3d_inception_{s}" for s in ("rgb", "flow")}
    rgb, flow = (create_model(named[s], weights=files[s]) for s in ("rgb", "flow"))
    return _joined(rgb, flow, model_id=entry.id if entry is not None else arch, entry=entry)


def _joined(rgb: Any, flow: Any, *, model_id: str, entry: ZooEntry | None) -> nn.Module:
    """Two networks as one, which tells the origin of both."""
    from tubelet.models.two_stream import TwoStream

    model = TwoStream(rgb, flow)
    names = ("weights_source", "weights_sha256", "weights_layout")
    origin: dict[str, Any] = {
        name: f"rgb: {getattr(rgb, name)}; flow: {getattr(flow, name)}" for name in names
    }
    known = entry is not None and entry.classes == model.num_classes
    origin["dataset"] = entry.dataset if entry is not None and known else None
    return _finish(model, {**origin, "model_id": model_id})


def _released(entry: ZooEntry, *, progress: Progress | None) -> nn.Module:
    """The network of an entry with its released weights, fetched where they are not cached."""
    if entry.source["kind"] == "streams":
        halves = (zoo.entry_for(entry.source[stream]) for stream in ("rgb", "flow"))
        rgb, flow = (_released(half, progress=progress) for half in halves)
        model = _joined(rgb, flow, model_id=entry.id, entry=entry)
        setattr(model, "weights_id", entry.id)  # noqa: B010
        return model
    from tubelet.models.weights.fetch.released import fetched
    from tubelet.models.weights.load import load_into

    found = fetched(entry, lambda: _build(entry.arch, entry), progress=progress)
    model = _build(entry.arch, entry)
    load_into(model, found.path)
    origin = {
        "model_id": entry.id,
        "weights_id": entry.id,
        "weights_source": found.record.source,
        "weights_sha256": found.record.source_sha256,
        "weights_layout": found.record.layout,
        "dataset": entry.dataset,
    }
    return _finish(model, origin)


def _from_file(
    path: Path, build: Callable[..., Any], *, entry: ZooEntry | None, model_id: str
) -> nn.Module:
    """The network of `build(num_classes=)` with the user's weights; as many classes as they."""
    from tubelet.models.weights.files.checkpoint import load_checkpoint
    from tubelet.models.weights.load import convert, load_strictly

    if not (path.exists() or path.with_name(path.name + ".index").exists()):
        raise UsageError(f"weights={str(path)!r}: no such file")
    checkpoint: Checkpoint = load_checkpoint(path)
    model = build()
    layout, converted = convert(checkpoint, model)
    head = converted.tensors.get("classifier.weight", converted.tensors.get(TWO_HEADS))
    if head is not None and head.ndim == 2 and head.shape[0] != model.num_classes:
        model = build(num_classes=head.shape[0])
    load_strictly(model, converted.tensors, where=f"{path} ({layout.name})")
    source_sha256 = checkpoint.metadata.get("source_sha256", checkpoint.sha256)
    same_classes = entry is not None and entry.classes == model.num_classes
    origin = {
        "model_id": model_id,
        "weights_source": checkpoint.metadata.get("source", str(path)),
        "weights_sha256": source_sha256,
        "weights_layout": checkpoint.metadata.get("layout", layout.name),
        "dataset": entry.dataset if entry is not None and same_classes else None,
    }
    return _finish(model, origin)


def _from_hub(
    folder: Path, model_id: str, entry: ZooEntry | None, *, like: tuple[str, Any] | None
) -> nn.Module:
    """The network that a Hub folder describes, with its weights."""
    from tubelet.models.hub import read_network

    found = read_network(folder, like=like)
    family = importlib.import_module(f"tubelet.models.{found.family}")

    def build(*, num_classes: int | None = None) -> Any:
        config = found.config
        return family.build(
            config if num_classes is None else replace(config, num_classes=num_classes)
        )

    model: Any = _from_file(folder, build, entry=entry, model_id=model_id)
    if found.classes is not None and len(found.classes) == model.num_classes:
        model.class_names = found.classes
    return model


def config_of(
    arch: str, entry: ZooEntry | None, *, num_classes: int | None = None
) -> tuple[Any, Any]:
    """(family module, its configuration for a network or for one of its entries)."""
    family = importlib.import_module(f"tubelet.models.{zoo.table().archs[arch]}")
    config = family.VARIANTS[arch]
    changes: dict[str, Any] = {}
    if entry is not None:
        changes = {"clip": entry.clip, "activation": entry.activation, **entry.config}
        changes["num_classes"] = entry.classes
    if num_classes is not None:
        changes["num_classes"] = num_classes
    for path, value in changes.items():
        config = changed(config, path.split("."), value)
    return family, config


def changed(config: Any, path: Sequence[str], value: Any) -> Any:
    """A frozen configuration with one part replaced; "*" stands for every item of a tuple.

    changed(config, ["trunk", "nonlocals", "*", "form"], "gaussian")
    """
    if not path:
        return tuple(value) if isinstance(value, list) else value
    name, rest = path[0], path[1:]
    if isinstance(config, tuple):
        return tuple(
            changed(item, rest, value) if name in ("*", str(i)) else item
            for i, item in enumerate(config)
        )
    return replace(config, **{name: changed(getattr(config, name), rest, value)})


def _build(arch: str, entry: ZooEntry | None, *, num_classes: int | None = None) -> Any:
    family, config = config_of(arch, entry, num_classes=num_classes)
    return family.build(config)


def _finish(model: nn.Module, origin: Mapping[str, Any]) -> nn.Module:
    """Eval mode, and the origin of the weights as attributes."""
    for name in zoo.ORIGIN:
        setattr(model, name, origin.get(name))
    return model.eval()
