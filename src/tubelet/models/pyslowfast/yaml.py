"""PySlowFast configurations (YAML) as a description of a network.

    network("configs/Kinetics/SLOWFAST_8x8_R50.yaml") -> (family file, its Config)

A file gives what differs from PySlowFast's defaults. Keys about training, data sets and machines
are accepted and left alone; a key that PySlowFast does not have is refused, since a mistyped one
would silently build another network. `MODEL.MODEL_NAME` and `MODEL.ARCH` name the family.

Some keys are read differently on purpose:
    DATA.REVERSE_INPUT_CHANNEL    ignored: it repairs a BGR loader, ours delivers RGB (resnet3d)
    DETECTION.ENABLE              the RoI head has the same weights as the head for whole clips,
                                  which is built
    BN.NORM_TYPE                  all kinds are the same at test time
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

from tubelet.errors import UnknownName, UsageError, did_you_mean
from tubelet.types import ClipSpec

T = TypeVar("T")

READERS = {  # MODEL.MODEL_NAME: the file and the function that read such a configuration
    "ResNet": ("conv", "resnet"),
    "ResNet_nopool": ("conv", "resnet"),
    "PTVResNet": ("conv", "resnet"),
    "SlowFast": ("conv", "slowfast"),
    "PTVSlowFast": ("conv", "slowfast"),
    "X3D": ("conv", "x3d"),
    "PTVX3D": ("conv", "x3d"),
    "MViT": ("mvit", "mvit"),
    "PTVMViT": ("mvit", "mvit"),
}
NORMS = ("batchnorm", "sub_batchnorm", "sync_batchnorm", "sync_batchnorm_apex")
ACTIVATIONS = ("softmax", "sigmoid", "none")
WHOLE_VIDEO = ("ssv2", "ptvssv2")  # data sets whose frames are spread over the video
LARGEST_FILE, LONGEST_TEXT, MOST_KEYS, DEEPEST = 1 << 20, 1000, 10_000, 8


@dataclass(frozen=True)
class YamlFile:
    """What a file says, flat: {"RESNET.DEPTH": 50, ...}."""

    path: Path
    given: Mapping[str, Any]

    def get(self, key: str, default: T) -> T:
        """The value of a key, of the default's type; lists of numbers come as tuples.

        Raises UsageError for a value of another type.
        """
        assert key in known_keys(), key
        if key not in self.given:
            return default
        value = frozen(self.given[key], whole=not isinstance(default, float))
        if not like(value, default):
            raise UsageError(
                f"{self.path}: {key} is {self.given[key]!r}; it must be of the same kind as "
                f"{default!r}"
            )
        return value

    def choose(self, key: str, default: str, options: tuple[str, ...]) -> str:
        """One of a few words. Raises UsageError for another."""
        value = self.get(key, default)
        if value not in options:
            raise UsageError(
                f"{self.path}: {key} is {value!r}{did_you_mean(value, options)} "
                f"(there are: {', '.join(options)})"
            )
        return value

    def refuse(self, key: str, problem: str) -> UsageError:
        return UsageError(f"{self.path}: {key} is {self.given.get(key)!r}; {problem}")


def frozen(value: object, depth: int = 0, *, whole: bool = True) -> Any:
    """Lists as tuples; an integer as a float unless `whole`. Raises UsageError: no end to lists."""
    if depth > DEEPEST:
        raise UsageError("a configuration has lists nested without end")
    if isinstance(value, list | tuple):
        return tuple(frozen(item, depth + 1) for item in value)
    return float(value) if type(value) is int and not whole else value


def like(value: Any, default: Any) -> bool:
    """Of the same type, and for nested tuples of the same depth; what is in them is a number."""
    if isinstance(default, tuple):
        inner = default[0] if default else 0
        if isinstance(inner, float):
            return isinstance(value, tuple) and all(isinstance(v, int | float) for v in value)
        return isinstance(value, tuple) and all(like(v, inner) for v in value)
    return type(value) is type(default)


@cache
def known_keys() -> frozenset[str]:
    """Every key that some version of PySlowFast, or one of its configurations, has."""
    text = resources.files("tubelet.models").joinpath("pyslowfast_keys.txt")
    return frozenset(text.read_text(encoding="utf-8").split())


def read(path: str | Path) -> YamlFile:
    """Parse a file; nothing in it is executed. Raises UsageError, UnknownName."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: larger than any configuration ({LARGEST_FILE} bytes)")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: not a PySlowFast configuration (sections of keys)")
    given = {key: literal(value) for key, value in islice(flat(tree), MOST_KEYS)}
    unknown = sorted(set(given) - known_keys())
    if unknown:
        described = ", ".join(f"{key!r}{did_you_mean(key, known_keys())}" for key in unknown)
        raise UnknownName(f"{path}: PySlowFast has no such key: {described}")
    return YamlFile(path, given)


def literal(value: Any) -> Any:
    """A text that is a Python literal, such as "(3, 7, 7)", "1e-4" or "None", read as such.

    PySlowFast does so with every text of a file; nothing is executed.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def flat(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested sections as dotted keys; an empty section has none. Raises UsageError."""
    if prefix.count(".") > DEEPEST:
        raise UsageError("a configuration has sections nested without end")
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif value is not None or not any(k.startswith(f"{name}.") for k in known_keys()):
            yield name, value


def network(path: str | Path) -> tuple[ModuleType, Any]:
    """(family file, its Config) that a file describes. Raises UsageError, UnknownName."""
    settings = read(path)
    name = settings.get("MODEL.MODEL_NAME", "SlowFast")
    if name not in READERS:
        raise UnknownName(
            f"{path}: MODEL.MODEL_NAME is {name!r}{did_you_mean(name, READERS)} "
            f"(tubelet reads: {', '.join(READERS)})"
        )
    unnamed = "MODEL.MODEL_NAME" not in settings.given
    if unnamed and any(key.startswith("MVIT.") for key in settings.given):
        raise UsageError(
            f"{path}: it has a section MVIT but no MODEL.MODEL_NAME, so that PySlowFast would "
            "build SlowFast; add MODEL_NAME: MViT to the section MODEL"
        )
    settings.choose("BN.NORM_TYPE", "batchnorm", NORMS)
    file, function = READERS[name]
    return getattr(importlib.import_module(f"tubelet.models.pyslowfast.{file}"), function)(settings)


def clip_spec(settings: YamlFile, *, pathways: int = 1, alpha: int | None = None) -> ClipSpec:
    """How the reference prepares clips at test time; of several crops, the middle one.

    Frames are resized to the crop; Kinetics frames, where there is one spatial crop, and those of
    pytorchvideo's Kinetics loader to the first training scale.
    """
    dataset = settings.get("TEST.DATASET", "kinetics")
    crop = settings.get("DATA.TEST_CROP_SIZE", 256)
    short_side = crop
    one_view = settings.get("TEST.NUM_SPATIAL_CROPS", 3) == 1
    if dataset == "ptvkinetics" or (dataset == "kinetics" and one_view):
        short_side = settings.get("DATA.TRAIN_JITTER_SCALES", (256, 320))[0]
    channels = settings.get("DATA.INPUT_CHANNEL_NUM", (3,) * pathways)
    if len(channels) != pathways or len(set(channels)) != 1:
        raise settings.refuse(
            "DATA.INPUT_CHANNEL_NUM",
            f"this network takes {pathways} equal number(s)",
        )
    frames = settings.get("DATA.NUM_FRAMES", 8)
    return ClipSpec(
        frames=frames,
        interval=settings.get("DATA.SAMPLING_RATE", 8) if frames > 1 else 1,
        short_side=short_side,
        crop=crop,
        mean=settings.get("DATA.MEAN", (0.45, 0.45, 0.45)),
        std=settings.get("DATA.STD", (0.225, 0.225, 0.225)),
        alpha=alpha,
        channels=channels[0],
        sampling="uniform" if dataset in WHOLE_VIDEO else "dense",
    )
