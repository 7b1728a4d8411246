"""The report: one file without requests, with what the model saw, for any folder."""

import base64
import html.parser
import importlib.util
import io
import re

import av
import numpy as np
import pytest
from click.testing import CliRunner

from folders import fail, features, make_folder, make_thousand
from tests_support import go, tiny, video
from tubelet.cli import group
from tubelet.clips.modality import pictures
from tubelet.clips.tails import TAILS
from tubelet.clips.transform import ViewConfig
from tubelet.config import to_plain
from tubelet.errors import UnknownName, UsageError, VideoError, WeightsError
from tubelet.extraction.recipe import lane_of
from tubelet.models.registry import DEFAULT_MODEL, create_model
from tubelet.report import Choices, write_report
from tubelet.report.charts import ticks
from tubelet.report.pixels import rows_of, sheet_of, thumbnail
from tubelet.report.words import clock, ordinal, sentences, span
from tubelet.rows.scores import scores_of
from tubelet.store.listing import read_folder

RECIPE = to_plain(tiny(logits=True).recipe())
VOID = {"meta", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """Every tag closed in order; what it asks a browser to load; its words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.loads += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def report(out, **choices):
    dest = out.parent / "report.html"
    write_report(out, dest, Choices(**choices))
    text = dest.read_text()
    return Page(text), text


@pytest.fixture
def run(tmp_path):
    """A real run over two small real videos."""
    sources = [video(tmp_path / "videos" / f"{n}.mp4", frames=n, seed=n) for n in (14, 9)]
    go([tmp_path / "videos"], tmp_path / "out", tiny(logits=True))
    return tmp_path / "out", sources


def test_the_page_is_whole_and_asks_for_nothing(run):
    page, text = report(run[0])
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    assert "default-src 'none'" in text
    assert re.findall(r"url\(|@import|https?:", text) == []
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_the_page_tells_the_recipe_the_videos_and_the_classes(run):
    page, _ = report(run[0])
    recipe = read_folder(run[0]).record
    for words in (
        "A row is 4 frames, every frame of the video's own frames",
        "a row starts every 2 frames, so that windows share 2 frames",
        "resized to 20 pixels",
        "one centre crop of 16 × 16",
        recipe["hash"],
        "Class scores: stored logits",
        "all of them",
        "Self-similarity",
    ):
        assert words in page.text, words
    sheets = [a for tag, a in page.tags if tag == "img" and "What the model saw" in a["alt"]]
    assert len(sheets) == 6, "three windows of each video"
    assert "frames 0 to 3" in sheets[0]["alt"]


def test_the_frames_are_those_that_the_network_got(run):
    out, sources = run
    folder = read_folder(out)
    seen = {row.window.index: row.pixels for row, _ in tiny().stream(str(sources[0]))}
    lane = lane_of(folder.record["recipe"])
    rows = list(rows_of(folder.video("14"), lane, [0, 3, 5], roots=()))
    assert [row.window.index for row in rows] == [0, 3, 5]
    for row in rows:
        np.testing.assert_array_equal(row.pixels, seen[row.window.index])
    sheet = sheet_of(rows[0], lane.view)
    data = base64.b64decode(sheet.data.partition(",")[2])
    with av.open(io.BytesIO(data)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (16, 4 * 18 - 2, 3)
    for i in range(4):
        (want,) = pictures(seen[0][i], lane.view)
        # Noise is the worst case for a JPEG; a wrong frame or order of channels is 60 off.
        got = picture[:, i * 18 : i * 18 + 16].astype(int)
        assert np.abs(got - want).mean() < 12


def test_a_source_that_is_gone_or_changed_is_told(run):
    out, sources = run
    sources[0].rename(out.parent / "14.mp4")
    video(sources[1], frames=9, seed=99)
    page, _ = report(out)
    assert "cannot be shown: its source is not here" in page.text
    assert "cannot be shown: its source has changed since" in page.text
    page, _ = report(out, roots=(out.parent,))
    assert "not here" not in page.text


def test_other_rows_than_those_stored_are_no_evidence(run):
    out, _ = run
    record = read_folder(out).video("14")
    lane = lane_of(read_folder(out).record["recipe"])
    moved = {**record, "start_s": [t + 0.01 for t in record["start_s"]]}
    with pytest.raises(VideoError, match="row 1 is another one"):
        list(rows_of(moved, lane, [1], roots=()))
    with pytest.raises(VideoError, match="row 99 is missing"):
        list(rows_of(record, lane, [99], roots=()))


def test_hostile_names_are_text(tmp_path):
    name = '<script>alert(1)</script>/"><img src=x onerror=alert(2)>'
    make_folder(
        tmp_path / "out", {name: features(6, source=f"{name}.mp4", logits=3)}, recipe=RECIPE
    )
    fail(tmp_path / "out", "<b>bad</b>")
    page, text = report(tmp_path / "out")
    assert name in page.text
    assert text.count("<script>") == 1, "the page's own"
    assert not [a for _, a in page.tags if "onerror" in a]
    assert "<b>bad</b>" in page.text


def test_samples_are_stated(tmp_path):
    videos = {f"a{k:02d}": features(3, seed=k) for k in range(30)}
    make_folder(tmp_path / "out", videos, recipe=RECIPE)
    page, _ = report(tmp_path / "out", videos=4)
    assert "4 videos: 4 of 30, evenly over the ids" in page.text
    titles = [i for i, (tag, _) in enumerate(page.tags) if tag == "article"]
    assert len(titles) == 4
    page, _ = report(tmp_path / "out", chosen=("a07",))
    assert "1 video: 1 of 30, as chosen" in page.text
    with pytest.raises(UnknownName, match="a07"):
        report(tmp_path / "out", chosen=("a071",))


def test_a_thousand_videos_are_one_small_page(tmp_path):
    page, text = report(make_thousand(tmp_path / "out", 7, recipe=RECIPE))
    assert len(text) < 2_000_000
    assert "24 videos: 24 of 1,000, evenly over the ids" in page.text
    assert re.search(r"2,50\d of 7,000 rows, evenly chosen, and the odd ones", page.text)
    assert "6,000 that were compared, evenly chosen of 7,000" in page.text
    assert sum(attrs.get("class") == "id" for _, attrs in page.tags) == 1000


def test_copies_are_found_and_damage_is_named(tmp_path):
    videos = {name: features(4, (8,), seed=k) for k, name in enumerate(("one", "two", "bad"))}
    videos["copy"] = videos["one"]
    out = make_folder(tmp_path / "out", videos, recipe=RECIPE)
    (out / "bad.npy").write_bytes(b"?")
    page, _ = report(out)
    assert "8 rows have a near-duplicate" in page.text
    assert "missing or damaged" in page.text


@pytest.mark.parametrize("videos", [{}, {"none": features(0)}, {"one": features(1)}])
def test_folders_with_next_to_nothing(tmp_path, videos):
    page, _ = report(make_folder(tmp_path / "out", videos, recipe=RECIPE))
    assert ("There are no rows" in page.text) == ("one" not in videos)


def test_two_models_share_a_page(tmp_path):
    source = video(tmp_path / "v.mp4")
    go([source], tmp_path / "out", tiny(name="a"), tiny(name="b", keep="space-time"), fmt="parquet")
    page, text = report(tmp_path / "out")
    assert page.text.count("How the rows were made") == 2
    assert "the whole map over time and space" in page.text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("channels", [3, 2, 5])
def test_every_kind_of_pixels_has_pictures(channels, crops):
    from tubelet.report.pixels import line_names

    mean, std = (0.5,) * channels, (0.5,) * channels
    view = ViewConfig(20, 16, mean, std, crops=crops, flip=True)
    frame = np.zeros((view.views, 16, 16, channels), np.float32)
    frame[..., -2:] = [1, 0] if channels != 3 else 0
    shown = pictures(frame, view)
    assert len(shown) == len(line_names(view)) == view.views * (2 if channels == 5 else 1)
    assert all(p.shape == (16, 16, 3) and p.dtype == np.uint8 for p in shown)
    if channels != 3:
        assert shown[-1][0, 0, 0] > shown[-1][0, 0, 2], "to the right is red"


def test_thumbnails_are_means():
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    want = picture.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(thumbnail(picture, 2), want, atol=0.5)


def test_scores_without_stored_logits(tmp_path, monkeypatch):
    model = create_model(DEFAULT_MODEL)
    recipe = {
        "model": model.model_id,
        "weights": {"id": model.weights_id, "sha256": model.weights_sha256},
        "logits": False,
    }
    rows = features(3, (1024,))
    scores = scores_of(recipe)
    import torch

    want = model.classify(torch.from_numpy(rows.values)).softmax(dim=1)
    np.testing.assert_allclose(scores(rows), want.detach().numpy(), rtol=1e-5)
    assert "applied now" in scores.how
    assert scores.name(0) == "abseiling"
    other = {**recipe, "weights": {**recipe["weights"], "sha256": "0" * 64}}
    with pytest.raises(WeightsError, match="not those of the run"):
        scores_of(other)
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not on this machine; extract with --logits"):
        scores_of(recipe)
    assert not any(tmp_path.iterdir()), "nothing is fetched"


@pytest.mark.parametrize("tail", list(TAILS))
def test_every_recipe_has_words(tail):
    extractor = tiny(keep="time", dtype="float16")
    recipe = to_plain(extractor.recipe())
    assert lane_of(recipe) == extractor.lane
    changed = {**recipe, "window": {**recipe["window"], "tail": tail, "fps": "30000/1001"}}
    said = dict(sentences(changed, extractor.run_facts()))
    assert "timeline at 30000/1001 frames per second" in said["Windows"]
    assert "float16" in said["Numbers"]


def test_the_verb(run):
    dest = run[0].parent / "page.html"
    found = CliRunner().invoke(group, ["report", str(run[0]), "-o", str(dest), "--windows", "1"])
    assert found.exit_code == 0, found.output
    assert str(dest) in found.stdout
    assert dest.stat().st_size < 300_000


@pytest.mark.parametrize("wrong", [["-o", "."], ["--sources", "nowhere"]])
def test_wrong_paths_are_told_before_anything_is_decoded(run, wrong):
    found = CliRunner().invoke(group, ["report", str(run[0]), *wrong])
    assert found.exit_code == 2
    assert "decoding" not in found.output


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
@pytest.mark.filterwarnings("ignore")  # umap-learn's own
def test_a_second_map(tmp_path):
    videos = {name: features(10, (8,), seed=k) for k, name in enumerate(("one", "two"))}
    page, _ = report(make_folder(tmp_path / "out", videos, recipe=RECIPE), umap=True)
    assert "UMAP of the same rows (cosine, 15 neighbours at most, seed 0)" in page.text


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
@pytest.mark.parametrize("rows", [0, 4])
def test_rows_too_few_for_a_second_map_are_told_before_anything_is_decoded(tmp_path, rows):
    out, notes = make_folder(tmp_path / "out", {"a": features(rows, (8,))}, recipe=RECIPE), []
    with pytest.raises(UsageError, match=f"has {rows} rows; it needs 5"):
        write_report(out, tmp_path / "page.html", Choices(umap=True), note=notes.append)
    assert not any("decoding" in note for note in notes)


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is there")
def test_a_missing_extra_is_named(run):
    with pytest.raises(UsageError, match=r"tubelet\[umap\]"):
        report(run[0], umap=True)


def test_words():
    assert [ordinal(n) for n in (2, 3, 4, 11, 22)] == ["2nd", "3rd", "4th", "11th", "22nd"]
    assert [clock(t) for t in (None, 7.25, 65.2, 3723)] == [
        "unknown length",
        "7.2 s",
        "1:05",
        "1:02:03",
    ]
    assert span(4, 6.31) == "4.0 – 6.3 s"
    assert ticks(10)[-1] == 10
    assert len(ticks(7000)) <= 9
