"""Class scores of videos: per window along the timeline, or by the reference's test views."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from tubelet.clips.modality import open_source, pixels_of
from tubelet.clips.transform import Prepared, ViewConfig, to_clip
from tubelet.clips.views import view_indices
from tubelet.clips.windows import WindowConfig
from tubelet.decode.base import open_video
from tubelet.errors import EmptyVideo, UsageError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.pipeline import stream_rows
from tubelet.extraction.recording import Source
from tubelet.inputs import Input, on_disk, seconds_of_range
from tubelet.models.class_names import FILES, labels
from tubelet.models.device import arithmetic, sent
from tubelet.types import VideoReader


def parse_views(text: str) -> tuple[int, int]:
    """ "10x3" -> (10, 3). UsageError for anything else; S is 1 or 3."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UsageError(f"views {text!r}: need TxS, such as 10x3")
    temporal, spatial = int(parts[0]), int(parts[1])
    if spatial not in (1, 3):
        raise UsageError(f"views {text!r}: {spatial} spatial views; it must be 1 or 3")
    return temporal, spatial


class Classifier:
    """One model that names classes. `labels` are class names, or numbers where none are known."""

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        window: WindowConfig,
        view: ViewConfig,
        device: str,
        options: Options | None = None,
    ) -> None:
        options = replace(options or Options(), logits=True)
        self.extractor = Extractor(
            model, name=name, window=window, view=view, options=options, device=device
        )
        self.labels = labels_of(model)

    def classify(self, item: Input, *, views: tuple[int, int] | None, top: int) -> dict[str, Any]:
        """{"id", "windows": [{"start_s", "end_s", "top"}], "top": [[name, score], ...]}.

        Without views: every window of the timeline; the video's scores are the activation of the
        mean logits. With views (T, S): the mean of the scores of T x S views, as the reference
        tests; there are no windows then.
        """
        if views is None:
            windows, scores = self._windows(item, top)
        else:
            windows, scores = [], self._views(item, *views)
        return {"id": item.id, "windows": windows, "top": self._top(scores, top)}

    def _top(self, scores: np.ndarray, top: int) -> list[tuple[str, float]]:
        order = np.argsort(-scores, kind="stable")[:top]
        return [(self.labels[i], round(float(scores[i]), 6)) for i in order]

    def _windows(self, item: Input, top: int) -> tuple[list[dict[str, Any]], np.ndarray]:
        windows: list[dict[str, Any]] = []
        logits: list[np.ndarray] = []
        with on_disk(item) as path:
            span = seconds_of_range(item, path)
            source = Source(path, *span, item.fps, item.id, item.pattern)
            for row, values in stream_rows(source, self.extractor):
                logits.append(values["logits"])
                best = self._top(self._activate(values["logits"]), top)
                windows.append({"start_s": row.start_s, "end_s": row.end_s, "top": best})
        if not logits:
            raise EmptyVideo(f"{item.path}: no window; it is shorter than one and --tail is drop")
        return windows, self._activate(np.mean(logits, axis=0))

    def _activate(self, logits: np.ndarray) -> np.ndarray:
        kind = self.extractor.model.activation
        if kind == "softmax":
            shifted = np.exp(logits - logits.max())
            return shifted / shifted.sum()
        return 1 / (1 + np.exp(-logits)) if kind == "sigmoid" else logits

    def _views(self, item: Input, temporal: int, spatial: int) -> np.ndarray:
        """Two passes: count the frames, then keep only those that a view wants."""
        import torch

        model, clip = self.extractor.model, self.extractor.model.clip
        # The reference resizes to the crop when it takes three crops, to the jitter scale for one.
        view = replace(self.extractor.view, crops=spatial)
        if spatial == 3:
            view = replace(view, short_side=view.crop)
        with on_disk(item) as path, open_video(path, fps=item.fps, pattern=item.pattern) as reader:
            n = sum(1 for _ in reader.frames())
            if n == 0:
                raise EmptyVideo(f"{item.path}: no frame could be decoded")
            picks = [
                view_indices(n, float(reader.info.fps), clip, view=t, views=temporal)
                for t in range(temporal)
            ]
            wanted = {i for pick in picks for i in pick}
            pixels = self._pixels(reader, view, wanted)
        scores = []
        e = self.extractor
        with torch.inference_mode(), arithmetic(e.device, e.precision, e.runtime):
            for pick in picks:
                batch = sent(to_clip([pixels[i] for i in pick]), e.device)
                scores.append(model.predict(batch).float().mean(dim=0).cpu().numpy())
        return np.mean(scores, axis=0)

    def _pixels(
        self, reader: VideoReader, view: ViewConfig, wanted: set[int]
    ) -> dict[int, Prepared]:
        """The views of the wanted frames, by index."""
        config, options = self.extractor.flow, self.extractor.options
        if config is None:
            return pixels_of(reader.frames(), view, wanted, flow=None)
        with closing(
            open_source(config, reader.info, color=options.color, cache=options.flow_cache)
        ) as source:
            return pixels_of(reader.frames(), view, wanted, flow=source)


def labels_of(model: Any) -> list[str]:
    """Class names of a model, or "class 0", ... where its classes have no names here."""
    own = getattr(model, "class_names", None)
    if own is not None:
        return list(own)
    dataset = getattr(model, "dataset", None)
    if dataset in FILES and len(labels(dataset)) == model.num_classes:
        return list(labels(dataset))
    return [f"class {i}" for i in range(model.num_classes)]
