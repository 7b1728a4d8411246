"""What a checkpoint layout is: a way of naming (and shaping) the weights of a family.

flat dict of tensors --recognises--> CheckpointLayout --convert--> tensors under our names
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
