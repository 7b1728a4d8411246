"""Metrics, evaluation folders, probes."""

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tubelet.cli.evaluate import command as evaluate_command
from tubelet.cli.probe import command as probe_command
from tubelet.errors import RecipeMismatch, UsageError
from tubelet.store.folder import open_folder
from tubelet.train import metrics
from tubelet.train.config import Data, LearningRate, Network, TrainConfig
from tubelet.train.evaluate import Evaluation, open_subject
from tubelet.train.probe import folds, knn, linear
from tubelet.train.run_folder import train
from tubelet.train.samples import read_split
from tubelet.types import Features


def test_metrics_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]])
    labels = np.eye(3, dtype=bool)[[0, 1, 1, 2]]
    assert metrics.top_k(scores, labels, 1) == 0.5
    assert metrics.top_k(scores, labels, 2) == 0.75
    summary = metrics.summary(scores, labels, multi_label=False)
    assert summary == {"top1": 0.5, "top5": 1.0, "mean_class": pytest.approx((1 + 0.5 + 0) / 3)}
    assert metrics.confusion(scores, labels).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]
    # Ranks 1, 0, 1, 0: precision 1 at recall 1/2, 2/3 at recall 1.
    hits = np.array([True, False, True, False])
    assert metrics.average_precision(np.array([0.9, 0.8, 0.7, 0.1]), hits) == pytest.approx(5 / 6)
    # Ties are one step: half of four are relevant.
    assert metrics.average_precision(np.zeros(4), hits) == 0.5
    assert np.isnan(metrics.average_precision(np.zeros(4), np.zeros(4, bool)))


@given(
    scores=hnp.arrays(float, (9, 3), elements=st.integers(0, 4).map(float)),
    rows=st.lists(st.integers(0, 2), min_size=9, max_size=9),
)
def test_metrics_do_not_depend_on_the_order(scores, rows):
    labels = np.eye(3, dtype=bool)[rows]
    order = np.random.default_rng(0).permutation(9)
    for multi_label in (False, True):
        a = metrics.summary(scores, labels, multi_label=multi_label)
        b = metrics.summary(scores[order], labels[order], multi_label=multi_label)
        assert a == pytest.approx(b)
        assert all(0 <= value <= 1 for value in a.values())


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        network=Network("slow_small", frames=4, interval=1, crop=32, short_side=36),
        data=Data("train.csv", val="val.csv"),
        rate=LearningRate(0.05, 4),
        batch_size=4,
        views=(2, 1),
    )
    return out, train(config, out, folder=clips)


def test_evaluation_equals_training_s_own_and_goes_on(run, clips, tmp_path, monkeypatch):
    out, trained = run
    subject = open_subject(str(out))
    assert subject.classes == ("0", "1")
    split = read_split(clips / "val.csv", classes=subject.classes)
    evaluation = Evaluation(tmp_path, subject, split, views=(2, 1))
    told = []
    evaluation.run(on_video=lambda sample, error: told.append(sample.path))
    summary = evaluation.report()
    best = max(record["val"]["top1"] for record in trained.history)
    assert summary["top1"] == pytest.approx(best)
    before = (tmp_path / "scores-0-of-1.jsonl").read_bytes()
    with (tmp_path / "scores-0-of-1.jsonl").open("ab") as file:  # as a kill leaves it
        file.truncate(len(before) - 20)
    again = Evaluation(tmp_path, subject, split, views=(2, 1))
    again.run(on_video=lambda sample, error: told.append(sample.path))
    assert len(told) == len(split.samples) + 1
    assert again.report() == summary
    with pytest.raises(RecipeMismatch, match="views"):
        Evaluation(tmp_path, subject, split, views=(1, 1))
    with pytest.raises(UsageError, match="has 2 classes"):
        Evaluation(tmp_path / "x", subject, replace(split, classes=("a", "b", "c")))


def test_shards_are_one_evaluation(run, clips, tmp_path):
    out, _ = run
    (clips / "few.csv").write_text((clips / "val.csv").read_text())
    for shard in ("0/2", "1/2"):
        arguments = [str(out), str(clips / "few.csv"), "-o", str(tmp_path), "--shard", shard]
        result = CliRunner().invoke(evaluate_command, [*arguments, "--json", "--device", "cpu"])
        assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["videos"] == 6
    rows = list(csv.DictReader((tmp_path / "per_class.csv").read_text().splitlines()))
    assert [row["videos"] for row in rows] == ["3", "3"]
    picture = ET.fromstring((tmp_path / "confusion.svg").read_text())
    assert picture.tag.endswith("svg")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table.num_rows == 6
    assert np.allclose(np.sum(table["scores"].to_pylist(), axis=1), 1, atol=1e-5)


def test_a_bad_video_is_a_failure_of_that_video(run, clips, tmp_path):
    out, _ = run
    (tmp_path / "bad.mp4").write_bytes((clips / "v1.mp4").read_bytes()[:400])
    (tmp_path / "list.csv").write_text(f"{clips}/v0.mp4 0\nbad.mp4 1\n")
    arguments = [str(out), str(tmp_path / "list.csv"), "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(evaluate_command, arguments, standalone_mode=False)
    assert result.return_value == 1
    assert json.loads(result.stdout)["failed"] == 1
    assert "bad.mp4" in (tmp_path / "out" / "failures.jsonl").read_text()


def clusters(count=40, width=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    centres = rng.normal(size=(4, width)) * 3
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def test_probes_find_clusters_and_not_noise():
    values, labels = clusters()
    for method in (lambda: knn(values[:30], labels[:30], values[30:], k=5),
                   lambda: linear(values[:30], labels[:30], values[30:])):  # fmt: skip
        assert (method().argmax(axis=1) == labels[30:]).mean() >= 0.9
    place = folds(labels, 5, seed=1)
    for fold in range(5):
        assert np.bincount(labels[place == fold]).tolist() == [2, 2, 2, 2]
    with pytest.raises(UsageError, match="folds"):
        folds(labels, 11, seed=0)


def test_probe_of_a_stored_folder(tmp_path):
    values, labels = clusters()
    folder = open_folder(tmp_path / "out", recipe={"a": 1}, run={}, fmt="npy", overwrite=False)
    for i, value in enumerate(values):
        rows = np.stack([value + 0.01, value - 0.01])
        times = np.arange(2.0)
        features = Features(rows, times, times + 1, times + 0.5, {"size_bytes": 1})
        folder.write(f"v{i}", features)
    text = "".join(f"v{i},c{label}\n" for i, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text("id,label\n" + text)
    arguments = [str(tmp_path / "out"), "--labels", str(tmp_path / "labels.csv"), "--json"]
    result = CliRunner().invoke(probe_command, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["videos"] == 40
    assert found["linear"] >= 0.9
    assert found["knn"] >= 0.9
    (tmp_path / "labels.csv").write_text("v0 a\nmissing b\n")
    result = CliRunner().invoke(probe_command, arguments)
    assert "1 labelled ids are not in" in str(result.exception)
