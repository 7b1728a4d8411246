"""What a recipe says. A recipe is a Python file with a function `recipe()` that returns this.

from tubelet.train.config import Data, LearningRate, Network, TrainConfig

def recipe():
    return TrainConfig(
        network=Network("slow_r50_8x8", inflate="resnet50.pth", crop=224),
        data=Data(train="train.csv", val="val.csv"),
        rate=LearningRate(0.1, epochs=30, warmup_epochs=2),
        batch_size=64,
    )
"""

from __future__ import annotations

import re
import runpy
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tubelet.config import stable_hash, to_plain
from tubelet.errors import TubeletError, UsageError, did_you_mean
from tubelet.train.augment import Augment
from tubelet.train.multigrid import Base, BatchStatistics, Multigrid, Plan, plan
from tubelet.train.optim import Optim
from tubelet.train.randaugment import RandAugment
from tubelet.train.recipe_network import Network, configure, is_transformer
from tubelet.train.schedule import LearningRate
from tubelet.types import ClipSpec

__all__ = [
    "Augment",
    "Data",
    "LearningRate",
    "Multigrid",
    "Network",
    "Optim",
    "RandAugment",
    "TrainConfig",
    "load_recipe",
    "plan_of",
]


@dataclass(frozen=True)
class Data:
    """train, val: lists or folders, see `samples.py`; relative to the recipe. classes: names, how
    many, or a text file with a name per line. max_bad: share of samples that may be unreadable.
    workers: processes that decode ahead, for each device."""

    train: str
    val: str | None = None
    classes: tuple[str, ...] | int | str | None = None
    root: str | None = None
    multi_label: bool = False
    allow_absent: bool = False
    max_bad: float = 0.01
    workers: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """batch_size: clips per iteration over all devices. jitter: range of the short side before the
    crop [the clip's short side to 5/4 of it]. tune: "full", "head", or the number of last stages.
    norm: "frozen", or statistics per device or over all ("batch", "sync"); multigrid has its own.
    precise_norm: batches that statistics are taken over before each evaluation; 0 keeps the
    moving ones. class_weights: of the loss, "balanced" is inverse to the number of samples.
    evaluate_every: epochs; views: T x S of those evaluations. save_every: iterations between
    checkpoints inside an epoch.
    """

    network: Network
    data: Data
    rate: LearningRate
    batch_size: int
    jitter: tuple[int, int] | None = None
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    multigrid: Multigrid | None = None
    tune: Literal["full", "head"] | int = "full"
    norm: Literal["batch", "sync", "frozen"] = "batch"
    precise_norm: int = 0
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpoint_activations: bool = False
    evaluate_every: int = 1
    views: tuple[int, int] = (1, 1)
    save_every: int | None = None
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("norm", self.norm, ("batch", "sync", "frozen"))
        _one_of("precision", self.precision, ("fp32", "bf16", "fp16"))
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing is {self.label_smoothing}; from 0 to below 1")
        if self.label_smoothing and self.data.multi_label:
            raise UsageError("label_smoothing is for one label per video; multi_label is set")
        if self.evaluate_every < 1 or self.precise_norm < 0 or (self.save_every or 1) < 1:
            raise UsageError("evaluate_every and save_every start at 1, precise_norm at 0")
        if self.views[0] < 1 or self.views[1] not in (1, 3):
            raise UsageError(f"views {self.views}: T from 1, S is 1 or 3")
        if self.batch_size % self.augment.repeats:
            raise UsageError(
                f"batch_size {self.batch_size} does not divide into {self.augment.repeats} repeats"
            )

    def identity(self) -> str:
        """A hash of everything that decides the numbers."""
        plain = to_plain(self)
        for name in ("save_every", "tensorboard"):
            del plain[name]
        del plain["data"]["workers"]
        return stable_hash(plain)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def load_recipe(path: str | Path) -> TrainConfig:
    """Run a recipe file. Raises UsageError for a file without `recipe()`, an unknown field, a
    value that is refused, and any other error of the file's own code, with its line."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such recipe")
    try:
        names = runpy.run_path(str(path), run_name="recipe")
        make = names.get("recipe")
        if not callable(make):
            raise UsageError(f"{path}: a recipe defines a function `recipe()`")
        config = make()
    except SyntaxError as error:
        raise UsageError(f"{path}, line {error.lineno}: {error.msg}") from error
    except TubeletError:
        raise
    except Exception as error:  # anything: the code is not ours
        raise _unknown_field(path, error) or _own_error(path, error) from error
    if not isinstance(config, TrainConfig):
        raise UsageError(f"{path}: recipe() returned a {type(config).__name__}, not a TrainConfig")
    return config


def _unknown_field(path: Path, error: Exception) -> UsageError | None:
    """What to say of a field that no configuration has, or of one that is missing."""
    found = re.fullmatch(r"(\w+)\.__init__\(\) (.*)", str(error))
    known: Any = globals().get(found[1]) if found else None
    if found is None or known is None:
        return None
    unknown = re.search(r"unexpected keyword argument '(\w+)'", found[2])
    if unknown:
        near = did_you_mean(unknown[1], known.__dataclass_fields__)
        return UsageError(f"{path}: {found[1]} has no field {unknown[1]!r}{near}")
    return UsageError(f"{path}: {found[1]}: {found[2]}")


def _own_error(path: Path, error: Exception) -> UsageError:
    """An error of the recipe's code, with the last line of the recipe on the way to it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"{path}, line {lines[-1]}" if lines else str(path)
    return UsageError(f"{where}: {type(error).__name__}: {error}")


def clip_of(config: TrainConfig) -> ClipSpec:
    """The clip that training sees at its full size."""
    _, network = configure(config.network, num_classes=1, multi_label=False)
    return network.clip


def plan_of(config: TrainConfig, *, devices: int = 1) -> Plan:
    """The phases of a recipe on so many devices. Raises UsageError for what cannot be run."""
    _, network = configure(config.network, num_classes=1, multi_label=False)
    clip = network.clip
    jitter = config.jitter or (clip.short_side, round(clip.short_side * 1.25))
    if jitter[0] < clip.crop or jitter[1] < jitter[0]:
        raise UsageError(
            f"jitter {jitter} for a crop of {clip.crop}: need crop <= smallest <= largest"
        )
    base = Base(config.batch_size, clip.frames, clip.crop, clip.interval, jitter, devices)
    found = plan(base, config.rate, config.multigrid)
    if config.multigrid is not None:
        _check_sizes(config, network, found)
    if config.norm == "sync" and config.multigrid is None and devices > 1:
        only = found.phases[0]
        return _with_norm(found, only, BatchStatistics("sync", devices))
    return found


def _with_norm(found: Plan, only: Any, norm: BatchStatistics) -> Plan:
    from dataclasses import replace

    return replace(found, phases=(replace(only, norm=norm),))


def _check_sizes(config: TrainConfig, network: Any, found: Plan) -> None:
    """Refuse shapes that the network cannot take, before anything runs."""
    if is_transformer(network):
        from tubelet.models.blocks.mvit_schedule import patch_grid

        if config.multigrid is not None and config.multigrid.short_cycle:
            raise UsageError(
                f"{config.network.name} has position tables for one size of clip, so its crop "
                "cannot change from batch to batch: use Multigrid(short_cycle=False)"
            )
        from dataclasses import replace

        for phase in found.phases:
            clip = replace(network.clip, frames=phase.frames, crop=phase.crop)
            try:
                patch_grid(network.trunk, clip)
            except UsageError as error:
                raise UsageError(
                    f"epochs {phase.start} to {phase.end} of the long cycle: {error}; choose "
                    "long_factors that give such sizes"
                ) from error
        return
    alpha = network.clip.alpha or 1
    for phase in found.phases:
        least = min(shape.crop for shape in phase.shapes)
        if least < 32 or phase.frames % alpha or phase.frames < alpha:
            raise UsageError(
                f"epochs {phase.start} to {phase.end}: clips of {phase.frames} frames and "
                f"{least} pixels; {config.network.name} needs 32 pixels and a multiple of {alpha} "
                "frames: choose other factors or a larger clip"
            )
