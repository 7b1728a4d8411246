"""Seconds <-> rows under every rule, and the five annotation formats through the command line."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from folders import fail, features, make_folder
from tubelet.cli import group
from tubelet.errors import StoreError, UnknownName, UsageError
from tubelet.rows.align import (
    Moment,
    Track,
    align,
    check_rule,
    duration_of,
    instants,
    nearest_row,
    rows_in,
    seconds_in,
    tau,
    track_of,
)
from tubelet.rows.annotations import FORMATS, matches, read_annotations

RULES = ["center", "half-window", "half-stride", "window-start", "proportional"]


def track(n=8, *, window=32, stride=16, fps=30.0, frames=None):
    """Rows of W frames every S frames; the last one may be cut short by the video's end."""
    frames = frames or (n - 1) * stride + window
    start = np.arange(n) * stride / fps
    end = np.minimum(start + window / fps, frames / fps)
    return Track(start, end, frames / fps)


def test_instants_of_the_rules():
    """SlowFast of EPIC-Kitchens: W = 32, S = 16 at 30 fps."""
    rows = track(3)
    np.testing.assert_allclose(instants(rows, "center") * 30, [16, 32, 48])
    np.testing.assert_allclose(instants(rows, "half-window") * 30, [16, 32, 48])
    np.testing.assert_allclose(instants(rows, "half-stride") * 30, [8, 24, 40])
    np.testing.assert_allclose(instants(rows, "window-start") * 30, [0, 16, 32])
    padded = track(3, frames=40)
    np.testing.assert_allclose(instants(padded, "center") * 30, [16, 28, 36])
    np.testing.assert_allclose(instants(padded, "half-window") * 30, [16, 32, 48])


def test_half_window_is_actionformers_formula():
    """t = (k * S + W / 2) / fps; feat_offset = W / (2 * S) in units of the stride."""
    rows = track(50, window=16, stride=4)
    want = [(k + 0.5 * 16 / 4) * 4 / 30 for k in range(50)]
    np.testing.assert_allclose(instants(rows, "half-window"), want)


def test_half_stride_ignores_a_last_window_that_was_moved_back():
    starts = np.array([0, 16, 32, 39]) / 30
    rows = Track(starts, starts + 32 / 30, 71 / 30)
    np.testing.assert_allclose(instants(rows, "half-stride") * 30, [8, 24, 40, 47])


def test_proportional_is_the_papers_formula():
    """tau = t * n * fps / l: 1125 features over 9000 frames at 30 fps, a moment 10 - 20.1 s."""
    rows = track(1125, window=8, stride=8)
    assert tau(rows, 10) == pytest.approx(10 * 1125 * 30 / 9000)
    assert rows_in(rows, 10, 20.1, "proportional") == (37, math.ceil(20.1 * 3.75))


@given(
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(RULES),
    st.floats(-5, 90),
    st.floats(0.01, 60),
)
def test_a_moment_takes_the_rows_whose_instants_it_holds(n, window, stride, rule, t0, length):
    rows = track(n, window=window, stride=stride)
    first, stop = rows_in(rows, t0, t0 + length, rule)
    assert 0 <= first <= stop <= n
    if rule != "proportional":
        times = instants(rows, rule)
        inside = np.flatnonzero((times >= t0) & (times < t0 + length))
        assert list(range(first, stop)) == inside.tolist()
    elif t0 >= 0 and t0 + length <= rows.duration_s:
        assert stop > first


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), st.data())
def test_rows_come_back(n, window, stride, data):
    """What rows cover, mapped again, holds those rows; and each instant finds its own row."""
    rows = track(n, window=window, stride=stride)
    first = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(first + 1, n))
    again = rows_in(rows, *seconds_in(rows, first, stop))
    assert again[0] <= first
    assert again[1] >= stop
    for rule in RULES:
        assert nearest_row(rows, float(instants(rows, rule)[first]), rule) == first


def test_rows_that_keep_time_are_the_rows_that_pack_writes():
    record = {"start_s": [0.0, 1.0], "end_s": [1.0, 2.0], "shape": [2, 2, 1024], "duration_s": 2.0}
    rows = track_of(record)
    np.testing.assert_allclose(rows.start_s, [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(rows.end_s, [0.5, 1, 1.5, 2])


def test_the_duration_is_that_of_the_decoded_frames():
    record = {"decoded_frames": 300, "fps": "30000/1001", "duration_s": 99.0}
    assert duration_of(record, 9.0) == pytest.approx(10.01)
    assert duration_of({**record, "range_s": [2.0, 9.0]}, 9.0) == 9.0
    assert duration_of({"duration_s": 5.0}, 0.0) == 5.0


def test_notes_of_what_is_wrong():
    rows = track(8)  # 4.8 s
    assert align(Moment("v", 1, 2), rows).notes == ()
    late = align(Moment("v", 6, 7), rows)
    assert late.lost
    assert "outside the video" in late.notes[0]
    over = align(Moment("v", 4, 7), rows)
    assert not over.lost
    assert over.notes == ("ends 2.20 s after the video",)
    assert over.stop == 8
    assert "starts 1.00 s before" in align(Moment("v", -1, 2), rows).notes[0]
    for wrong in (Moment("v", 2, 1), Moment("v", math.nan, 1), Moment("v", 0, math.inf)):
        assert align(wrong, rows).lost
    short = align(Moment("v", 1.1, 1.2), rows)
    assert (short.first, short.stop, short.nearest) == (2, 2, 1)
    assert not short.lost
    assert "annotated for 9.00 s" in align(Moment("v", 1, 2, 9.0), rows).notes[0]
    assert align(Moment("v", 0, 1), None).lost


def test_mistakes_are_answered():
    with pytest.raises(UsageError, match="half-window"):
        check_rule("half_window")
    with pytest.raises(UsageError, match="there are 8"):
        seconds_in(track(8), 3, 9)
    with pytest.raises(UnknownName, match="charades-sta"):
        read_annotations("", "charades")
    with pytest.raises(StoreError, match="start_s"):
        track_of({})


FILES = {
    "charades-sta": "vid 0.0 1.0##a person sits.\nvid 1.5 2.0##another ## mark\n",
    "activitynet-captions": json.dumps(
        {"v_vid": {"duration": 3, "timestamps": [[0, 1.0], [1.5, 2]], "sentences": ["a", "b"]}}
    ),
    "youcookii": json.dumps(
        {
            "database": {
                "vid": {
                    "duration": 3.0,
                    "subset": "validation",
                    "annotations": [
                        {"segment": [0, 1], "id": 0, "sentence": "a"},
                        {"segment": [1.5, 2], "id": 1, "sentence": "b"},
                    ],
                },
            }
        }
    ),
    "tacos": json.dumps(
        {
            "vid.avi": {
                "fps": 30.0,
                "num_frames": 90,
                "timestamps": [[0, 30], [45, 60]],
                "sentences": ["a", "b"],
            }
        }
    ),
    "qvhighlights": '{"qid": 1, "vid": "vid", "relevant_windows": [[0, 1], [1.5, 2]]}\n'
    '{"qid": 2, "vid": "vid", "duration": 3}\n',
}


def records_of(fmt, text):
    """The records that were added, however the format holds them."""
    if fmt == "youcookii":
        found = json.loads(text)["database"]["vid"]["annotations"]
        return [segment["feature_rows"] for segment in found]
    if fmt == "charades-sta":
        return [json.loads(line) for line in text.splitlines()]
    if fmt == "qvhighlights":
        return [r for line in text.splitlines() for r in json.loads(line)["feature_rows"]]
    return next(iter(json.loads(text).values()))["feature_rows"]


@pytest.fixture
def out(tmp_path):
    # Windows of 1 s every 0.5 s: centres 0.5, 1.0, 1.5, 2.0, 2.5 of a video of 3.0 s.
    rows = features(5)
    rows.provenance["decoded_frames"] = 90
    return make_folder(tmp_path / "out", {"deep/vid": rows})


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_end_to_end(fmt, out, tmp_path):
    source, target = tmp_path / "annotations", tmp_path / "with_rows"
    source.write_text(FILES[fmt])
    done = CliRunner().invoke(
        group,
        [
            "align",
            str(source),
            "--format",
            fmt,
            "--features",
            str(out),
            "-o",
            str(target),
            "--json",
        ],
        standalone_mode=False,
    )
    assert done.return_value == 0
    summary = json.loads(done.stdout)
    assert (summary["moments"], summary["lost"]) == (2, 0)
    records = records_of(fmt, target.read_text())
    assert [r["rows"] for r in records] == [[0, 1], [2, 3]]
    assert [r["nearest"] for r in records] == [0, 2]
    assert records[1]["tau"] == pytest.approx([1.5 * 5 / 3, 2 * 5 / 3], abs=1e-5)
    again, _ = read_annotations(FILES[fmt], fmt)
    assert [(m.start_s, m.end_s) for m in again] == [(0, pytest.approx(1)), (1.5, pytest.approx(2))]


def test_the_original_content_stays(out, tmp_path):
    for fmt, key in (("activitynet-captions", "v_vid"), ("tacos", "vid.avi")):
        moments, write = read_annotations(FILES[fmt], fmt)
        data = json.loads(write([{} for _ in moments]))
        assert data[key].pop("feature_rows") == [{}, {}]
        assert data == json.loads(FILES[fmt])


def test_lost_moments_are_reported_and_are_an_error(out, tmp_path):
    source = tmp_path / "a.txt"
    source.write_text("vid 7 8##late\nvid 0 1##fine\nnobody 0 1##no features\n")
    arguments = ["align", str(source), "--format", "charades-sta", "--features", str(out)]
    done = CliRunner().invoke(
        group, [*arguments, "-o", str(tmp_path / "rows.jsonl")], standalone_mode=False
    )
    assert done.return_value == 1
    assert "outside the video: 7.00 - 8.00 of 3.00 s" in done.stderr
    assert "nobody 0.00 - 1.00 s: no features" in done.stderr
    assert "3 moments: 2 lost" in done.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        ("charades-sta", "vid 0.0##no end"),
        ("charades-sta", "vid zero 1##no number"),
        ("charades-sta", "\n"),
        ("activitynet-captions", "[]"),
        ("activitynet-captions", '{"v": {"timestamps": [[1]]}}'),
        ("activitynet-captions", '{"v": 3}'),
        ("youcookii", "{}"),
        ("youcookii", '{"database": {"v": {"annotations": [{"segment": null}]}}}'),
        ("tacos", '{"v": {"timestamps": [[1, 2]], "fps": 0}}'),
        ("tacos", '{"v": {"timestamps": [[1, 2]]}}'),
        ("qvhighlights", '{"query": "no video"}'),
        ("qvhighlights", "not json"),
    ],
)
def test_broken_annotation_files_say_where(fmt, text):
    with pytest.raises(UsageError):
        read_annotations(text, fmt)


def test_ids_of_annotations_and_of_features():
    found = matches(["v_a", "b", "c", "d"], ["a", "v_b", "x/c", "x/d", "y/d"])
    assert found == {"v_a": "a", "b": "v_b", "c": "x/c", "d": None}


def run(*arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_map_both_ways(out):
    file = out / "deep" / "vid.npy"
    there = json.loads(run("map", file, "--seconds", "1:2", "--json").stdout)
    assert there["rows"] == [1, 3]
    back = json.loads(run("map", file, "--rows", "1:3", "--json").stdout)
    assert (back["start_s"], back["end_s"], back["instants_s"]) == (0.5, 2.0, [1.0, 1.5])
    assert "rows 1:3 of 5" in run("map", file, "--seconds", "1:2").stdout
    assert json.loads(run("map", file, "--seconds", ":", "--json").stdout)["rows"] == [0, 5]
    assert json.loads(run("map", file, "--rows", "4", "--json").stdout)["rows"] == [4, 5]
    starts = json.loads(
        run("map", file, "--seconds", "1:2", "--rule", "window-start", "--json").stdout
    )
    assert starts["rows"] == [2, 4]


@pytest.mark.parametrize(
    "bad",
    [(), ("--seconds", "2:1"), ("--seconds", "1"), ("--rows", "a:b"), ("--rows", "3:9")],
)
def test_map_mistakes(out, bad):
    result = run("map", out / "deep" / "vid.npy", *bad)
    assert isinstance(result.exception, UsageError)


def test_a_failed_video_has_no_features(out):
    fail(out, "gone")
    assert matches(["gone"], ["deep/vid"]) == {"gone": None}
