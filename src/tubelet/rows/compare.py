"""Two feature sets row by row: lengths, how alike rows are, where they are least alike."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError
from tubelet.store.export.foreign import feature_files, read_rows

QUANTILES = {"min": 0.0, "p1": 0.01, "p5": 0.05, "median": 0.5, "max": 1.0}


@dataclass(frozen=True)
class Worst:
    """One row and how unlike it is. start_s, end_s are known for our own files."""

    cosine: float
    max_difference: float
    id: str
    row: int
    start_s: float | None = None
    end_s: float | None = None


@dataclass
class Comparison:
    """Rows that both sets have, in pairs.

    lengths: {id: (rows of A, rows of B)}. cosines, differences: per row; the difference is the
    largest of the row, relative to the largest value of A's row. identical: rows with equal bits.
    problems: {id: why it could not be compared}.
    """

    lengths: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    cosines: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    differences: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    identical: int = 0
    only_a: list[str] = field(default_factory=list[str])
    only_b: list[str] = field(default_factory=list[str])
    problems: dict[str, str] = field(default_factory=dict[str, str])
    worst: list[Worst] = field(default_factory=list[Worst])

    @property
    def unequal(self) -> dict[str, tuple[int, int]]:
        """Videos whose lengths differ."""
        return {i: pair for i, pair in self.lengths.items() if pair[0] != pair[1]}

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        cosines = np.concatenate([np.zeros(0), *self.cosines])
        differences = np.concatenate([np.zeros(0), *self.differences])
        return {
            "videos": len(self.lengths),
            "rows": len(cosines),
            "identical_rows": self.identical,
            "cosine": _distribution(cosines),
            "relative_difference": _distribution(differences),
            "lengths": {i: list(pair) for i, pair in self.lengths.items()},
            "different_lengths": list(self.unequal),
            "only_a": self.only_a,
            "only_b": self.only_b,
            "problems": self.problems,
            "worst": [vars(row) for row in self.worst],
        }


def cosine(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Of rows [N, D] in float64; two rows of zeros are alike (1), one of them is not (0)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    product = norms[0] * norms[1]
    empty = product == 0
    alike = (x * y).sum(axis=1) / np.where(empty, 1, product)
    same = (x == y).all(axis=1)
    return np.where(same, 1.0, np.where(empty, 0.0, np.clip(alike, -1, 1)))


def compare(a: Path, b: Path, *, worst: int = 10) -> Comparison:
    """Two files or two folders. UsageError for one of each, or for what does not exist."""
    for path in (a, b):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        raise UsageError("compare two files or two folders, not one of each")
    if a.is_dir():
        pairs_a, pairs_b = feature_files(a), feature_files(b)
    else:
        pairs_a, pairs_b = {a.stem: a}, {a.stem: b}
    return _compare(pairs_a, pairs_b, worst)


def _compare(a: Mapping[str, Path], b: Mapping[str, Path], worst: int) -> Comparison:
    result = Comparison(only_a=sorted(set(a) - set(b)), only_b=sorted(set(b) - set(a)))
    for identity in sorted(set(a) & set(b)):
        try:
            result.worst = heapq.nsmallest(
                worst,
                [*result.worst, *_one(result, identity, a[identity], b[identity], worst)],
                key=lambda row: (row.cosine, -row.max_difference),
            )
        except StoreError as error:
            result.problems[identity] = str(error)
    return result


def _one(result: Comparison, identity: str, a: Path, b: Path, worst: int) -> list[Worst]:
    """Add one video to the result; its least alike rows."""
    (x, known), (y, known_b) = read_rows(a), read_rows(b)
    if x.shape[1:] != y.shape[1:]:
        raise StoreError(f"rows of shape {list(x.shape[1:])} and {list(y.shape[1:])}")
    for path, rows in ((a, x), (b, y)):
        if not np.isfinite(rows).all():
            raise StoreError(f"{path}: NaN or infinity in it")
    result.lengths[identity] = (len(x), len(y))
    n = min(len(x), len(y))
    x, y = x[:n].reshape(n, -1), y[:n].reshape(n, -1)
    alike = cosine(x, y)
    apart = np.abs(x.astype(np.float64) - y.astype(np.float64)).max(axis=1, initial=0)
    scale = np.maximum(np.abs(x).max(axis=1, initial=0).astype(np.float64), np.finfo(float).tiny)
    relative = np.where(apart == 0, 0, apart / scale)
    result.identical += int((x == y).all(axis=1).sum())
    result.cosines.append(alike)
    result.differences.append(relative)
    times = known or known_b
    return [
        Worst(
            float(alike[i]),
            float(apart[i]),
            identity,
            int(i),
            None if times is None else float(times.start_s[i]),
            None if times is None else float(times.end_s[i]),
        )
        for i in np.lexsort((-apart, alike))[:worst]
    ]


def _distribution(values: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(values):
        return None
    found = {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
    return {**found, "mean": float(values.mean())}
