"""`tubelet flow`: arrays and pictures of the flow of a video."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import moving
from tubelet.cli import group
from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import StoreError, UsageError
from tubelet.flow.files import read

MOTION = moving.Affine(shift=(3, -2))
FAST = ["--method", "dis", "--short-side", str(moving.HEIGHT)]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "shift.mkv"
    return encode(moving.frames(MOTION, 30), path, encoding=Encoding("ffv1"))


def run(*arguments, code=0):
    result = CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)
    if isinstance(result.exception, UsageError):
        raise result.exception
    assert result.exception is None, result.output
    assert result.return_value == code
    return result


@pytest.mark.parametrize("fmt", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("rounding", "dtype"), [("float16", "f2"), ("uint8", "u1"), ("none", "f4")]
)
def test_arrays_hold_the_motion(video, tmp_path, fmt, rounding, dtype):
    run("flow", video, "-o", tmp_path, *FAST, "--format", fmt, "--rounding", rounding)
    found = read(tmp_path / f"shift.flow.{fmt}")
    assert found.flow.dtype == dtype
    assert found.flow.shape == (29, moving.HEIGHT, moving.WIDTH, 2)
    np.testing.assert_allclose(found.time_s, np.arange(29) / 25)
    errors = moving.endpoint_errors(found.pixels(12), MOTION.flow())
    assert errors.mean() < (0.15 if rounding == "uint8" else 0.08)
    assert found.meta["flow"]["method"] == "dis"
    record = json.loads((tmp_path / "shift.flow.json").read_text())
    assert (record["pairs"], record["size"]) == (29, [moving.HEIGHT, moving.WIDTH])
    if fmt == "npz":
        with np.load(tmp_path / "shift.flow.npz") as arrays:
            np.testing.assert_array_equal(arrays["flow"], found.flow)
    else:
        np.testing.assert_array_equal(
            load_file(tmp_path / "shift.flow.safetensors")["flow"], found.flow
        )


def test_a_finished_video_is_not_done_again_unless_something_differs(video, tmp_path):
    target = tmp_path / "shift.flow.npz"
    run("flow", video, "-o", tmp_path, *FAST)
    first = target.stat().st_mtime_ns
    run("flow", video, "-o", tmp_path, *FAST)
    assert target.stat().st_mtime_ns == first
    run("flow", video, "-o", tmp_path, *FAST, "--rounding", "uint8")
    assert read(target).flow.dtype == np.uint8


def test_the_colour_video_shows_direction(video, tmp_path):
    run("flow", video, "-o", tmp_path, *FAST, "--format", "video", "--full-speed", "3.6")
    with open_video(tmp_path / "shift.flow.mp4") as reader:
        pictures = [frame.rgb() for frame in reader.frames()]
        assert float(reader.info.fps) == 25
    assert len(pictures) == 29
    red, green, blue = pictures[10][32:-32, 32:-32].reshape(-1, 3).mean(axis=0)
    assert red > 200  # right and up: between red and magenta
    assert blue > green


def test_a_resampled_timeline_and_a_part(video, tmp_path):
    run("flow", video, "-o", tmp_path, *FAST, "--fps", "12.5")
    half = read(tmp_path / "shift.flow.npz")
    assert len(half.flow) == 14
    twice = moving.endpoint_errors(half.pixels(3), 2 * MOTION.flow())
    assert twice.mean() < 0.15
    part = tmp_path / "part.csv"
    part.write_text(f"path,id,start,end\n{video},middle,0.2,0.6\n")
    run("flow", part, "-o", tmp_path, *FAST)
    assert read(tmp_path / "middle.flow.npz").time_s[0] == pytest.approx(0.2)
    assert len(read(tmp_path / "middle.flow.npz").flow) == 9


def test_what_goes_wrong(video, tmp_path):
    one = encode(moving.frames(MOTION, 1), tmp_path / "one.mp4")
    result = run("flow", one, video, "-o", tmp_path / "out", *FAST, code=1)
    assert "one: failed" in result.stderr
    assert "optical flow needs two frames" in result.stderr
    assert not list((tmp_path / "out").glob("*one*"))
    assert read(tmp_path / "out" / "shift.flow.npz")
    with pytest.raises(UsageError, match="did you mean 'dis'"):
        run("flow", video, "-o", tmp_path, "--method", "diss")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(StoreError, match="not a readable file of flow"):
        read(tmp_path / "bad.npz")
