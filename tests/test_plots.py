"""Figures of features: real matplotlib, and what is on the axes."""

import sys

import numpy as np
import pytest

from folders import features
from tubelet.errors import UsageError
from tubelet.rows.plots import PARTS
from tubelet.rows.similarity import cells, normalise, novelty, self_similarity


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def test_every_part_is_drawn_over_the_seconds():
    rows = features(12, (6,), logits=5)
    axes = rows.plot(labels=["a", "b", "c", "d", "e"], classes=3)
    assert set(axes) == set(PARTS)
    assert len({axis.figure for axis in axes.values()}) == 1
    edges = cells(rows.start_s, rows.end_s, rows.center_s)
    for name in ("classes", "novelty", "norms"):
        assert axes[name].get_xlim() == pytest.approx((edges[0], edges[-1]))
    assert [t.get_text() for t in axes["classes"].get_yticklabels()] == ["a", "b", "c"]
    unit, norms = normalise(rows.values)
    (line,) = axes["norms"].patches
    np.testing.assert_allclose(line.get_data().values, norms)
    (line,) = axes["novelty"].patches
    np.testing.assert_allclose(line.get_data().values, novelty(unit))
    mesh = axes["similarity"].collections[0]
    np.testing.assert_allclose(mesh.get_array(), self_similarity(unit), atol=1e-6)
    axes["norms"].figure.canvas.draw()


@pytest.mark.parametrize("part", ["novelty", "norms", "similarity"])
def test_parts_stand_alone(part):
    assert set(features(1).plot(parts=[part])) == {part}


def test_rows_without_logits_have_no_classes():
    assert set(features(4).plot()) == {"novelty", "norms", "similarity"}
    rows = features(4, (3, 6))
    assert rows.plot(parts=("similarity",))["similarity"].collections[0].get_array().shape == (4, 4)


def test_what_cannot_be_drawn():
    with pytest.raises(UsageError, match="need some of classes"):
        features(4).plot(parts=["speed"])
    with pytest.raises(UsageError, match="no rows"):
        features(0).plot()


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # what Python sets for `absent`
    with pytest.raises(UsageError, match=r"tubelet\[plot\]"):
        features(4).plot()
