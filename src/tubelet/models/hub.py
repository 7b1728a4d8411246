"""What the config.json of a Hub folder says, as a configuration of one of our families.

    config.json {"model_type": "videomae", "hidden_size": 768, ...} --> videomae.Config
    preprocessor_config.json {"image_mean": [...], "crop_size": ...} --> its ClipSpec

The folder decides what it states: sizes, heads, the epsilon of its norms, mean and std, crop. What
it cannot state, such as the interval between frames, is that of the named network, or of the
family's first one. The file comes from a stranger: every field is checked for type and size.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tubelet.errors import UsageError, WeightsError
from tubelet.models.blocks.vit import Sizes
from tubelet.models.weights.files.hub_folder import CONFIG, read_json, read_preprocessing
from tubelet.types import ClipSpec

log = logging.getLogger("tubelet")

LARGEST = 1 << 16
"""No size, count or depth of a network is larger."""


@dataclass(frozen=True)
class HubNetwork:
    """family: its file in models/. classes: names in the order of the outputs, or None."""

    family: str
    config: Any
    classes: tuple[str, ...] | None


class Fields:
    """The fields of a JSON object, checked as they are read. Raises WeightsError."""

    def __init__(self, values: Mapping[str, Any], *, where: str) -> None:
        self.values, self.where = values, where

    def whole(self, name: str, default: int) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST:
            raise self.wrong(name, f"a whole number from 1 to {LARGEST}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise self.wrong(name, "a positive number")
        return float(value)

    def side(self, name: str, default: int) -> int:
        """A side of a square, as one number, two, or {"height", "width"} or {"shortest_edge"}."""
        value: Any = self.values.get(name, default)
        if isinstance(value, dict):
            value = list(cast("dict[str, Any]", value).values())
        sides = cast("list[Any]", value) if isinstance(value, list) else [value]
        if len(set(map(repr, sides))) != 1:
            raise self.wrong(name, "the side of a square")
        return Fields({name: sides[0]}, where=self.where).whole(name, default)

    def colors(self, name: str, default: float) -> tuple[float, ...]:
        value = self.values.get(name, [default] * 3)
        if not isinstance(value, list) or len(cast("list[Any]", value)) != 3:
            raise self.wrong(name, "three numbers")
        return tuple(Fields({"": v}, where=self.where).number("", 0.5) for v in value)  # type: ignore[misc]

    def must(self, name: str, value: Any) -> None:
        """Refuse another network under the same name. A field that is not there has the value."""
        if self.values.get(name, value) != value:
            raise self.wrong(name, f"{value!r}, the only one this family is built with")

    def wrong(self, name: str, need: str) -> WeightsError:
        return WeightsError(f"{self.where}: {name} is {self.values.get(name)!r}; need {need}")


def read_network(folder: Path, *, like: tuple[str, Any] | None = None) -> HubNetwork:
    """The network of a Hub folder. like: the (family, configuration) that it was named as.

    Raises WeightsError for folders that cannot be used, UsageError where they contradict `like`.
    """
    about = Fields(read_json(folder / CONFIG), where=str(folder / CONFIG))
    kind = about.values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise WeightsError(
            f"{about.where}: model_type is {kind!r}; folders of these can be read: "
            + ", ".join(FAMILIES)
        )
    family, read = FAMILIES[kind]
    first = next(iter(importlib.import_module(f"tubelet.models.{family}").VARIANTS.values()))
    if like is not None and like[0] != family:
        raise UsageError(f"{folder} holds a network of the family {family}, not {like[0]}")
    config = read(about, like[1] if like is not None else first)
    config = replace(config, clip=read_clip(folder, config.clip))
    if like is not None and config.sizes != like[1].sizes:
        raise UsageError(
            f"{folder} holds a network of {config.sizes}, and the one named has {like[1].sizes}; "
            "name the network that it is, or the folder alone (-m FOLDER)"
        )
    return HubNetwork(family, config, class_names(about))


def read_clip(folder: Path, clip: ClipSpec) -> ClipSpec:
    """`clip` with what the folder says of its pixels. Raises WeightsError."""
    found = read_preprocessing(folder)
    if found is None:
        log.warning("%s: says nothing of its pixels; mean, std and crop are the family's", folder)
        return clip
    about = Fields(found, where=f"{folder}: preprocessing")
    about.must("do_rescale", True)
    if abs(about.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise about.wrong("rescale_factor", "1/255")
    if about.values.get("do_normalize", True):
        mean, std = about.colors("image_mean", 0.5), about.colors("image_std", 0.5)
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    crop = about.side("crop_size", clip.crop)
    size: Any = about.values.get("size", {"shortest_edge": clip.short_side})
    if isinstance(size, dict) and "height" in size:
        log.warning(
            "%s: its own tool squashes pictures to %s; here the short side is resized, and the "
            "centre cropped", folder, cast("dict[str, Any]", size),
        )  # fmt: skip
    return replace(clip, crop=crop, short_side=about.side("size", crop), mean=mean, std=std)


def class_names(about: Fields) -> tuple[str, ...] | None:
    """Names by output, where the file tells real ones."""
    names = about.values.get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    table = cast("dict[str, Any]", names)
    found = tuple(str(table.get(str(i), "")) for i in range(len(table)))
    return found if all(found) and not found[0].startswith("LABEL_") else None


def videomae(about: Fields, like: Any) -> Any:
    """Every published folder has a bias of query and value, and pools by the mean."""
    about.must("hidden_act", "gelu")
    about.must("qv_bias", True)
    crop = about.side("image_size", 224)
    frames = about.whole("num_frames", 16)
    sizes = Sizes(
        about.whole("hidden_size", 768),
        about.whole("num_hidden_layers", 12),
        about.whole("num_attention_heads", 12),
        about.whole("intermediate_size", 3072),
    )
    return replace(
        like,
        clip=replace(like.clip, frames=frames, crop=crop, short_side=crop),
        sizes=sizes,
        patch=about.side("patch_size", 16),
        tubelet=about.whole("tubelet_size", 2),
        norm_eps=about.number("layer_norm_eps", 1e-12),
        table_crop=crop,
    )


def vjepa2(about: Fields, like: Any) -> Any:
    """The pooler has the heads that it was trained with: 16 in ViT-g, whose config.json says 22."""
    about.must("hidden_act", "gelu")
    about.must("qkv_bias", True)
    about.must("use_SiLU", False)
    crop, frames = about.side("crop_size", 256), about.whole("frames_per_clip", 64)
    width = about.whole("hidden_size", 1024)
    eps = about.number("layer_norm_eps", 1e-6)
    sizes = Sizes(
        width,
        about.whole("num_hidden_layers", 24),
        about.whole("num_attention_heads", 16),
        int(width * about.number("mlp_ratio", 4.0)),
    )
    heads = 16 if width == 1408 else sizes.heads
    head = replace(like.head, heads=heads, depth=about.whole("num_pooler_layers", 3), norm_eps=eps)
    # The folder states the frames of its training; a shorter clip is what evaluations use.
    clip = replace(like.clip, crop=crop, short_side=crop, frames=min(frames, like.clip.frames))
    return replace(
        like, clip=clip, sizes=sizes, patch=about.side("patch_size", 16),
        tubelet=about.whole("tubelet_size", 2), norm_eps=eps, head=head,
    )  # fmt: skip


FAMILIES: dict[str, tuple[str, Callable[[Fields, Any], Any]]] = {
    "videomae": ("videomae", videomae),
    "vjepa2": ("vjepa2", vjepa2),
}
"""model_type -> (our family file, function that reads the rest)."""
