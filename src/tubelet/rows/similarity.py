"""What rows of features say about their videos: arithmetic that pages, plots and searches share.

Pure numpy. `unit` is [N, D] with rows of length one, so a product of two rows is their cosine;
rows are in the order of time. `first` [V+1] says where the rows of each of V videos begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SMALL = 512
"""Below this many rows or columns a whole singular value decomposition costs nothing."""
BLOCK_BYTES = 64 << 20
"""What a block of an all-pairs product may take."""


def flat(values: NDArray[Any]) -> Array:
    """[N, ..., D] -> [N, D]: axes between are averaged.

    "pool" with `--keep time` is a map whose mean is the feature vector.
    """
    rows = np.asarray(values, np.float32)
    if rows.ndim > 2:
        rows = rows.mean(axis=tuple(range(1, rows.ndim - 1)), dtype=np.float32)
    return rows


def normalise(values: NDArray[Any]) -> tuple[Array, Array]:
    """[N, ..., D] -> (rows of length one [N, D] as `flat` gives them, their lengths before [N]).

    A row of zeros stays zero: it is like nothing, not even itself.
    """
    rows = flat(values)
    norms = np.linalg.norm(rows, axis=1).astype(np.float32)
    lengths = np.where(norms > 0, norms, 1)[:, None].astype(np.float32)
    return np.divide(rows, lengths, dtype=np.float32), norms


def self_similarity(unit: Array) -> Array:
    """[N, N]: the cosine of every pair of rows."""
    return unit @ unit.T


def cross_similarity(a: Array, b: Array) -> Array:
    """[N, M]: the cosine of every row of a with every row of b."""
    return a @ b.T


def shrink(matrix: Array, most: int) -> Array:
    """A matrix of at most `most` rows and columns, each cell the mean of what it stands for."""
    for axis in (0, 1):
        size = matrix.shape[axis]
        if size > most:
            edges = np.linspace(0, size, most + 1).round().astype(int)
            shape = [1, 1]
            shape[axis] = most
            counts = np.diff(edges).reshape(shape)
            matrix = (np.add.reduceat(matrix, edges[:-1], axis=axis) / counts).astype(np.float32)
    return matrix


def novelty(unit: Array, *, reach: int = 4) -> NDArray[np.float64]:
    """[N]: how much changes between row i-1 and row i; 0 for the first row (Foote 2000).

    The mean cosine within the `reach` rows before and within the `reach` rows after, minus the
    mean cosine across. Where fewer rows are left, those that are. Linear in N.
    """
    n = len(unit)
    reach = min(reach, n)
    sums, counts = np.zeros((3, n)), np.zeros((3, n))  # before, after, across
    for apart in range(2 * reach):
        # band[i] = cosine of rows i and i + apart
        band = np.einsum("nd,nd->n", unit[: n - apart], unit[apart:]) if apart < n else ()
        for a in range(-reach, reach - apart):
            part = 0 if a + apart < 0 else 1 if a >= 0 else 2
            begin, stop = max(0, -a), min(n, n - a - apart)  # where rows i + a, i + a + apart exist
            if begin < stop:
                weight = 1 if apart == 0 or part == 2 else 2  # both orders of a pair
                sums[part, begin:stop] += weight * band[begin + a : stop + a]
                counts[part, begin:stop] += weight
    before, after, across = sums / np.maximum(counts, 1)
    curve = (before + after) / 2 - across
    curve[:1] = 0
    return curve


def boundaries(curve: NDArray[np.float64], *, apart: int = 2, sigmas: float = 0.5) -> list[int]:
    """Rows before which something likely ends: peaks of a novelty curve, in order.

    A peak is higher than mean + sigmas * standard deviation, and the highest among the `apart`
    rows on either side.
    """
    if len(curve) < 3:
        return []
    inner = curve[1:]
    limit = inner.mean() + sigmas * inner.std()
    found: list[int] = []
    for i in range(1, len(curve)):
        around = curve[max(1, i - apart) : i + apart + 1]
        is_peak = curve[i] > max(limit, 0) and curve[i] >= around.max()
        if is_peak and (not found or i - found[-1] > apart):
            found.append(i)
    return found


def warp_path(similarity: Array) -> list[tuple[int, int]]:
    """The alignment path of two videos, from both starts to both ends: dynamic time warping.

    [N, M] cosines -> pairs (i, j) that both never go back; the sum of 1 - cosine over the path is
    least. A step on both is preferred where several are as good. Empty where N or M is 0.
    """
    n, m = similarity.shape
    if not n or not m:
        return []
    cost = 1.0 - similarity.astype(np.float64)
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(n + m - 1):  # cells of one anti-diagonal do not depend on each other
        i = np.arange(max(0, diagonal - m + 1), min(n, diagonal + 1))
        j = diagonal - i
        best = np.minimum(total[i, j], np.minimum(total[i, j + 1], total[i + 1, j]))
        total[i + 1, j + 1] = cost[i, j] + best
    i, j = n - 1, m - 1
    path = [(i, j)]
    while i or j:
        steps = (
            (total[i, j], i - 1, j - 1),
            (total[i, j + 1], i - 1, j),
            (total[i + 1, j], i, j - 1),
        )
        _, i, j = min(steps, key=lambda step: step[0])
        path.append((i, j))
    return path[::-1]


@dataclass(frozen=True)
class Projection:
    """Principal axes. mean [D]; axes [K, D]; share [K]: of the whole variance."""

    mean: Array
    axes: Array
    share: Array

    def __call__(self, values: NDArray[Any]) -> Array:
        """[N, D] -> [N, K]"""
        return ((np.asarray(values, np.float32) - self.mean) @ self.axes.T).astype(np.float32)


def pca(values: Array, *, axes: int = 2) -> Projection:
    """The `axes` directions along which rows differ most; signs are fixed, so maps repeat.

    Large arrays by subspace iteration from a fixed start.
    """
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = values - mean
    total = float(np.einsum("nd,nd->", centred, centred, dtype=np.float64))
    if min(centred.shape) <= SMALL:
        found = np.linalg.svd(centred, full_matrices=False)[2][:axes]
    else:
        basis = np.random.default_rng(0).standard_normal((centred.shape[1], axes + 14))
        for _ in range(12):
            basis = np.linalg.qr(centred.T @ (centred @ basis.astype(np.float32)))[0]
        turn = np.linalg.svd(centred @ basis, full_matrices=False)[2]
        found = (basis @ turn.T).T[:axes]
    found = np.vstack([found, np.zeros((axes - len(found), values.shape[1]), found.dtype)])
    peaks = np.abs(found).argmax(axis=1)
    found = found * np.where(found[np.arange(axes), peaks] < 0, -1, 1)[:, None]
    found = found.astype(np.float32)
    share = ((centred @ found.T) ** 2).sum(axis=0) / (total or 1)
    return Projection(mean, found, share.astype(np.float32))


def cells(
    start_s: NDArray[Any], end_s: NDArray[Any], center_s: NDArray[Any]
) -> NDArray[np.float64]:
    """[N+1] seconds: rows side by side on one axis; each ends halfway to the next one's centre."""
    middle = (center_s[1:] + center_s[:-1]) / 2
    return np.concatenate([start_s[:1], middle, end_s[-1:]])


def moments(
    first: NDArray[Any], start_s: NDArray[Any], end_s: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(low, high) [N]: rows low[i] ... high[i]-1 overlap row i in time, of the same video.

    They are one moment seen again, not a find.
    """
    low, high = np.empty(len(start_s), np.int64), np.empty(len(start_s), np.int64)
    for begin, stop in pairwise(first):
        rows = slice(begin, stop)
        # A hair less than touching: times are rounded to microseconds in some containers.
        ends = np.maximum.accumulate(end_s[rows])
        low[rows] = begin + np.searchsorted(ends, start_s[rows] + 1e-6, side="right")
        high[rows] = begin + np.searchsorted(start_s[rows], end_s[rows] - 1e-6, side="left")
    own = np.arange(len(start_s))
    return np.minimum(low, own), np.maximum(high, own + 1)


@dataclass(frozen=True)
class Neighbours:
    """The K most alike rows of other moments: rows [N, K], cosines [N, K], best first.

    Places without a neighbour have row -1 and cosine -1.
    """

    rows: NDArray[np.int64]
    cosines: Array

    def near_duplicates(self, *, above: float = 0.99) -> list[tuple[int, int, float]]:
        """(row, other row, cosine) of rows whose nearest other moment is that alike; best first."""
        found: dict[tuple[int, int], float] = {}
        for i in np.flatnonzero(self.cosines[:, 0] >= above):
            other = int(self.rows[i, 0])
            found[min(int(i), other), max(int(i), other)] = float(self.cosines[i, 0])
        return sorted(((a, b, c) for (a, b), c in found.items()), key=lambda p: (-p[2], p[0]))

    def loneliness(self) -> Array:
        """[N]: 1 - mean cosine to the K nearest other moments; what is high is unlike the rest."""
        known = self.rows >= 0
        sums = np.where(known, self.cosines, 0).sum(axis=1)
        return (1 - sums / np.maximum(known.sum(axis=1), 1)).astype(np.float32)

    def outliers(self, *, most: int = 10, sigmas: float = 3.0) -> list[tuple[int, float]]:
        """(row, loneliness) of rows beyond mean + sigmas * standard deviation; loneliest first."""
        lonely = self.loneliness()
        if len(lonely) < 3:
            return []
        limit = lonely.mean() + sigmas * lonely.std()
        order = np.argsort(-lonely, kind="stable")[:most]
        return [(int(i), float(lonely[i])) for i in order if lonely[i] > limit]


def neighbours(
    unit: Array, low: NDArray[np.int64], high: NDArray[np.int64], *, k: int = 5
) -> Neighbours:
    """All pairs, in blocks: N*N*D multiply-adds. `low`, `high` as `moments` gives them."""
    n = len(unit)
    k = max(1, min(k, n - 1))
    rows, cosines = np.full((n, k), -1, np.int64), np.full((n, k), -1, np.float32)
    step = max(1, BLOCK_BYTES // max(1, 4 * n))
    for start in range(0, n, step):
        block = unit[start : start + step] @ unit.T
        for i, line in enumerate(block, start):
            line[low[i] : high[i]] = -np.inf
        count = min(k, n)
        best = np.argpartition(-block, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        best, values = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
        missing = ~np.isfinite(values)
        rows[start : start + step] = np.where(missing, -1, best)
        cosines[start : start + step] = np.where(missing, -1, values)
    return Neighbours(rows, cosines)
