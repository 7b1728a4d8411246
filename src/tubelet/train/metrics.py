"""Numbers about predictions. Arrays only: scores [N, classes], labels as 0/1 [N, classes]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.train.samples import Sample


def multi_hot(samples: Sequence[Sample], classes: int) -> NDArray[np.bool_]:
    found = np.zeros((len(samples), classes), bool)
    for row, sample in enumerate(samples):
        found[row, list(sample.labels)] = True
    return found


def top_k(scores: NDArray[Any], labels: NDArray[np.bool_], k: int) -> float:
    """Share of samples with a label among the k highest scores; ties go to the lower class."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(labels, best, axis=1).any(axis=1).mean())


def average_precision(scores: NDArray[Any], relevant: NDArray[np.bool_]) -> float:
    """Area under precision over recall, one step per distinct score; nan without a relevant one."""
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(relevant[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # ties are taken together
    hits, seen = hits[last], np.flatnonzero(last) + 1
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / seen).sum() / relevant.sum())


def mean_average_precision(scores: NDArray[Any], labels: NDArray[np.bool_]) -> float:
    """The mean over classes that have a sample."""
    each = [average_precision(scores[:, c], labels[:, c]) for c in range(labels.shape[1])]
    return float(np.nanmean(each)) if labels.any() else float("nan")


def confusion(scores: NDArray[Any], labels: NDArray[np.bool_]) -> NDArray[np.intp]:
    """[true, predicted] counts of single-label samples."""
    classes = labels.shape[1]
    table = np.zeros((classes, classes), np.intp)
    np.add.at(table, (labels.argmax(axis=1), scores.argmax(axis=1)), 1)
    return table


def summary(
    scores: NDArray[Any], labels: NDArray[np.bool_], *, multi_label: bool
) -> dict[str, float]:
    """mAP for several labels; else top-1, top-5, and the mean over classes of top-1."""
    if multi_label:
        return {"map": mean_average_precision(scores, labels)}
    table = confusion(scores, labels)
    present = table.sum(axis=1) > 0
    each = np.diag(table)[present] / table.sum(axis=1)[present]
    return {
        "top1": top_k(scores, labels, 1),
        "top5": top_k(scores, labels, min(5, labels.shape[1])),
        "mean_class": float(each.mean()),
    }
