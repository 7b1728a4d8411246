"""`tubelet bench`: what it measures, recommends and remembers, and what `plan` makes of it."""

import json
import re

import pytest
from click.testing import CliRunner

from tests_support import video
from tubelet.bench import machine
from tubelet.bench import measure as measuring
from tubelet.bench.measure import Ask, measure, recommend
from tubelet.cli import group
from tubelet.cli.bench import table
from tubelet.errors import NotAVideo, UnknownName, UsageError

MODEL = "x3d_xs.k400"


def run(*arguments):
    return CliRunner().invoke(group, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))


def at(seconds, peak=300):
    return {
        "seconds_per_clip": [seconds] * 3,
        "clips_per_s": 1 / seconds,
        "gflops": 1.0,
        "share_of_ceiling": [0.5, 0.4, 0.6],
        "peak_mb": peak,
    }


def result(**precisions):
    """Of a machine with 2 cores, on which decoding takes 3 s of CPU per minute of video."""
    return {
        "machine": {**machine.facts(), "cores": 2},
        "threads": 2,
        "ceilings": {"fp32_gflops": [100.0, 90.0, 110.0], "copy_gb_s": [5.0, 4.0, 6.0]},
        "video": {
            "source": "a.mp4",
            "size": [1280, 720],
            "fps": 30.0,
            "decode_ms": [1.5, 1.4, 1.6],
            "decode_frames_per_s": 666.0,
            "prepare_ms": [2.0, 2.0, 2.0],
        },
        "models": {MODEL: {"gflop": 1.0, "precisions": precisions}},
    }


def kinds(**batches):
    return {"batches": {name.removeprefix("b"): value for name, value in batches.items()}}


def advice(**precisions):
    made = result(**precisions)
    return recommend(MODEL, made["models"][MODEL], made)


def test_it_measures_and_remembers_and_plan_uses_it(tmp_path):
    clip = video(tmp_path / "a.mp4", frames=60)
    before = run("plan", clip, "-m", MODEL).stdout
    assert "matrix-product rate; `tubelet bench` times them" in before
    command = ["bench", "-m", MODEL, "--precision", "fp32", "--batch-size", 1, "--rounds", 1]
    done = run(*command, "--video", clip, "--json")
    assert done.exit_code == 0
    made = json.loads(done.stdout)
    assert made["video"]["size"] == [32, 24]
    assert made["models"][MODEL]["gflop"] == pytest.approx(1.2, abs=0.2)
    measured = made["models"][MODEL]["precisions"]["fp32"]["batches"]["1"]
    assert measured["seconds_per_clip"][0] > 0
    assert measured["peak_mb"] > 50
    assert MODEL in table(made)
    after = run("plan", clip, "-m", MODEL).stdout
    assert "networks as `tubelet bench` timed them here" in after
    assert machine.seconds_per_clip("x3d_xs", "fp32") is None  # another name, another network
    half = run("plan", clip, "-m", MODEL, "--precision", "bf16").stdout
    assert "`tubelet bench` times them" in half


def test_what_another_machine_measured_does_not_count(monkeypatch):
    made = result(fp32=kinds(b1=at(0.25)))
    machine.remember({**made, "machine": machine.facts()})
    assert machine.seconds_per_clip(MODEL, "fp32") == 0.25
    assert machine.seconds_per_clip(MODEL, "bf16") is None
    monkeypatch.setattr(machine, "cores", lambda: 99)
    assert machine.seconds_per_clip(MODEL, "fp32") is None


def test_models_of_earlier_runs_stay():
    made = {**result(fp32=kinds(b1=at(0.25))), "machine": machine.facts()}
    machine.remember(made)
    machine.remember({**made, "models": {"x3d_m.k400": made["models"][MODEL]}})
    assert machine.seconds_per_clip(MODEL, "fp32") == 0.25
    assert machine.seconds_per_clip("x3d_m.k400", "fp32") == 0.25


@pytest.mark.parametrize("text", ["", "[]", "{", '{"machine": 1}'])
def test_a_damaged_file_is_no_measurement(text):
    machine.results_file().parent.mkdir()
    machine.results_file().write_text(text)
    assert machine.seconds_per_clip(MODEL, "fp32") is None


def test_a_cache_that_cannot_be_written_costs_the_memory_and_not_the_result(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "file" / "cache"))
    made = result(fp32=kinds(b1=at(0.5)))
    made["recommended"] = [recommend(MODEL, made["models"][MODEL], made)]
    monkeypatch.setattr(measuring, "measure", lambda ask, say: made)
    shown = CliRunner().invoke(group, ["bench", "-m", MODEL, "--json"])
    assert shown.exit_code != 0
    assert MODEL in json.loads(shown.stdout)["models"]


def test_the_faster_precision_and_batch_must_be_worth_it():
    # 60 s at 30 frames/s are 37.5 rows of 4 frames, every 12th.
    found = advice(fp32=kinds(b1=at(1.0)), bf16=kinds(b1=at(0.4), b4=at(0.39)))
    assert found["options"] == f"-m {MODEL} --precision bf16"
    decoding = 1800 * 0.0015 + 150 * 0.002
    assert found["network_s"] == pytest.approx(37.5 * 0.4)
    assert found["decoding_cpu_s"] == pytest.approx(decoding)
    assert found["seconds_per_minute_of_video"] == pytest.approx(37.5 * 0.4 + decoding / 2)
    assert advice(fp32=kinds(b1=at(1.0)), bf16=kinds(b1=at(0.95)))["options"] == f"-m {MODEL}"
    assert advice(fp32=kinds(b1=at(1.0), b4=at(0.7)))["options"] == f"-m {MODEL} --batch-size 4"


def test_where_decoding_is_the_bottleneck_no_precision_helps():
    found = advice(fp32=kinds(b1=at(0.001)), bf16=kinds(b1=at(0.0001)))
    assert found["options"] == f"-m {MODEL}"
    assert found["seconds_per_minute_of_video"] == pytest.approx(found["decoding_cpu_s"])


def test_the_table_names_everything():
    made = result(fp32=kinds(b1=at(0.5, peak=321)))
    made["recommended"] = [recommend(MODEL, made["models"][MODEL], made)]
    text = table(made)
    assert re.search(r"fp32 matrix product +100 \(90 to 110\) GFLOP/s", text)
    assert re.search(rf"{MODEL} +fp32 +1 +2\.00 .* 50% \(40% to 60%\) +321", text)
    assert f"tubelet extract VIDEO -o OUT -m {MODEL}\n" in text


def test_wrong_usage_is_found_before_anything_runs():
    for wrong in ({"rounds": 0}, {"threads": 0}, {"batches": (0,)}):
        with pytest.raises(UsageError, match="at least 1"):
            Ask([MODEL], **wrong)
    with pytest.raises(UnknownName, match="x3d_xs"):
        run("bench", "-m", "x3d_xss.k400", "--rounds", 1)


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(UsageError, match="is a folder; name one video file"):
        Ask([MODEL], video=str(tmp_path))


def test_a_file_that_is_no_video_is_told_before_anything_is_timed(tmp_path):
    text = tmp_path / "a.mp4"
    text.write_text("no video")
    asked = Ask([MODEL], precisions=("fp32",), video=str(text))
    said = []
    with pytest.raises(NotAVideo, match="no video"):
        measure(asked, said.append)
    assert said == ["decoding and preparing"]
