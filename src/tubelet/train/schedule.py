"""Learning rates as a function of the epoch, fractions included: evaluated at every iteration.

epoch 2.25 is a quarter of the way through the third epoch. Warm-up is linear from `warmup_start`
to what the policy gives at `warmup_epochs`. Pure arithmetic, no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tubelet.errors import UsageError


@dataclass(frozen=True)
class LearningRate:
    """base: rate at factor 1. epochs: length of training.

    steps: first epoch of each stage, from 0, and `factors`: what each multiplies `base` with; an
    empty stage (two equal steps) is allowed. end, after_warmup: of the cosine, which falls to
    `end` and starts at epoch 0, or when warm-up is over.
    """

    base: float
    epochs: float
    policy: Literal["cosine", "steps"] = "cosine"
    steps: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = (1.0,)
    warmup_epochs: float = 0.0
    warmup_start: float = 0.01
    end: float = 0.0
    after_warmup: bool = False

    def __post_init__(self) -> None:
        if self.policy not in ("cosine", "steps"):
            raise UsageError(f"learning rate policy {self.policy!r}; it must be cosine or steps")
        if not (self.base > 0 and self.epochs > 0):
            raise UsageError(
                f"learning rate {self.base} for {self.epochs} epochs: both must be positive"
            )
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise UsageError(
                f"{self.warmup_epochs} epochs of warm-up in {self.epochs} epochs of training: "
                "lower warmup_epochs"
            )
        if self.policy == "steps":
            self._check_steps()

    def _check_steps(self) -> None:
        if not self.steps or self.steps[0] != 0 or list(self.steps) != sorted(self.steps):
            raise UsageError(f"steps {self.steps}: they must rise from 0")
        if self.steps[-1] > self.epochs:
            raise UsageError(f"the last step, {self.steps[-1]}, is beyond {self.epochs} epochs")
        if len(self.factors) < len(self.steps):
            raise UsageError(f"{len(self.steps)} steps need as many factors, not {self.factors}")

    def at(self, epoch: float) -> float:
        """The rate at a (fractional) epoch."""
        if epoch >= self.warmup_epochs:
            return self._policy(epoch)
        top = self._policy(self.warmup_epochs)
        return self.warmup_start + epoch * (top - self.warmup_start) / self.warmup_epochs

    def _policy(self, epoch: float) -> float:
        if self.policy == "steps":
            stage = sum(step <= epoch for step in self.steps) - 1
            return self.base * self.factors[stage]
        start = self.warmup_epochs if self.after_warmup else 0.0
        share = (epoch - start) / (self.epochs - start) if self.epochs > start else 1.0
        return self.end + (self.base - self.end) * (math.cos(math.pi * share) + 1) / 2
