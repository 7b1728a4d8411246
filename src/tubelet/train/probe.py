"""How much stored features know about labels: nearest neighbours and a linear classifier.

One vector per video: the mean of its rows, scaled to length 1. Folds are stratified and drawn from
a seed; every video is tested once, by what was fitted on the other folds.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.store.listing import read_folder


@dataclass(frozen=True)
class ProbeTable:
    """values [N, D] of videos `ids` [N]; labels [N] are indices of `classes`. unlabelled, empty:
    videos left out for want of a label, or of rows."""

    ids: tuple[str, ...]
    values: NDArray[np.float32]
    labels: NDArray[np.intp]
    classes: tuple[str, ...]
    unlabelled: tuple[str, ...]
    empty: tuple[str, ...]


def read_labels(path: str | Path) -> dict[str, str]:
    """id -> label of a file with lines `id label` or `id,label`. Raises UsageError."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file of labels")
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        cells = next(csv.reader([content])) if "," in content else content.rsplit(maxsplit=1)
        if len(cells) != 2:
            raise UsageError(f"{path}, line {number}: {content!r}; need `id label`")
        identity, label = (cell.strip() for cell in cells)
        if number == 1 and identity.lower() == "id":
            continue
        if found.setdefault(identity, label) != label:
            raise UsageError(f"{path}, line {number}: {identity} has two labels")
    if not found:
        raise UsageError(f"{path}: no labels in it; need lines `id label`")
    return found


def read_table(out: str | Path, labels: Mapping[str, str]) -> ProbeTable:
    """Features of a folder of `tubelet extract` with their labels.

    Raises UsageError where labelled videos were not extracted, or fewer than two classes are left.
    """
    folder = read_folder(out)
    missing = sorted(set(labels) - set(folder.ids))
    if missing:
        few = ", ".join(missing[:3])
        raise UsageError(f"{len(missing)} labelled ids are not in {out}: {few}; extract them first")
    ids, rows, empty = [], [], []
    for identity in folder.ids:
        if identity not in labels:
            continue
        values = folder.load(identity).values.astype(np.float32)
        if not len(values):
            empty.append(identity)
            continue
        ids.append(identity)
        flat = values.reshape(len(values), -1) if values.ndim == 2 else values
        rows.append(flat.mean(axis=tuple(range(flat.ndim - 1))))
    classes = tuple(sorted({labels[i] for i in ids}))
    if len(classes) < 2:
        raise UsageError(f"{out}: {len(classes)} class is left with features; a probe needs two")
    number = {name: i for i, name in enumerate(classes)}
    unlabelled = tuple(i for i in folder.ids if i not in labels)
    found = np.array([number[labels[i]] for i in ids])
    return ProbeTable(tuple(ids), np.stack(rows), found, classes, unlabelled, tuple(empty))


def folds(labels: NDArray[np.intp], count: int, seed: int) -> NDArray[np.intp]:
    """Fold of every sample [N]; each class is spread over the folds as evenly as it goes."""
    smallest = int(np.bincount(labels).min())
    if not 2 <= count <= smallest:
        raise UsageError(
            f"{count} folds: need 2 or more, and no more than the smallest class has videos "
            f"({smallest}); choose --folds"
        )
    generator, place = np.random.default_rng(seed), np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + int(generator.integers(count))) % count
    return place


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def knn(
    known: NDArray[np.float32], labels: NDArray[np.intp], asked: NDArray[np.float32], *, k: int,
    temperature: float = 0.07,
) -> NDArray[np.float64]:  # fmt: skip
    """Votes [M, classes] of the k nearest by cosine, weighted by exp(cosine / temperature)."""
    similarity = unit(asked) @ unit(known).T
    k = min(k, len(known))
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / temperature)
    votes = np.zeros((len(asked), int(labels.max()) + 1))
    for row in range(len(asked)):
        np.add.at(votes[row], labels[nearest[row]], weights[row])
    return votes


def linear(
    known: NDArray[np.float32], labels: NDArray[np.intp], asked: NDArray[np.float32], *,
    penalty: float = 1e-3,
) -> NDArray[np.float64]:  # fmt: skip
    """Logits [M, classes] of multinomial logistic regression with an L2 penalty, by L-BFGS."""
    centre, scale = known.mean(axis=0), known.std(axis=0) + 1e-6
    x = torch.from_numpy((known - centre) / scale).double()
    y = torch.from_numpy(labels.astype(np.int64))
    classes = int(labels.max()) + 1
    weight = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight + bias, y)
        loss = loss + penalty * weight.square().sum()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    with torch.no_grad():
        tested = torch.from_numpy((asked - centre) / scale).double()
        return (tested @ weight + bias).numpy()


def probe(table: ProbeTable, *, count: int = 5, k: int = 10, seed: int = 0) -> dict[str, Any]:
    """Accuracies of both, over all folds, and of always saying the largest class."""
    place = folds(table.labels, count, seed)
    right = {"knn": 0, "linear": 0}
    values = unit(table.values)
    for fold in range(count):
        test = place == fold
        known, asked = values[~test], values[test]
        votes = knn(known, table.labels[~test], asked, k=k)
        logits = linear(known, table.labels[~test], asked)
        right["knn"] += int((votes.argmax(axis=1) == table.labels[test]).sum())
        right["linear"] += int((logits.argmax(axis=1) == table.labels[test]).sum())
    total = len(table.labels)
    return {
        "videos": total,
        "classes": len(table.classes),
        "folds": count,
        "k": k,
        "seed": seed,
        "knn": right["knn"] / total,
        "linear": right["linear"] / total,
        "largest_class": float(np.bincount(table.labels).max() / total),
        "unlabelled": len(table.unlabelled),
        "without_rows": len(table.empty),
    }
