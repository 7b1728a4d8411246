"""Class scores of a video by T temporal x S spatial views, as the reference tests.

Two passes over the file: the packets say how many frames there are, then only the frames that a
view wants are converted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tubelet.clips.transform import prepare, to_clip, view_config
from tubelet.clips.views import view_indices
from tubelet.train.data import count_frames, read_frames


def video_scores(
    model: Any, path: str, *, views: tuple[int, int] = (1, 1), device: str = "cpu"
) -> NDArray[np.float32]:
    """[classes]: the mean of `model.predict` over T x S views. Raises VideoError."""
    temporal, spatial = views
    view = view_config(model.clip)
    if spatial == 3:  # the reference resizes to the crop when it takes three
        view = replace(view, crops=3, short_side=view.crop)
    n, fps = count_frames(path)
    picks = [view_indices(n, fps, model.clip, view=t, views=temporal) for t in range(temporal)]
    frames = read_frames(path, {i for pick in picks for i in pick})
    prepared = {i: prepare(image, view) for i, image in frames.items()}
    scores = []
    with torch.inference_mode():
        for pick in picks:
            clip = to_clip([prepared[i] for i in pick]).to(device)
            scores.append(model.predict(clip).float().mean(dim=0).cpu().numpy())
    return np.mean(scores, axis=0)
