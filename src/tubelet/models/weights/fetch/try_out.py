"""Released weights, tried: fetched, loaded strictly, and run on one clip."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tubelet.errors import TubeletError
from tubelet.models.class_names import FILES, labels
from tubelet.models.weights.fetch.download import Progress
from tubelet.models.zoo import ZooEntry
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class TryOut:
    """What became of one entry. sha256: of the released file; top, score: the best class."""

    id: str
    ok: bool
    source: str | None = None
    layout: str | None = None
    sha256: str | None = None
    top: str | None = None
    score: float | None = None
    seconds: float | None = None
    error: str | None = None


def verify(entry: ZooEntry, *, progress: Progress | None = None) -> TryOut:
    """Fetch where needed, load, run. A failure is a verdict, not an exception."""
    from tubelet.models.registry import create_model

    started = time.monotonic()
    try:
        model = create_model(entry.id, progress=progress)
        with torch.inference_mode():
            top, score = _best(model, entry)
    except TubeletError as error:
        return TryOut(entry.id, False, error=str(error))
    return TryOut(
        entry.id,
        True,
        source=model.weights_source,
        layout=model.weights_layout,
        sha256=model.weights_sha256,
        top=top,
        score=score,
        seconds=round(time.monotonic() - started, 2),
    )


def probe_clip(spec: ClipSpec) -> Tensor:
    """A bright disc moving over a gradient, normalised: [1, C, T, crop, crop]; always the same."""
    t = torch.linspace(0, 1, spec.frames)[:, None, None]
    y = torch.linspace(0, 1, spec.crop)[None, :, None]
    x = torch.linspace(0, 1, spec.crop)[None, None, :]
    disc = ((x - 0.2 - 0.6 * t) ** 2 + (y - 0.5) ** 2 < 0.02).float()
    shades = torch.stack(
        [0.3 + 0.4 * x + 0 * y + 0 * t, 0.6 * y + 0 * x + 0 * t, 0.5 - 0.3 * x * y + 0 * t]
    )
    pixels = torch.maximum(shades, disc)[: spec.channels]
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (spec.mean, spec.std))
    return ((pixels - mean) / std)[None]


def _best(model: Any, entry: ZooEntry) -> tuple[str | None, float | None]:
    """The best class by name and its score; None for a backbone, whose feature must be finite."""
    clip = probe_clip(model.clip)
    if not model.num_classes:
        if not bool(model.features(clip)["pool"].isfinite().all()):
            raise TubeletError(f"{entry.id}: the feature is not finite")
        return None, None
    scores = model.predict(clip)[0]
    if not bool(scores.isfinite().all()):
        raise TubeletError(f"{entry.id}: the class scores are not finite")
    index = int(scores.argmax())
    named = entry.dataset in FILES and len(labels(entry.dataset)) == len(scores)
    name = labels(entry.dataset)[index] if named and entry.dataset else f"class {index}"
    return name, round(float(scores[index]), 4)
