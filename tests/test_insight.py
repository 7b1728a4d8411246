"""The arithmetic of reports and pages, against plain loops and known answers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tubelet.rows.similarity import (
    boundaries,
    cells,
    cross_similarity,
    moments,
    neighbours,
    normalise,
    novelty,
    pca,
    self_similarity,
    shrink,
    warp_path,
)


def rows(n, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def test_normalise_gives_length_one_and_keeps_zeros():
    values = np.array([[3.0, 4.0], [0.0, 0.0]], np.float16)
    unit, norms = normalise(values)
    assert norms.tolist() == [5.0, 0.0]
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_maps_count_by_their_mean():
    maps = rows(5 * 4 * 3).reshape(5, 4, 3, 6)
    np.testing.assert_allclose(normalise(maps)[0], normalise(maps.mean(axis=(1, 2)))[0], atol=1e-6)


@given(n=st.integers(0, 14), reach=st.integers(1, 5))
def test_novelty_is_its_definition(n, reach):
    unit, _ = normalise(rows(n, seed=n))
    similar = self_similarity(unit)
    want = np.zeros(n)
    for i in range(1, n):
        a, b = slice(max(0, i - reach), i), slice(i, min(n, i + reach))
        want[i] = (similar[a, a].mean() + similar[b, b].mean()) / 2 - similar[a, b].mean()
    np.testing.assert_allclose(novelty(unit, reach=reach), want, atol=1e-6)


def test_a_cut_is_a_boundary_and_sameness_has_none():
    scenes = np.repeat(np.eye(4, 8), 10, axis=0) + 0.05 * rows(40, 8)
    assert boundaries(novelty(normalise(scenes)[0])) == [10, 20, 30]
    same, _ = normalise(np.ones((20, 8)))
    assert boundaries(novelty(same)) == []


def cheapest(cost):
    """Every path, tried."""
    n, m = cost.shape

    def total(i, j):
        if i == n - 1 and j == m - 1:
            return cost[i, j]
        steps = [(i + 1, j + 1), (i + 1, j), (i, j + 1)]
        return cost[i, j] + min(total(a, b) for a, b in steps if a < n and b < m)

    return total(0, 0)


@given(n=st.integers(1, 5), m=st.integers(1, 5), seed=st.integers(0, 50))
def test_the_alignment_is_the_cheapest_path(n, m, seed):
    similar = cross_similarity(
        normalise(rows(n, seed=seed))[0], normalise(rows(m, seed=seed + 1))[0]
    )
    path = warp_path(similar)
    assert path[0] == (0, 0)
    assert path[-1] == (n - 1, m - 1)
    steps = {(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(path)}
    assert steps <= {(1, 1), (1, 0), (0, 1)}
    cost = 1 - similar.astype(np.float64)
    assert sum(cost[cell] for cell in path) == pytest.approx(cheapest(cost), abs=1e-9)


def test_slow_motion_is_found_by_the_alignment():
    unit, _ = normalise(rows(6))
    slow = np.repeat(unit, 2, axis=0)
    assert warp_path(cross_similarity(unit, slow)) == [(j // 2, j) for j in range(12)]
    assert warp_path(np.zeros((0, 3), np.float32)) == []


@pytest.mark.parametrize("shape", [(40, 6), (3, 6), (1, 6), (700, 600)])
def test_pca_is_the_singular_value_decomposition(shape):
    scale = 0.9 ** np.arange(shape[1])
    values = rows(*shape) * scale.astype(np.float32)
    found = pca(values, axes=2)
    centred = values - values.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    kept = min(2, len(lengths)) if lengths[0] > 1e-6 else 0
    for k in range(kept):
        assert abs(found.axes[k] @ axes[k]) == pytest.approx(1, abs=1e-3)
    want = lengths[:kept] ** 2 / (lengths**2).sum()
    np.testing.assert_allclose(found.share[:kept], want, rtol=1e-3)
    assert found(values).shape == (shape[0], 2)
    np.testing.assert_array_equal(pca(values).axes, found.axes)


def timeline(counts, *, length=1.0, step=0.5):
    first = np.cumsum([0, *counts])
    start = np.concatenate([step * np.arange(n) for n in counts])
    return first, start, start + length


def test_cells_lie_side_by_side():
    start = np.array([0.0, 1.0, 4.0])
    assert cells(start, start + 2, start + 1).tolist() == [0.0, 1.5, 3.5, 6.0]
    assert cells(start[:1], start[:1] + 2, start[:1] + 1).tolist() == [0.0, 2.0]


def test_moments_are_the_rows_that_overlap():
    first, start, end = timeline([4, 0, 3])
    low, high = moments(first, start, end)
    for i, j in itertools.product(range(7), repeat=2):
        same = (i < 4) == (j < 4)
        overlap = same and start[i] < end[j] and start[j] < end[i]
        assert (low[i] <= j < high[i]) == overlap


def test_neighbours_are_other_moments_best_first():
    unit, _ = normalise(rows(30))
    low, high = moments(*timeline([18, 12]))
    found = neighbours(unit, low, high, k=4)
    similar = self_similarity(unit)
    for i in range(30):
        others = [j for j in range(30) if not low[i] <= j < high[i]]
        want = sorted(others, key=lambda j: -similar[i, j])[:4]
        assert found.rows[i].tolist() == want
        np.testing.assert_allclose(found.cosines[i], similar[i, want], atol=1e-6)


def test_copies_are_near_duplicates_and_the_odd_row_is_an_outlier():
    unit = rows(60, 16) * 0.05 + np.ones(16, np.float32)
    unit[50] = unit[3]
    unit[20] = -unit[20]
    unit, _ = normalise(unit)
    first = np.arange(61)
    found = neighbours(unit, *moments(first, np.zeros(60), np.ones(60)))
    pairs = found.near_duplicates(above=0.9999)
    assert [(a, b) for a, b, _ in pairs] == [(3, 50)]
    assert [row for row, _ in found.outliers()] == [20]


def test_neighbours_of_a_single_moment_are_none():
    unit, _ = normalise(rows(2))
    found = neighbours(unit, *moments(*timeline([2])))
    assert found.rows.tolist() == [[-1], [-1]]
    assert found.near_duplicates(above=0.5) == []
    assert found.outliers() == []


def test_shrink_keeps_means():
    matrix = rows(100, 100)
    small = shrink(matrix, 10)
    np.testing.assert_allclose(small, matrix.reshape(10, 10, 10, 10).mean(axis=(1, 3)), atol=1e-6)
    assert shrink(matrix, 100) is matrix
