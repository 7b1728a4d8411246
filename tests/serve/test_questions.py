"""What the page asks: lists, rows, nearest moments, comparisons, the map, CSV."""

import base64
import csv
import io

import numpy as np
import pytest

from folders import fail, features, make_folder
from serve.conftest import CHANGES, keys
from tubelet.serve.catalog import Catalog
from tubelet.serve.library import Library
from tubelet.store.folder import load


def test_the_list(site):
    found = site.get("/api/videos").json()
    assert found["total"] == 5
    names = [item["name"] for item in found["items"]]
    assert names == ["broken", "first", "old", "second", "third <script>"]
    states = {item["name"]: item["state"] for item in found["items"]}
    assert states["broken"] == "failed"
    assert states["first"] == "done"
    assert site.get("/api/state").json()["counts"] == {"done": 4, "failed": 1}


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"q": "FIRST"}, ["first"]),
        ({"q": "script third"}, ["third <script>"]),
        ({"q": "nothing like it"}, []),
        ({"state": "failed"}, ["broken"]),
        ({"offset": 1, "limit": 2}, ["first", "old"]),
        ({"sort": "rows", "limit": 1}, ["first"]),
    ],
)
def test_filters(site, params, names):
    found = site.get("/api/videos", params=params).json()
    assert [item["name"] for item in found["items"]] == names


@pytest.mark.parametrize(
    "params", [{"sort": "colour"}, {"limit": 100000}, {"offset": -1}, {"q": "x" * 999}]
)
def test_questions_that_cannot_be(site, params):
    answer = site.get("/api/videos", params=params)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


def test_a_video(site, out):
    found = site.get(f"/api/videos/{keys(site)['first']}").json()
    stored = load(out / "first.json")
    line = found["timeline"]
    assert np.allclose(line["start_s"], stored.start_s, atol=1e-4)
    assert len(line["novelty"]) == len(stored.values)
    best = stored.logits.argmax(axis=1).tolist()
    assert [row[0] for row in line["top"]["index"]] == best
    assert all(1 >= row[0] >= row[-1] >= 0 for row in line["top"]["score"])
    assert found["media"]["state"] == "file"


def test_a_failed_video_tells_why(site):
    found = site.get(f"/api/videos/{keys(site)['broken']}").json()
    assert found["failure"]["type"] == "NotAVideo"
    assert found["failure"]["stage"] == "open"
    assert "timeline" not in found


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_nearest_moments_are_the_nearest(site, out):
    key = keys(site)["first"]
    found = site.get("/api/search", params={"key": key, "row": 3, "top": 5}).json()
    query = load(out / "first.json").values[3]
    hits = found["hits"]
    assert [hit["cosine"] for hit in hits] == sorted((h["cosine"] for h in hits), reverse=True)
    for hit in hits:
        rows = load(out / f"{hit['name']}.json")
        assert cosine(query, rows.values[hit["row"]]) == pytest.approx(hit["cosine"], abs=1e-3)
        assert hit["center_s"] == pytest.approx(rows.center_s[hit["row"]], abs=1e-3)
    best = max(
        cosine(query, row)
        for name in ("old", "second")
        for row in load(out / f"{name}.json").values
    )
    assert hits[0]["cosine"] >= best - 1e-3


def test_a_moment_does_not_find_itself(site, out):
    key = keys(site)["first"]
    found = site.get("/api/search", params={"key": key, "row": 3, "top": 200}).json()
    own = load(out / "first.json")
    start, end = own.start_s[3], own.end_s[3]
    mine = [hit for hit in found["hits"] if hit["key"] == key]
    assert mine
    assert all(hit["end_s"] <= start + 1e-6 or hit["start_s"] >= end - 1e-6 for hit in mine)


def test_a_span_is_its_mean(site, out):
    key = keys(site)["first"]
    stored = load(out / "first.json")
    t0, t1 = stored.center_s[2] - 0.01, stored.center_s[6] + 0.01
    found = site.get("/api/search", params={"key": key, "start": t0, "end": t1}).json()
    assert found["query"]["rows"] == [2, 7]
    mean = stored.values[2:7].mean(axis=0)
    assert np.allclose(found["query"]["mean"], mean, atol=1e-4)
    saved = site.get("/api/mean", params={"key": key, "start": 2, "stop": 7})
    assert np.allclose(np.load(io.BytesIO(saved.content)), mean, rtol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"row": 999},
        {"row": -1},
        {},
        {"start": 2, "end": 1},
        {"start": "nan", "end": 1},
        {"row": 1, "top": 0},
        {"row": 1, "top": 999},
        {"row": "x"},
    ],
)
def test_moments_that_are_not_there(site, params):
    answer = site.get("/api/search", params={"key": keys(site)["first"], **params})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


def test_two_videos(site, out):
    known = keys(site)
    params = {"a": known["first"], "b": known["second"]}
    found = site.get("/api/compare", params=params).json()
    a, b = (load(out / f"{name}.json").values for name in ("first", "second"))
    assert found["shape"] == [len(a), len(b)]
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(found["shape"])
    shown = found["low"] + levels / 255 * (found["high"] - found["low"])
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    assert np.abs(shown - unit[0] @ unit[1].T).max() < 0.01
    path = found["path"]
    assert path[0] == [0, 0]
    assert path[-1] == [len(a) - 1, len(b) - 1]
    steps = np.diff(path, axis=0)
    assert ((steps == 0) | (steps == 1)).all()
    assert (steps.sum(axis=1) > 0).all()


def test_a_video_against_itself_is_aligned_along_the_diagonal(site):
    key = keys(site)["first"]
    found = site.get("/api/compare", params={"a": key, "b": key}).json()
    assert all(i == j for i, j in found["path"])
    assert found["along"] == pytest.approx(1, abs=1e-3)


def test_a_long_video_is_compared_in_groups(served, tmp_path):
    videos = {"long": features(3000, (4,), seed=1), "short": features(7, (4,), seed=2)}
    make_folder(tmp_path / "out", videos)
    site = served(tmp_path / "out")
    known = keys(site)
    found = site.get("/api/compare", params={"a": known["long"], "b": known["short"]}).json()
    assert found["a"]["grouped"] == 3
    assert len(found["a"]["center_s"]) == 1000
    assert found["shape"] == [400, 7]


def test_the_map_has_every_row(site, out):
    found = site.get("/api/map").json()
    rows = sum(
        len(load(out / f"{n}.json").values) for n in ("first", "old", "second", "third <script>")
    )
    assert found["points"] == found["total"] == rows
    assert {video["name"] for video in found["videos"]} == set(keys(site)) - {"broken"}
    spread = np.var(found["x"]) / (np.var(found["x"]) + np.var(found["y"]))
    assert spread >= 0.5  # the first axis holds more
    assert set(found["class"]) <= {0, 1, 2}


def export(site, rows, **more):
    answer = site.post("/api/export", headers=CHANGES, json={"rows": rows, **more})
    return answer, list(csv.reader(io.StringIO(answer.text)))


def test_a_selection_as_csv(site, out):
    known = keys(site)
    answer, table = export(site, [[known["second"], 4], [known["first"], 1]], features=True)
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    header, *lines = table
    assert header[:5] == ["id", "row", "start_s", "end_s", "center_s"]
    assert [line[:2] for line in lines] == [["second", "4"], ["first", "1"]]
    stored = load(out / "second.json")
    assert float(lines[0][2]) == pytest.approx(stored.start_s[4], abs=1e-6)
    assert np.array_equal([np.float32(x) for x in lines[0][8:]], stored.values[4])


def test_a_name_is_no_formula(served, tmp_path):
    make_folder(tmp_path / "out", {"=cmd|' _c calc'!A1": features()})
    site = served(tmp_path / "out")
    _, table = export(site, [[next(iter(keys(site).values())), 0]])
    assert table[1][0].startswith("'=")


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([["nobody", 0]], 404),
        ([["first", 999]], 400),
        ([["first", -1]], 400),
        ([["broken", 0]], 400),
        ([[1, 2, 3]], 422),
        ("x", 422),
        ([["first", "x"]], 422),
    ],
)
def test_selections_that_cannot_be(site, rows, status):
    known = keys(site)
    if isinstance(rows, list):
        rows = [[known.get(str(row[0]), row[0]), *row[1:]] for row in rows]
    answer, _ = export(site, rows)
    assert answer.status_code == status


def test_a_selection_that_never_ends(site):
    answer = site.post("/api/export", headers=CHANGES, content=b" " * (9 << 20))
    assert answer.status_code == 413


def test_an_empty_folder(served, tmp_path):
    site = served(make_folder(tmp_path / "out", {}))
    assert site.get("/api/state").json()["videos"] == 0
    assert site.get("/api/videos").json() == {"total": 0, "offset": 0, "items": []}
    assert site.get("/api/map").json() == {"points": 0, "total": 0}


def test_videos_that_come_while_the_folder_is_served(served, tmp_path):
    out = make_folder(tmp_path / "out", {"one": features(seed=1)})
    fail(out, "two")
    site = served(out)
    assert set(keys(site)) == {"one", "two"}
    assert site.get("/api/map").json()["points"] == 5
    version = site.get("/api/state").json()["version"]
    make_folder(out, {"two": features(seed=2), "sub/three": features(seed=3)})
    catalog = site.app.state.site.catalog
    catalog.refresh(now=True)
    site.app.state.site.library.rows[0].renew(now=True)
    assert set(keys(site)) == {"one", "two", "sub/three"}
    assert site.get("/api/state").json()["version"] > version
    assert site.get("/api/map").json()["points"] == 15
    (out / "one.json").unlink()
    catalog.refresh(now=True)
    assert set(keys(site)) == {"two", "sub/three"}


def test_a_video_without_rows(served, tmp_path):
    site = served(make_folder(tmp_path / "out", {"a": features(0), "b": features(4)}))
    key = keys(site)["a"]
    assert site.get(f"/api/videos/{key}").json()["timeline"]["center_s"] == []
    assert site.get("/api/search", params={"key": key, "row": 0}).status_code == 400


def test_a_sidecar_that_is_no_json(served, tmp_path):
    out = make_folder(tmp_path / "out", {"a": features(), "b": features(seed=1)})
    (out / "a.json").write_text("{")
    site = served(out)
    states = {v["name"]: v["state"] for v in site.get("/api/videos").json()["items"]}
    assert states == {"a": "unreadable", "b": "done"}
    assert site.get(f"/api/videos/{keys(site)['a']}").json()["problem"]


def test_a_thousand_videos(served, thousand):
    site = served(thousand)
    state = site.get("/api/state").json()
    assert state["videos"] == 1000
    assert state["rows"] == 3000
    found = site.get("/api/videos", params={"offset": 990}).json()
    assert [v["name"] for v in found["items"]] == [f"video {k:04d}" for k in range(990, 1000)]
    key = found["items"][0]["key"]
    hits = site.get("/api/search", params={"key": key, "row": 0}).json()
    assert hits["rows"] == 3000
    assert len(hits["hits"]) == 24


def test_a_set_too_large_to_be_read_whole_has_an_index(served, tmp_path, monkeypatch):
    monkeypatch.setattr("tubelet.rows.search.index.EXACT_BYTES", 0)
    site = served(make_folder(tmp_path / "out", {f"v{k}": features(30, seed=k) for k in range(4)}))
    found = site.get("/api/search", params={"key": keys(site)["v1"], "row": 3}).json()
    assert found["engine"].startswith("index of")
    assert len(found["hits"]) == 24


def test_rows_in_memory_are_bounded(served, tmp_path):
    out = make_folder(tmp_path / "out", {f"v{k}": features(seed=k) for k in range(40)})
    site = served(out)
    for key in keys(site).values():
        assert site.get(f"/api/videos/{key}").status_code == 200
    library: Library = site.app.state.site.library
    assert len(library.catalogs[0]._features) == 16


def test_rows_of_centred_windows_are_shown(tmp_path):
    """The first row stands for frame 0, not for the middle of the frames that its window has."""
    rows = features(3)
    rows.center_s[0] = rows.start_s[0]
    recipe = {"model": "made up", "window": {"frames": 8, "tail": "center"}}
    catalog = Catalog(make_folder(tmp_path / "out", {"a": rows}, recipe=recipe))
    catalog.refresh(now=True)
    (entry,) = catalog.entries()
    assert catalog.read(entry).center_s[0] == rows.start_s[0]
