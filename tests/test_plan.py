"""`tubelet plan` says what extract will do: from packets, without torch, with extract's options."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tiny import TinyModel
from tubelet.cli import group
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import number_picture
from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """150 frames at 25 per second."""
    path = tmp_path_factory.mktemp("plan") / "a.mp4"
    encode((number_picture(i, width=64, height=48) for i in range(150)), path, encoding=Encoding())
    return path


def plan(*arguments):
    return CliRunner().invoke(group, ["plan", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize("fps", ["native", "12"])
@pytest.mark.parametrize("tail", ["pad", "drop", "backpad"])
def test_the_plan_is_what_extract_does(clip, fps, tail):
    options = ["--window", 4, "--interval", 3, "--stride", 10, "--tail", tail, "--fps", fps]
    record = json.loads(plan(clip, "--json", "--rows", *options).stdout)
    rate = None if fps == "native" else 12
    window = WindowConfig(4, 3, 10, tail=tail, fps=rate)
    features = Extractor(TinyModel(), window=window)(str(clip))
    assert record["exact"]
    assert record["rows"] == len(features.values)
    for name in ("start_s", "end_s"):
        planned = [row[name] for row in record["windows"]]
        assert planned == pytest.approx(getattr(features, name).tolist(), abs=1e-9)
    assert [row["padded"] for row in record["windows"]] == features.provenance["padded"]


def test_a_command_line_of_extract_is_one_of_plan(clip):
    done = plan(clip, "-o", "nowhere", "--format", "npz", "--taps", "pool", "--workers", 2)
    assert done.exit_code == 0
    assert re.search(r"1 videos, .* 3 rows, .*; about \d+ \w+ on this CPU", done.stdout)


def test_one_plan_for_several_models(clip):
    names = ["-m", "slowfast_r50_8x8.k400", "-m", "x3d_m.k400", "-m", "mvit_v2_s_16x4.k400"]
    lines = plan(clip, "--json", "--rows", *names).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    starts = [[row["start_s"] for row in record["windows"]] for record in records]
    assert len(records) == 3
    assert starts[0] == starts[1] == starts[2]


def test_flow_is_counted(clip):
    names = ["-m", "i3d_inception_two_stream.imagenet_k400_tf", "--flow", "dis:preset=ultrafast"]
    done = plan(clip, *names, "--window", 10, "--stride", 50)
    assert re.search(r"; dis flow of 30 pairs: about \d+ s more \(one pair", done.stdout)
    assert "pairs" not in plan(clip).stdout


def test_no_torch(clip):
    code = (
        "import sys; from click.testing import CliRunner; from tubelet.cli import group;"
        f"done = CliRunner().invoke(group, ['plan', {str(clip)!r}]);"
        "assert done.exit_code == 0, done.output; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_part_of_a_video_counts_as_that_part(clip, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(f"id,path,start,end\na,{clip},1,2.5\n")
    record = json.loads(plan(listed, "--json").stdout)
    assert record["frames"] == 38  # 25 per second
    assert record["duration_s"] == pytest.approx(38 / 25, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "."], "is a folder"),
        (["plan", "x.mp4", "--window", "0"], "window (its frames) is 0"),
    ],
)
def test_messages_name_value_rule_and_way_out(arguments, words):
    error = CliRunner().invoke(group, arguments).exception
    assert words in str(error)


def test_a_number_of_rows(clip):
    line = plan(clip, "--json", "--rows", "--row-count", 32, "--window", 8, "--interval", 1)
    starts = [row["frames"][0] for row in json.loads(line.stdout)["windows"]]
    assert starts == [round(k * ((150 - 8) / 31)) for k in range(32)]
    with pytest.raises(UsageError, match="--row-count 32"):
        plan(clip, "--tail", "uniform")
    with pytest.raises(UsageError, match="tail drop; tail uniform, and only it"):
        plan(clip, "--row-count", 4, "--tail", "drop")
    with pytest.raises(UsageError, match="stride is 4"):
        plan(clip, "--row-count", 4, "--stride", 4)


def test_a_number_of_rows_overrides_the_tail_of_a_preset(clip):
    done = plan(clip, "--preset", "hero-slowfast", "--row-count", 5, "--json")
    assert json.loads(done.stdout)["rows"] == 5
