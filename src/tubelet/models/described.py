"""A network that a file describes in full: what `tubelet train` writes into its weights.

    header of the .safetensors    "trained": {"name", "family", "config", "nonlocals", "classes",
                                              "multi_label"}

Nothing but the file is needed to build the network again: neither the table of networks nor the
recipe, the YAML file or the weights that it came from. `create_model(FILE)` does so. The file may
come from a stranger: fields are checked against their types, and the network is built only after
its shapes, without memory, were found to be those of the tensors.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import safetensors
import torch

from tubelet.config import from_plain, to_plain
from tubelet.errors import TubeletError, WeightsError
from tubelet.models import zoo
from tubelet.models.blocks.nonlocal_block import NonLocals, insert_nonlocal
from tubelet.models.weights.files.checkpoint import load_checkpoint
from tubelet.models.weights.load import load_strictly

KEY = "trained"
LARGEST = 1 << 16
"""No size, count or depth of a network is larger."""


@dataclass(frozen=True)
class Description:
    """name: of the network that the recipe started from. family: its file in models/; config: that
    file's Config. nonlocals: blocks that were inserted, by stage. classes: in the order of the
    outputs."""

    name: str
    family: str
    config: Any
    classes: tuple[str, ...]
    multi_label: bool = False
    nonlocals: Mapping[str, NonLocals] = field(default_factory=dict[str, NonLocals])

    def build(self) -> Any:
        """The network, its weights random."""
        model = _family(self.family).build(self.config)
        return insert_nonlocal(model, self.nonlocals) if self.nonlocals else model

    def dumps(self) -> str:
        return json.dumps(to_plain(self))


def _family(name: str) -> Any:
    if name not in set(zoo.table().archs.values()):
        raise ValueError(f"no family {name!r}")
    return importlib.import_module(f"tubelet.models.{name}")


def loads(text: str, *, where: str) -> Description:
    """What `dumps` wrote. Raises WeightsError, naming the field that cannot be."""
    try:
        plain = json.loads(text)
        family = plain["family"]
        config = from_plain(_family(family).Config, plain["config"], at="config.")
        for value in _numbers(plain["config"]):
            if not -LARGEST <= value <= LARGEST:
                raise ValueError(f"a number of its configuration is {value}")
        return Description(
            from_plain(str, plain["name"], at="name."),
            family,
            config,
            from_plain(tuple[str, ...], plain["classes"], at="classes."),
            from_plain(bool, plain["multi_label"], at="multi_label."),
            from_plain(Mapping[str, NonLocals], plain["nonlocals"], at="nonlocals."),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(
            f"{where}: its description of the network cannot be used ({error}); it was changed, or "
            "written by another version of tubelet: use that one, or train again"
        ) from error


def _numbers(plain: Any) -> Iterator[float]:
    if isinstance(plain, dict):
        plain = list(cast("dict[str, Any]", plain).values())
    if isinstance(plain, list):
        for value in cast("list[Any]", plain):
            yield from _numbers(value)
    elif isinstance(plain, (int, float)):
        yield plain


def read_description(path: Path) -> Description | None:
    """What a weights file says of its network; None for files that say nothing. WeightsError."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: truncated or damaged safetensors file ({error})") from None
    return None if text is None else loads(text, where=str(path))


def load_described(path: Path, about: Description) -> tuple[Any, str]:
    """(the network of a file with its weights, the file's sha256). WeightsError, KeyMismatch."""
    checkpoint = load_checkpoint(path)
    try:
        with torch.device("meta"):  # takes no memory, whatever the file says
            planned = about.build()
    except (TubeletError, ValueError, RuntimeError, TypeError, ArithmeticError) as error:
        raise WeightsError(f"{path}: the network it describes cannot be built ({error})") from error
    load_strictly(planned, checkpoint.tensors, where=str(path))
    model = about.build()
    load_strictly(model, checkpoint.tensors, where=str(path))
    return model, checkpoint.sha256
