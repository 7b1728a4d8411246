"""Scores of every video of a labelled list, and what they say about the model.

OUT/evaluation.json          model, list, views; another combination is refused
OUT/scores-<i>-of-<n>.jsonl  one line per video, appended as it is done; n shards may run at once
OUT/failures.jsonl           videos that could not be read
OUT/metrics.json             when no video is left: see `metrics.summary`
OUT/per_class.csv, confusion.svg, predictions.parquet (where pyarrow is installed)
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.config import differences
from tubelet.errors import RecipeMismatch, UsageError, VideoError
from tubelet.machine.atomic import atomic_file
from tubelet.models import zoo
from tubelet.store.folder import read_record, write_json
from tubelet.train import metrics
from tubelet.train.chart import confusion_svg
from tubelet.train.samples import Sample, Split
from tubelet.train.view_scores import video_scores


@dataclass(frozen=True)
class EvaluatedModel:
    """A network to evaluate. name: what it is called; sha256: of its weights; classes: its class
    names, where the weights tell."""

    model: Any
    name: str
    sha256: str
    classes: tuple[str, ...] | None
    multi_label: bool


def open_subject(name: str, *, weights: str | None = None) -> EvaluatedModel:
    """A run folder of `tubelet train`, a .safetensors file of one, or a model id (with weights).

    Raises UsageError, UnknownName, WeightsError.
    """
    from tubelet.models.registry import BEST, create_model, trained_file

    if Path(name).is_dir() and trained_file(name) is None and zoo.find(name) is None:
        raise UsageError(f"{name}: no {BEST} there; is this the folder of a training run?")
    model = create_model(name, weights=weights) if weights else create_model(name)
    if model.class_names is not None:
        name = f"{model.model_id} ({model.weights_source})"
    sha256 = str(model.weights_sha256)
    return EvaluatedModel(model, name, sha256, model.class_names, model.activation == "sigmoid")


@dataclass(frozen=True)
class EvaluationProgress:
    """done and failed videos of the whole list, all shards together."""

    done: int
    failed: int
    total: int


class Evaluation:
    """One folder of scores; see the module's picture."""

    def __init__(
        self,
        out: Path,
        subject: EvaluatedModel,
        split: Split,
        *,
        views: tuple[int, int] = (1, 1),
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if subject.model.num_classes != len(split.classes):
            raise UsageError(
                f"{subject.name} has {subject.model.num_classes} classes, {split.source} has "
                f"{len(split.classes)}; give the list's classes with --classes"
            )
        self.out, self.subject, self.split, self.views, self.shard = (
            out, subject, split, views, shard,
        )  # fmt: skip
        listed = json.dumps([[s.path, s.labels] for s in split.samples]).encode()
        self.recipe = {
            "model": subject.name,
            "weights_sha256": subject.sha256,
            "data": split.source,
            "list_sha256": hashlib.sha256(listed).hexdigest(),
            "classes": list(split.classes),
            "views": list(views),
        }
        record = read_record(out / "evaluation.json")
        if record is not None and record != self.recipe:
            changed = "; ".join(differences(record, self.recipe)[:4])
            raise RecipeMismatch(f"{out} holds another evaluation ({changed}); choose another -o")
        write_json(out / "evaluation.json", self.recipe)

    def run(
        self, *, device: str = "cpu", on_video: Callable[[Sample, str | None], None] | None = None
    ) -> EvaluationProgress:
        """Score what is not scored yet of this shard; on_video is told (sample, error or None)."""
        self.subject.model.to(device)
        index, shards = self.shard
        scored = self.scores()
        failed = {line["index"] for line in self._lines("failures.jsonl")}
        file = self.out / f"scores-{index}-of-{shards}.jsonl"
        _end_line(file)
        for i in range(index, len(self.split.samples), shards):
            if i in scored:
                continue
            sample, error = self.split.samples[i], None
            try:
                found = video_scores(
                    self.subject.model, sample.path, views=self.views, device=device
                )
            except VideoError as problem:
                error = str(problem)
                if i not in failed:
                    _append(self.out / "failures.jsonl", {"index": i, "error": error})
            else:
                values = [float(v) for v in found]
                _append(file, {"index": i, "path": sample.path, "scores": values})
            if on_video is not None:
                on_video(sample, error)
        return self.progress()

    def _lines(self, pattern: str) -> list[dict[str, Any]]:
        """Whole lines of files; a last line that a kill cut short is left out."""
        found: list[dict[str, Any]] = []
        for file in sorted(self.out.glob(pattern)):
            for line in file.read_bytes().splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def scores(self) -> dict[int, NDArray[np.float64]]:
        """Index in the list -> scores [classes], of all shards."""
        lines = self._lines("scores-*.jsonl")
        return {line["index"]: np.array(line["scores"]) for line in lines}

    def progress(self) -> EvaluationProgress:
        scored = set(self.scores())
        failed = {line["index"] for line in self._lines("failures.jsonl")} - scored
        return EvaluationProgress(len(scored), len(failed), len(self.split.samples))

    def report(self) -> dict[str, Any]:
        """Metrics of what is scored, written with the tables and pictures. UsageError for none."""
        scored = self.scores()
        if not scored:
            raise UsageError(f"{self.out}: no video has scores")
        rows = sorted(scored)
        samples = [self.split.samples[i] for i in rows]
        scores = np.stack([scored[i] for i in rows])
        labels = metrics.multi_hot(samples, len(self.split.classes))
        multi_label = self.subject.multi_label
        progress = self.progress()
        summary: dict[str, Any] = {
            **metrics.summary(scores, labels, multi_label=multi_label),
            "videos": len(rows),
            "failed": progress.failed,
            "views": list(self.views),
        }
        write_json(self.out / "metrics.json", summary)
        self._write_classes(scores, labels)
        if not multi_label:
            svg = confusion_svg(metrics.confusion(scores, labels), self.split.classes)
            _write_text(self.out / "confusion.svg", svg)
        if importlib.util.find_spec("pyarrow") is not None:
            from tubelet.store.export.table import write_table

            columns = {
                "path": [s.path for s in samples],
                "labels": [list(s.labels) for s in samples],
                "predicted": scores.argmax(axis=1).tolist(),
                "scores": scores.astype(np.float32).tolist(),
            }
            write_table(self.out / "predictions.parquet", columns)
        return summary

    def _write_classes(self, scores: NDArray[Any], labels: NDArray[np.bool_]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["class", "name", "videos", "average_precision", "recall", "precision"])
        guessed = scores.argmax(axis=1)
        for c, name in enumerate(self.split.classes):
            of, said = labels[:, c], guessed == c
            ap = metrics.average_precision(scores[:, c], of)
            recall = (of & said).sum() / of.sum() if of.any() else float("nan")
            right = (of & said).sum() / said.sum() if said.any() else float("nan")
            writer.writerow([c, name, int(of.sum()), f"{ap:.6f}", f"{recall:.6f}", f"{right:.6f}"])
        _write_text(self.out / "per_class.csv", text.getvalue())


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _end_line(path: Path) -> None:
    """What a kill left half written becomes a line of its own, which readers leave out."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
