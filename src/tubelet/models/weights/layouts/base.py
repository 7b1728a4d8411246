"""What a checkpoint layout is: a way of naming (and shaping) the weights of a family.

flat dict of tensors --recognises--> CheckpointLayout --convert--> tensors under our names
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Converted:
    """Tensors under our names, and the source keys that were left out on purpose.

    A source key that the layout does not know stays in `tensors` under its own name, so that the
    strict load refuses it by that name.
    """

    tensors: dict[str, Tensor]
    dropped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckpointLayout:
    """`recognises` looks at key names and shapes only, never at the file's name.

    `convert` may look at the network that will take the weights (whether it has a convolution or a
    linear layer at some place); it does not change it.
    """

    name: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    convert: Callable[[Mapping[str, Tensor], nn.Module], Converted]


WRAPPERS = ("model", "module")
"""Entries of training files that hold the state dict; what lies beside them is left out."""
PREFIXES = ("_orig_mod.", "module.", "backbone.", "encoder.")
"""Before every name, from compiling, parallel training or a surrounding network."""


def unwrapped(
    source: Mapping[str, Tensor], wrappers: Sequence[str] = WRAPPERS
) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors without wrapper and prefixes, keys that were left out).

    The first of `wrappers` that there is wins. A prefix goes where keys of the network have it;
    what does not have it then, such as a decoder beside "encoder.", is left as it is.
    """
    tensors, dropped = dict(source), list[str]()
    for wrapper in wrappers:
        start = f"{wrapper}/"
        if any(key.startswith(start) for key in tensors):
            dropped = [key for key in tensors if not key.startswith(start)]
            tensors = {
                key.removeprefix(start): value
                for key, value in tensors.items()
                if key.startswith(start)
            }
            break
    for prefix in (*PREFIXES, *PREFIXES):  # they are nested in any order
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, dropped


def renamed(tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Every rule (pattern, replacement) applied to every key, in order."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def without(
    tensors: Mapping[str, Tensor], pattern: re.Pattern[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors whose key does not match, the keys that do)."""
    dropped = [key for key in tensors if pattern.fullmatch(key)]
    return {key: value for key, value in tensors.items() if key not in set(dropped)}, dropped
