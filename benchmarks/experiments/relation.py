"""Experiment e: what a network sees of time, and how well it tells the pairs of labels of
`train/relation.py` apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from tubelet.models.blocks.nonlocal_block import NonLocals
from tubelet.train.evaluate import Evaluation, open_subject
from tubelet.train.samples import read_split

PAIRS = {
    "warm": ("warm_clockwise", "warm_counter"),
    "cool": ("cool_clockwise", "cool_counter"),
    "relation": ("alike", "against"),
}
# One block, as many parameters: not there; each frame by itself (the network sees no more of time
# than before); the halves of the clip, each with one turn, by themselves (they meet behind the
# block, in the kernels that reach over the middle); whole.
ARMS: dict[str, Mapping[str, tuple[int, ...] | NonLocals] | None] = {
    "without": None,
    "frame by frame": {"res4": NonLocals((0,), groups=16)},
    "in halves": {"res4": NonLocals((0,), groups=2)},
    "with": {"res4": (0,)},
}


def frames_seen(model: Any) -> list[int]:
    """Frames of the clip that each step in time of the last map depends on, by its gradient."""
    spec = model.clip
    clip = torch.randn(1, 3, spec.frames, spec.crop, spec.crop, requires_grad=True)
    last = model.eval().features(clip, ("res5",))["res5"]
    found: list[int] = []
    for step in range(last.shape[2]):
        (slope,) = torch.autograd.grad(last[:, :, step].square().sum(), clip, retain_graph=True)
        found.append(int((slope.abs().amax(dim=(0, 1, 3, 4)) > 0).sum()))
    return found


def told_apart(weights: Path, listed: Path) -> dict[str, float]:
    """Share of the videos for which the right label of each pair has the higher score."""
    subject = open_subject(str(weights))
    assert subject.classes is not None
    split = read_split(listed, classes=subject.classes, multi_label=True)
    evaluation = Evaluation(weights.with_suffix(".scores"), subject, split)
    evaluation.run()
    scores = evaluation.scores()
    found: dict[str, float] = {}
    for name, labels in PAIRS.items():
        a, b = (subject.classes.index(label) for label in labels)
        right = [
            (scores[i][a] > scores[i][b]) == (a in sample.labels)
            for i, sample in enumerate(split.samples)
        ]
        found[name] = round(fmean(right), 4)
    return found
