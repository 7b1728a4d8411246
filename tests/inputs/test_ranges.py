"""Parts of videos, from a list to rows: by seconds, by frames, beyond the end and outside."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests_support import failures, go, tiny, video
from tubelet.cli import group
from tubelet.errors import UsageError, VideoError
from tubelet.inputs import Input, collect
from tubelet.store.folder import load


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """100 frames at 25 per second."""
    return video(tmp_path_factory.mktemp("film") / "film.mp4", frames=100)


def listed(tmp_path, film, *rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(tmp_path / "list.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["path", *names], restval="")
        writer.writeheader()
        writer.writerows({"path": film, **row} for row in rows)
    return tmp_path / "list.csv"


def test_frames_are_the_videos_own(film, tmp_path):
    """The same rows as by the seconds at which these frames appear; done once."""
    path = listed(tmp_path, film, {"start_frame": 20, "stop_frame": 30}, {"start_frame": 90})
    failed, heard = go([path], tmp_path / "out")
    assert (failed, heard.kinds()) == (
        0, {"film_f20_f30": "extracted", "film_f90_end": "extracted"},
    )  # fmt: skip
    wanted = tiny()(str(film), start_s=0.8, end_s=1.2)
    found = load(tmp_path / "out/film_f20_f30.json")
    np.testing.assert_array_equal(found.values, wanted.values)
    assert found.provenance["first_last_frame"][0][0] == 20
    assert found.provenance["range_s"] == [0.8, 1.2]
    assert go([path], tmp_path / "out")[1].kinds() == dict.fromkeys(heard.kinds(), "skipped")
    other = listed(tmp_path, film, {"id": "film_f20_f30", "start_frame": 21, "stop_frame": 30})
    assert go([other], tmp_path / "out")[1].kinds() == {"film_f20_f30": "extracted"}


def test_a_range_beyond_the_end_is_told(film, tmp_path):
    path = listed(
        tmp_path, film, {"id": "over", "start": 3, "end": 5}, {"id": "exact", "start": 3, "end": 4},
        {"id": "frames", "start_frame": 75, "stop_frame": 125},
    )  # fmt: skip
    assert go([path], tmp_path / "out")[0] == 0
    warnings = {i: load(tmp_path / f"out/{i}.json").provenance["warnings"] for i in
                ("over", "exact", "frames")}  # fmt: skip
    assert warnings["over"] == ["the range ends at 5 s, the video at 4 s"]
    assert warnings == {"over": warnings["over"], "exact": [], "frames": warnings["over"]}


@pytest.mark.parametrize("row", [{"start": 4}, {"start": 90, "end": 95}, {"start_frame": 100}])
def test_a_range_outside_is_a_failure_also_for_plan(film, tmp_path, row):
    path = listed(tmp_path, film, row)
    assert go([path], tmp_path / "out")[0] == 1
    line = failures(tmp_path / "out")["film"]
    assert line["type"] == "VideoError"
    assert ("lies outside the video, which ends at 4 s" in line["message"]) or (
        "frame 100 is asked for, and there are 100 frames" in line["message"]
    )
    done = CliRunner().invoke(
        group, ["plan", str(path)], catch_exceptions=False, standalone_mode=False
    )
    assert done.return_value == 1
    assert "outside the video" in done.stderr or "frame 100 is asked for" in done.stderr


def test_plan_counts_parts_as_extract_does(film, tmp_path):
    path = listed(tmp_path, film, {"start_frame": 20, "stop_frame": 60}, {"start": 3, "end": 5})
    go([path], tmp_path / "out")
    options = ["--window", "4", "--stride", "2", "--interval", "1"]
    done = CliRunner().invoke(group, ["plan", str(path), "--json", *options])
    planned = {r["id"]: r for r in map(json.loads, done.stdout.splitlines())}
    ids = [item.id for item in collect([str(path)])]
    assert [planned[i]["rows"] for i in ids] == [
        len(load(tmp_path / f"out/{i}.json").values) for i in ids
    ]
    assert [planned[i]["warning"] for i in ids] == [
        None, "the range ends at 5 s, the video at 4 s",
    ]  # fmt: skip


@pytest.mark.parametrize("span", [(3, 2), (3, 3), (-1, 2), (float("nan"), None), (0, float("nan"))])
def test_ranges_that_are_none(film, span):
    with pytest.raises(UsageError, match="need 0 <= start_s < end_s"):
        tiny()(str(film), start_s=span[0], end_s=span[1])


def test_in_python_a_range_outside_raises(film):
    with pytest.raises(VideoError, match="lies outside the video"):
        tiny()(str(film), start_s=5.0)
    assert Input("a", "b").start_frame is None
