"""Features as a figure, for notebooks: `Features.plot()`. Needs matplotlib (extra `plot`).

classes      ▒▒▒▒████████▒▒   a line per class          similarity  ┌────────┐
novelty      ──╱╲─────╱╲────  dashed: likely boundaries             │▓▓▒░░░▒▓│
norms        ───────────────                                        └────────┘
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.rows.similarity import boundaries, cells, normalise, novelty, self_similarity
from tubelet.types import Features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("classes", "novelty", "norms", "similarity")


def plot(
    features: Features,
    *,
    parts: Sequence[str] = PARTS,
    labels: Sequence[str] | None = None,
    classes: int = 6,
) -> dict[str, Axes]:
    """See `Features.plot`."""
    pyplot = _pyplot()
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise UsageError(f"parts {list(parts)}: need some of {', '.join(PARTS)}")
    if not len(features.values):
        raise UsageError("these features have no rows; there is nothing to plot")
    lanes = [p for p in parts if p != "similarity" and (p != "classes" or _has_scores(features))]
    layout = _mosaic(lanes, "similarity" in parts)
    size = (5.6 * len(layout[0]), max(3.2, 1.25 * len(layout) + 0.9))
    ratios = [2 if "classes" in line else 1 for line in layout]
    _, axes = pyplot.subplot_mosaic(
        layout, figsize=size, layout="constrained", height_ratios=ratios
    )
    unit, norms = normalise(features.values)
    edges = cells(features.start_s, features.end_s, features.center_s)
    curve = novelty(unit)
    cuts = [float(edges[i]) for i in boundaries(curve)]
    if "classes" in axes:
        _classes(axes["classes"], features, edges, labels, classes)
    if "novelty" in axes:
        _line(axes["novelty"], edges, curve, "novelty")
    if "norms" in axes:
        _line(axes["norms"], edges, norms, "norm")
    for name in lanes:
        for cut in cuts:
            axes[name].axvline(cut, color="0.35", linestyle=":", linewidth=1)
        axes[name].set_xlim(edges[0], edges[-1])
        axes[name].tick_params(labelbottom=name == lanes[-1])
    if lanes:
        axes[lanes[-1]].set_xlabel("seconds")
    if "similarity" in axes:
        _similarity(axes["similarity"], self_similarity(unit), edges)
    return axes


def _pyplot() -> Any:
    try:
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise UsageError("plot() needs matplotlib: pip install 'tubelet[plot]'") from error


def _has_scores(features: Features) -> bool:
    return features.logits is not None


def _mosaic(lanes: list[str], square: bool) -> list[list[str]]:
    """Lanes under one another, the matrix beside all of them."""
    if not lanes:
        return [["similarity"]]
    return [[lane, "similarity"] if square else [lane] for lane in lanes]


def _classes(
    axis: Axes,
    features: Features,
    edges: NDArray[np.float64],
    labels: Sequence[str] | None,
    most: int,
) -> None:
    """Softmax of the logits of the classes that are best in most rows."""
    assert features.logits is not None
    logits = features.logits.astype(np.float64)
    logits = logits.mean(axis=tuple(range(1, logits.ndim - 1)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    wins = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
    order = np.lexsort((-scores.mean(axis=0), -wins))[:most]
    lines = np.arange(len(order) + 1) - 0.5
    axis.pcolormesh(edges, lines, scores[:, order].T, vmin=0, vmax=1, cmap="Blues")
    names = [f"class {i}" if labels is None else str(labels[i]) for i in order.tolist()]
    axis.set_yticks(range(len(order)), names)
    axis.invert_yaxis()


def _line(axis: Axes, edges: NDArray[np.float64], values: NDArray[Any], name: str) -> None:
    axis.stairs(values, edges, baseline=None, linewidth=1.5)
    axis.set_ylabel(name)
    axis.spines[["top", "right"]].set_visible(False)


def _similarity(axis: Axes, matrix: NDArray[Any], edges: NDArray[np.float64]) -> None:
    mesh = axis.pcolormesh(edges, edges, matrix, cmap="viridis")
    axis.invert_yaxis()
    axis.set_aspect("equal")
    axis.set_xlabel("seconds")
    figure = axis.get_figure()
    assert figure is not None
    figure.colorbar(mesh, ax=axis, label="cosine", shrink=0.8)
