"""Class scores of stored rows: from stored logits, or from the run's own classifier.

No video is read and nothing is downloaded for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import WeightsError
from tubelet.extraction.recipe import cached_model
from tubelet.models import zoo
from tubelet.models.class_names import FILES, labels
from tubelet.rows.similarity import flat
from tubelet.types import Features

Logits = Callable[[Features], NDArray[np.float32]]


@dataclass(frozen=True)
class Scores:
    """How class scores of a folder's rows are had. how: in words."""

    names: tuple[str, ...] | None
    activation: str
    how: str
    _logits: Logits

    def __call__(self, features: Features) -> NDArray[np.float32]:
        """[N, classes]: probabilities after softmax or sigmoid (`activation`)."""
        logits = self._logits(features).astype(np.float32)
        if self.activation == "none":
            return logits
        if self.activation == "sigmoid":
            return np.reciprocal(1 + np.exp(-np.clip(logits, -80, 80)), dtype=np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return powers / powers.sum(axis=1, keepdims=True)

    def name(self, index: int) -> str:
        return self.names[index] if self.names and index < len(self.names) else f"class {index}"


def scores_of(recipe: dict[str, Any], *, compute: bool = True) -> Scores:
    """How to get class scores for the rows of a recipe.

    compute: apply the classifier of the run's network to stored rows where no logits are stored
    and its weights are on this machine. WeightsError, saying how to get scores, where that
    cannot be.
    """
    entry = zoo.find(str(recipe["weights"]["id"] or recipe["model"]))
    names = None
    if entry is not None and entry.dataset in FILES:
        names = labels(entry.dataset)
        names = names if len(names) == entry.classes else None
    activation = entry.activation if entry is not None else "softmax"
    if recipe.get("logits"):
        assumed = (
            "" if entry is not None else "; softmax is assumed, the network is not in the table"
        )
        return Scores(names, activation, f"stored logits{assumed}", _stored)
    if not compute:
        raise WeightsError("no logits are stored; extract with --logits to have class scores")
    try:
        model = cached_model(recipe)
    except WeightsError as error:
        raise WeightsError(
            f"no logits are stored, and {error}; extract with --logits to have class scores"
        ) from error
    how = f"the classifier of {entry.id if entry else recipe['model']}, applied now to stored rows"
    return Scores(names, model.activation, how, _classifier(model))


def _stored(features: Features) -> NDArray[np.float32]:
    if features.logits is None:
        raise WeightsError("this video has no stored logits")
    return flat(features.logits)


def _classifier(model: Any) -> Logits:
    def logits(features: Features) -> NDArray[np.float32]:
        import torch

        rows = torch.from_numpy(np.array(flat(features.values)))
        if not len(rows):
            return np.zeros((0, model.num_classes), np.float32)
        with torch.inference_mode():
            return model.classify(rows).float().numpy()

    return logits
