"""Search in output folders of every format: what is alike is found, one hit per moment."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner

from folders import features, make_folder
from tests_support import go, tiny, video
from tiny import TinyModel
from tubelet.cli import group
from tubelet.errors import RecipeMismatch, StoreError, UnknownName, UsageError, VideoError
from tubelet.extraction.recipe import extractor_of
from tubelet.inputs import find_source
from tubelet.rows.collection import load_collection
from tubelet.rows.search import Searcher, query_of, searcher_for
from tubelet.rows.search.index import build


def refuse(path, start_s, end_s):
    raise AssertionError(f"{path} should not be extracted")


@pytest.fixture
def out(tmp_path):
    """Three videos by name order; the last one has no rows."""
    videos = {
        "a": features(8, seed=1),
        "b/c@2": features(5, seed=2),
        "empty": features(0),
    }
    return make_folder(tmp_path / "out", videos)


@pytest.mark.parametrize("fmt", ["npy", "npz", "hdf5", "parquet"])
def test_a_collection_has_every_row_of_every_format(tmp_path, fmt):
    sources = [video(tmp_path / f"{n}.mp4", frames=n) for n in (6, 11)]
    go(sources, tmp_path / "out", tiny(keep="time"), fmt=fmt)
    found = load_collection(tmp_path / "out")
    assert found.ids == ("11", "6")
    for identity in found.ids:
        stored = found.folder.load(identity)
        rows = found.span(identity)
        mean = stored.values.mean(axis=1)
        norms = np.linalg.norm(mean, axis=1)
        np.testing.assert_allclose(found.norms[rows], norms, rtol=1e-6)
        np.testing.assert_allclose(found.vectors[rows], mean / norms[:, None], atol=1e-6)
        np.testing.assert_array_equal(found.center_s[rows], stored.center_s)


def test_the_matrix_is_kept_until_the_folder_changes(out):
    first = load_collection(out)
    files = {p: p.stat().st_mtime_ns for p in first.cache_folder.iterdir()}
    again = load_collection(out)
    assert again.key == first.key
    assert {p: p.stat().st_mtime_ns for p in first.cache_folder.iterdir()} == files
    make_folder(out, {"d": features(2, seed=9)})
    new = load_collection(out)
    assert new.ids == ("a", "b/c@2", "d", "empty")
    assert len(list(new.cache_folder.iterdir())) == 2, "the old matrix goes"


def test_a_folder_that_cannot_be_written_is_read_into_memory(out):
    (out / ".tubelet").write_text("in the way of a folder")
    found = load_collection(out)
    assert not found.cached
    np.testing.assert_array_equal(found.vectors[found.span("a")].shape, (8, 4))


def test_damaged_videos_are_left_out_and_named(out):
    (out / "a.npy").write_bytes(b"?")
    found = load_collection(out)
    assert found.ids == ("b/c@2", "empty")
    assert "sha256" in dict(found.skipped)["a"]
    with pytest.raises(Exception, match="sha256"):
        found.span("a")


def brute(collection, vector, *, banned=()):
    """One hit per moment, by the definition."""
    cosines = collection.vectors @ vector
    left = [i for i in np.argsort(-cosines, kind="stable") if i not in banned]
    hits = []
    for i in left:
        same = [j for j in hits if collection.video_of(j) == collection.video_of(i)]
        if all(
            collection.start_s[i] >= collection.end_s[j] - 1e-6
            or collection.start_s[j] >= collection.end_s[i] - 1e-6
            for j in same
        ):
            hits.append(int(i))
    return hits


def test_nearest_moments_are_those_of_the_definition(tmp_path):
    videos = {str(v): features(60, seed=v) for v in range(7)}
    found = load_collection(make_folder(tmp_path / "out", videos))
    searcher = Searcher(found)
    for t in (0.2, 7.3, 29.9):
        vector, own = searcher.moment("3", t)
        want = brute(found, vector, banned=own)
        for top in (1, 10, 60):
            hits = searcher.nearest(vector, top=top, exclude=own).hits
            got = [found.span(h.id).start + h.row for h in hits]
            assert got == want[:top]
    every = searcher.nearest(vector, top=1000, exclude=own).hits
    assert len(every) == len(want)


def test_hits_can_be_kept_further_apart(out):
    searcher = Searcher(load_collection(out))
    vector, _ = searcher.moment("a", 0.5)
    hits = searcher.nearest(vector, top=100, apart_s=1.5).hits
    for identity in ("a", "b/c@2"):
        centres = sorted(h.center_s for h in hits if h.id == identity)
        assert np.all(np.diff(centres) > 1.5)


def test_among_limits_the_search_to_some_rows(out):
    found = load_collection(out)
    searcher = Searcher(found)
    vector, _ = searcher.moment("a", 0.5)
    hits = searcher.nearest(vector, top=3, among=lambda rows: rows >= found.span("b/c@2").start)
    assert {h.id for h in hits.hits} == {"b/c@2"}


def test_queries_of_the_set(out):
    searcher = Searcher(load_collection(out))
    stored = searcher.collection.folder.load("b/c@2").values

    def ask(text, **more):
        return query_of(text, searcher, extract=refuse, **more)

    def unit(values):
        return values / np.linalg.norm(values)

    np.testing.assert_allclose(ask("b/c@2@1.4").vector, unit(stored[2]), atol=1e-6)
    np.testing.assert_allclose(ask("b/c@2").vector, unit(stored.mean(axis=0)), atol=1e-6)
    span = ask("b/c@2@0.9-2.1")
    np.testing.assert_allclose(span.vector, unit(stored[1:4].mean(axis=0)), atol=1e-6)
    assert (span.rows, list(span.own)) == (3, list(range(8, 13)))
    np.testing.assert_array_equal(ask("b/c@2@0.9", span_s=1.2).vector, span.vector)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a@x", "need a@SECONDS"),
        ("a@99", "99 is outside"),
        ("a@3-2", "must end later"),
        ("a@nan", "need a@SECONDS"),
        ("empty@0", "has no rows"),
        ("aa", "neither a video"),
    ],
)
def test_queries_that_cannot_be(out, text, words):
    with pytest.raises(UsageError, match=words):
        query_of(text, Searcher(load_collection(out)), extract=refuse)


def test_unknown_videos_have_near_names(out):
    with pytest.raises(UnknownName, match="'b/c@2'"):
        load_collection(out).span("b/c@3")


def test_a_file_is_looked_for_by_the_recipe_of_the_set(tmp_path):
    sources = [video(tmp_path / f"{n}.mp4", frames=20, seed=n) for n in range(4)]
    go(sources, tmp_path / "out", tiny(logits=True))
    found = load_collection(tmp_path / "out")
    extractor = extractor_of(found.recipe, model=TinyModel())
    searcher = Searcher(found)

    def extract(path, start_s, end_s):
        return extractor(path, start_s=start_s, end_s=end_s)

    query = query_of(f"{sources[2]}@0.3", searcher, extract=extract)
    assert not query.from_set
    best = searcher.nearest(query.vector, top=1).hits[0]
    assert best.id == "2"
    assert best.cosine == pytest.approx(1, abs=1e-6)
    assert best.row == found.folder.load("2").at(0.3)


def test_other_weights_are_refused(tmp_path):
    go([video(tmp_path / "v.mp4")], tmp_path / "out", tiny())
    recipe = load_collection(tmp_path / "out").recipe
    with pytest.raises(RecipeMismatch, match="sha256"):
        extractor_of(recipe, model=TinyModel(seed=1))
    with pytest.raises(UsageError, match="--weights"):
        extractor_of(recipe)


def test_the_verb(out):
    found = CliRunner().invoke(
        group, ["search", str(out), "--like", "a@1", "--top", "3", "--json"], catch_exceptions=False
    )
    record = json.loads(found.stdout)
    assert record["engine"] == "exact"
    assert record["rows"] == 13
    assert len(record["hits"]) == 3
    assert all(hit["cosine"] <= 1 for hit in record["hits"])


def test_names_that_are_not_utf_8_are_printed_as_they_are(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    out = make_folder(tmp_path / "out", {name: features(8, seed=1)})
    command = [sys.executable, "-m", "tubelet", "search", str(out), "--like", f"{name}@0.5"]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    lines = subprocess.run(command, env=strict, capture_output=True, check=True).stdout
    assert lines.splitlines()[0].endswith(os.fsencode(name))
    whole = subprocess.run([*command, "--json"], env=strict, capture_output=True, check=True).stdout
    assert json.loads(whole.decode())["query"]["id"] == name


def test_sources_are_found_again_or_the_reason_is_told(tmp_path, monkeypatch):
    path = video(tmp_path / "old" / "v.mp4")
    go([path], tmp_path / "out", tiny())
    record = load_collection(tmp_path / "out").folder.video("v")
    assert find_source(record).path == str(path)
    path.rename(tmp_path / "v.mp4")
    with pytest.raises(VideoError, match="not here"):
        find_source(record)
    assert find_source(record, [tmp_path]).path == str(tmp_path / "v.mp4")
    video(tmp_path / "v.mp4", seed=3)
    with pytest.raises(VideoError, match="has changed"):
        find_source(record, [tmp_path])


@pytest.fixture
def drifting(tmp_path):
    """40 videos of 50 rows around 10 themes."""
    rng = np.random.default_rng(0)
    themes = 2 * rng.standard_normal((10, 300))
    videos = {}
    for v in range(40):
        rows = features(50, (300,), seed=v)
        drift = np.cumsum(rows.values, axis=0) / 5 + themes[v % 10]
        videos[f"v{v}"] = replace(rows, values=drift.astype(np.float32))
    return load_collection(make_folder(tmp_path / "out", videos))


def test_the_index_finds_what_the_exact_search_finds(drifting):
    notes = []
    fast = searcher_for(drifting, mode="index", note=notes.append)
    assert len(notes) == 1
    assert "recall@10" in fast.engine
    exact = searcher_for(drifting)
    assert exact.engine == "exact", "this set is small"
    same = 0
    for t in (1.0, 9.0, 17.0):
        for name in ("v3", "v17"):
            vector, own = exact.moment(name, t)
            a, b = (s.nearest(vector, top=10, exclude=own).hits for s in (exact, fast))
            assert all(0 < hit.cosine <= 1.000001 for hit in b)
            same += len({(h.id, h.row) for h in a} & {(h.id, h.row) for h in b})
    assert same >= 58


def test_the_index_is_kept_and_never_trusted_blindly(drifting):
    searcher_for(drifting, mode="index")
    notes = []
    again = searcher_for(drifting, mode="index", note=notes.append)
    assert notes == [], "read, not built"
    vector, _ = again.moment("v3", 4.0)
    assert again.nearest(vector, top=1).hits[0].id == "v3"
    codes = drifting.cache_folder / f"{drifting.key}.codes.npy"
    np.save(codes, np.zeros((3, 256), np.uint8))
    searcher_for(drifting, mode="index", note=notes.append)
    assert len(notes) == 1, "codes of other rows: built again"


def test_where_axes_are_not_enough_all_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tubelet.rows.search.index.CANDIDATES", 20)  # as rare as among a million
    videos = {f"v{v}": features(50, (600,), seed=v) for v in range(40)}  # no structure at all
    found = build(load_collection(make_folder(tmp_path / "out", videos)))
    assert found.axes.shape == (600, 600)
    assert found.recall > 0.98


def test_a_cache_that_was_cut_off_is_made_again(drifting):
    searcher_for(drifting, mode="index")
    for kind, left in product(("npz", "f32", "index.npz", "codes.npy"), (0, 100, -30)):
        file = drifting.cache_folder / f"{drifting.key}.{kind}"
        whole = file.read_bytes()
        file.unlink()  # it is mapped: what is mapped must not shrink
        file.write_bytes(whole[:left])
        again = load_collection(drifting.folder.path)
        assert again.cached
        np.testing.assert_array_equal(again.vectors, drifting.vectors)
        notes = []
        searcher_for(again, mode="index", note=notes.append)
        assert len(notes) == (kind in ("index.npz", "codes.npy")), (kind, left)


def test_rows_that_find_no_room_are_an_error_with_a_sentence(out, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="cannot be put together"):
        load_collection(out, cache=False)
