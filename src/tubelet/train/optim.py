"""Which parameters learn, how fast, and with what decay; moving averages of weights.

    depth of a parameter    0 stem, tokens    1 .. n blocks in order    n + 1 norm, classifier
    stage                   0 stem, tokens    1 .. k                    k + 1

Layer decay multiplies the rate of depth d by decay^(n + 1 - d) (2106.08254, section 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tubelet.errors import UsageError

FIRST = ("stem", "patch_embed", "tokens")
LAST = ("norm", "classifier", "conv5", "conv5_bn", "lin5", "lin5_bn")


@dataclass(frozen=True)
class Optim:
    """kind: SGD (with momentum) or AdamW. decay: weight decay; parameters with one axis (norms,
    biases) and position tables have none unless decay_all. layer_decay: see above; 1 is off.
    clip_norm: largest norm of all gradients together. accumulate: parts that a batch is computed
    in. ema: decay of the moving average of weights that is evaluated and kept; 0 is off.
    """

    kind: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 1e-4
    decay_all: bool = False
    layer_decay: float = 1.0
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adamw"):
            raise UsageError(f"optimiser {self.kind!r}; it must be sgd or adamw")
        if not 0 < self.layer_decay <= 1 or not 0 <= self.ema < 1 or self.decay < 0:
            raise UsageError(f"{self}: 0 < layer_decay <= 1, 0 <= ema < 1, decay >= 0")
        if self.accumulate < 1 or (self.clip_norm is not None and self.clip_norm <= 0):
            raise UsageError(f"{self}: accumulate must be at least 1 and clip_norm positive")


def block_of(name: str) -> str:
    """The block that a parameter belongs to: "res3.2", "blocks.7", "mixed4b", "stem", ..."""
    name = re.sub(r"^(slow|fast)\.", "", name)
    lateral = re.match(r"lateral\.(\w+)\.", name)
    if lateral:
        return lateral[1]
    found = re.match(r"(res\d+)\.(?:nonlocal)?(\d+)\.|(blocks)\.(\d+)\.", name)
    if found:
        return ".".join(part for part in found.groups() if part)
    return name.partition(".")[0]


@dataclass(frozen=True)
class Places:
    """Depth and stage of every parameter by name; `layers` and `stages` are the last ones."""

    depth: dict[str, int]
    stage: dict[str, int]
    layers: int
    stages: int


def places(model: Any) -> Places:
    """See the module's picture. A transformer's stage starts where its grid of tokens changes."""
    blocks: list[str] = []
    for name, _ in model.named_parameters():
        block = block_of(name)
        if block not in blocks and block not in (*FIRST, *LAST) and not name.startswith("lateral"):
            blocks.append(block)
    blocks.sort(key=_order)
    starts: dict[str, int] = {}
    stage, before = 0, None
    for block in blocks:
        kind = block.partition(".")[0]
        if kind == "blocks":
            kind = str(model.grids[int(block.partition(".")[2])])
        if re.match(r"mixed\d", kind):
            kind = kind[:6]
        stage += kind != before
        before = kind
        starts[block] = stage
    depth, stages = {}, {}
    for name, _ in model.named_parameters():
        block = block_of(name)
        if block in FIRST:
            depth[name], stages[name] = 0, 0
        elif block in LAST:
            depth[name], stages[name] = len(blocks) + 1, stage + 1
        else:  # a lateral connection belongs to the last block of the stage it follows
            last = [b for b in blocks if b == block or b.startswith(block + ".")][-1]
            depth[name], stages[name] = blocks.index(last) + 1, starts[last]
    return Places(depth, stages, len(blocks) + 1, stage + 1)


def _order(block: str) -> tuple[str, int]:
    name, _, index = block.partition(".")
    return name, int(index or 0)


def choose_trainable(model: nn.Module, tune: Literal["full", "head"] | int) -> list[str]:
    """Freeze what is not tuned. `tune`: everything, the classifier, or the last k stages and the
    classifier. Returns the names that learn. Raises UsageError for too many stages."""
    if tune == "full":
        learn = {name for name, p in model.named_parameters() if p.requires_grad}
    elif tune == "head":
        learn = {name for name, _ in model.named_parameters() if name.startswith("classifier.")}
    else:
        found = places(model)
        if isinstance(tune, bool) or not isinstance(tune, int) or not 0 < tune <= found.stages:
            raise UsageError(
                f"tune is {tune!r}; it must be 'full', 'head' or how many of the "
                f"{found.stages - 1} last stages to train"
            )
        learn = {name for name, stage in found.stage.items() if stage >= found.stages - tune}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learn and parameter.requires_grad)
    return sorted(name for name, p in model.named_parameters() if p.requires_grad)


def make_optimizer(model: nn.Module, config: Optim, *, rate: float) -> torch.optim.Optimizer:
    """Groups by decay and depth; each carries `scale`, what its rate is multiplied with."""
    found = places(model) if config.layer_decay < 1 else None
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim <= 1 or name.startswith("tokens.") or ".relative." in name
        decay = 0.0 if plain and not config.decay_all else config.decay
        steps = found.layers - found.depth[name] if found else 0
        groups.setdefault((decay, config.layer_decay**steps), []).append(parameter)
    if not groups:
        raise UsageError("no parameter is left to train; check tune and norm='frozen'")
    options: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "scale": scale, "lr": rate * scale}
        for (decay, scale), parameters in groups.items()
    ]
    if config.kind == "adamw":
        return torch.optim.AdamW(options, lr=rate, betas=config.betas)
    nesterov = config.nesterov and config.momentum > 0
    return torch.optim.SGD(options, lr=rate, momentum=config.momentum, nesterov=nesterov)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class Average:
    """Exponential moving average of weights and running statistics."""

    def __init__(self, tensors: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {key: value.detach().clone() for key, value in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: dict[str, Tensor]) -> None:
        for key, value in tensors.items():
            own = self.tensors.get(key)
            if own is None or own.shape != value.shape or not own.is_floating_point():
                self.tensors[key] = value.detach().clone()
            else:
                own.lerp_(value.detach(), 1 - self.decay)


def carry_momentum(
    old: torch.optim.Optimizer, new: torch.optim.Optimizer, pairs: Iterable[tuple[Any, Any]]
) -> None:
    """What an optimiser remembers of parameters that went into a rebuilt network; that of resized
    tables starts afresh."""
    for before, after in pairs:
        state = old.state.get(before)
        if state and before.shape == after.shape:
            new.state[after] = state
