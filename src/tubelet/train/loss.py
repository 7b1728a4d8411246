"""The loss of a batch: sums over clips, so that devices with unequal batches can be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelet.errors import UsageError


def class_weights(
    choice: Literal["balanced"] | tuple[float, ...] | None, counts: Sequence[int]
) -> Tensor | None:
    """[classes] factors of the loss, or None. "balanced": mean count / count; absent classes 0."""
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice != "balanced":
            raise UsageError(f"class_weights {choice!r}; it must be 'balanced' or numbers")
        mean = sum(counts) / max(sum(n > 0 for n in counts), 1)
        return torch.tensor([mean / n if n else 0.0 for n in counts])
    if len(choice) != len(counts) or min(choice) < 0:
        raise UsageError(f"{len(choice)} class_weights for {len(counts)} classes; none below 0")
    return torch.tensor(choice, dtype=torch.float32)


def loss_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    multi_label: bool,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum over the clips of a batch. logits, targets [B, classes]; targets are shares (softmax) or
    0 and 1 (sigmoid, then the mean over classes)."""
    logits = logits.float()
    if multi_label:
        each = F.binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="none")
        return each.mean(dim=1).sum()
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    each = -targets * logits.log_softmax(dim=1)
    return (each if weights is None else each * weights).sum()
