"""Optical flow itself: known motion, the way into [-1, 1], parallel pairs, what is missing."""

import ctypes
import platform
import subprocess
import sys
import types
from importlib.metadata import PackageNotFoundError
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import moving
from tubelet.errors import UnknownName, UsageError, VideoError
from tubelet.flow import opencv
from tubelet.flow.base import METHODS, FlowConfig, create_method, flow_config, pack, unpack
from tubelet.flow.color_wheel import colour, wheel
from tubelet.flow.opencv import grayscale
from tubelet.flow.pool import FlowPool

gray = grayscale()

MOTIONS = {
    "translation": moving.Affine(shift=(2.5, -1.25)),
    "rotation": moving.Affine(degrees=2),
    "zoom": moving.Affine(zoom=1.03),
}
# Mean endpoint error, and mean distance after there and back, in pixels: docs/flow.md.
BOUNDS = {
    "tvl1": (0.06, 0.04),
    "dis": (0.08, 0.12),
    "dis:preset=fast": (0.16, 0.2),
    "dis:preset=ultrafast": (0.3, 0.25),
    "farneback": (0.15, 0.04),
}


def there_and_back(forward, backward):
    """forward(p) + backward(p + forward(p)) [H, W, 2], with bilinear reading."""
    x, y = moving.grid(*forward.shape[:2])
    px = np.clip(x + forward[..., 0], 0, x.max() - 1e-6)
    py = np.clip(y + forward[..., 1], 0, y.max() - 1e-6)
    i, j = py.astype(int), px.astype(int)
    wy, wx = (py - i)[..., None], (px - j)[..., None]
    top = backward[i, j] * (1 - wx) + backward[i, j + 1] * wx
    low = backward[i + 1, j] * (1 - wx) + backward[i + 1, j + 1] * wx
    return forward + top * (1 - wy) + low * wy


@pytest.mark.parametrize("method", BOUNDS)
@pytest.mark.parametrize("name", MOTIONS)
def test_known_motion_is_found(method, name):
    compute = create_method(flow_config(method))
    motion = MOTIONS[name]
    a, b = (gray(frame) for frame in moving.frames(motion, 2, seed=7))
    forward, backward = compute(a, b), compute(b, a)
    assert forward.dtype == np.float32
    assert forward.shape == (*a.shape, 2)
    endpoint, both_ways = BOUNDS[method]
    assert moving.endpoint_errors(forward, motion.flow()).mean() < endpoint
    closed = there_and_back(forward, backward)
    assert moving.endpoint_errors(closed, np.zeros_like(closed)).mean() < both_ways


@pytest.mark.parametrize(
    "method",
    ["dis", "dis:preset=fast", "dis:preset=ultrafast", "farneback", "tvl1:warps=1,outer=2"],
)
def test_a_method_object_has_no_memory(method):
    """Neither of pairs nor of their size: a small video before it changes no row of a large one."""
    a, b, c = (gray(frame) for frame in moving.frames(MOTIONS["zoom"], 3))
    once = create_method(flow_config(method))
    first = once(a, b).copy()
    once(b, c)
    once(a[:32, :40].copy(), b[:32, :40].copy())
    np.testing.assert_array_equal(once(a, b), first)
    np.testing.assert_array_equal(create_method(flow_config(method))(a, b), first)


fields = arrays(np.float32, (3, 4, 2), elements=st.floats(-60, 60, width=32))


@given(fields, st.sampled_from(["none", "float16", "uint8"]))
def test_pack_truncates_and_unpack_scales(field, rounding):
    config = flow_config("dis", rounding=rounding)
    packed = pack(field.copy(), config)
    assert packed.dtype == ("float32" if rounding == "none" else rounding)
    values = unpack(packed, config)
    exact = np.clip(field.astype(np.float64), -20, 20) / 20
    step = {"none": 1e-6, "float16": 2**-11, "uint8": 1 / 255 + 1e-6}[rounding]
    assert np.abs(values - exact).max() <= step
    assert np.abs(values).max() <= 1
    assert (values[field >= 20] == 1).all()
    assert (values[field <= -20] == -1).all()


def test_the_reference_has_256_levels_from_minus_20_to_20():
    config = flow_config("dis", rounding="uint8")
    levels = np.arange(256, dtype=np.float32)
    field = (levels / 255 * 40 - 20).reshape(-1, 1, 1).repeat(2, axis=2)
    assert (pack(field, config)[:, 0, 0] == levels).all()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("tvll", UnknownName, "did you mean 'tvl1'"),
        ("dis:presett=fast", UnknownName, "did you mean 'preset'"),
        ("dis:preset=slow", UsageError, "ultrafast, fast, medium"),
        ("tvl1:warps=x", UsageError, "positive whole number"),
        ("tvl1:tau=-1", UsageError, "positive number"),
        ("tvl1:warps", UsageError, "name=value"),
    ],
)
def test_wrong_methods_and_parameters(text, error, words):
    with pytest.raises(error, match=words):
        flow_config(text)


def test_wrong_rounding_and_bound():
    with pytest.raises(UsageError, match="one of none, float16, uint8"):
        flow_config("dis", rounding="int4")
    with pytest.raises(UsageError, match="bound"):
        FlowConfig("dis", (("preset", "fast"),), bound=0)


def test_every_parameter_is_in_the_recipe_with_the_version():
    import cv2

    for method in ("tvl1", "dis", "farneback"):
        recipe = create_method(flow_config(method)).recipe
        assert recipe == {"method": method, **METHODS[method], "opencv": cv2.__version__}
    assert dict(flow_config("tvl1:warps=2").parameters)["warps"] == 2


def test_a_parameter_that_opencv_refuses_is_named():
    compute = create_method(flow_config("tvl1:median=4"))
    picture = np.zeros((32, 32), np.uint8)
    with pytest.raises(UsageError, match=r"OpenCV cannot compute tvl1 .*'median': 4"):
        compute(picture, picture)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"pip install 'tubelet\[flow\]'"):
        create_method(flow_config("dis"))


def test_without_contrib_the_extra_is_named(monkeypatch):
    plain = types.ModuleType("cv2")
    plain.__version__ = "4.14.0"  # pyright: ignore
    monkeypatch.setitem(sys.modules, "cv2", plain)
    with pytest.raises(UsageError, match=r"contrib.*tubelet\[flow\]"):
        create_method(flow_config("tvl1"))


def test_raft_names_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="torchvision"):
        create_method(flow_config("raft:weights=w.pth"))


def test_pairs_are_in_order_and_do_not_depend_on_the_threads():
    frames = moving.frames(MOTIONS["rotation"], 12)
    config = flow_config("dis:preset=fast")
    compute = create_method(config)
    greys = [gray(frame) for frame in frames]
    direct = [pack(compute(a, b), config) for a, b in pairwise(greys)]
    for workers in (1, 3):
        pool = FlowPool(config, workers=workers)
        found = list(pool.pairs(iter(frames)))
        pool.close()
        assert len(found) == 11
        for a, b in zip(found, direct, strict=True):
            np.testing.assert_array_equal(a, b)


def test_pairs_are_made_as_frames_come():
    """No more frames are taken than are under way: memory does not grow with the video."""
    picture, taken = np.zeros((32, 32, 3), np.uint8), []
    pool = FlowPool(flow_config("dis:preset=ultrafast"), workers=2)
    pairs = pool.pairs(taken.append(i) or picture for i in range(500))
    for done in range(100):
        next(pairs)
        assert len(taken) <= done + 2 + pool.ahead
    pairs.close()
    pool.close()


def test_one_frame_and_frames_of_changing_size():
    pool = FlowPool(flow_config("dis"), workers=2)
    frame = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(VideoError, match="needs two"):
        list(pool.pairs([frame]))
    with pytest.raises(VideoError, match="64 x 32 follows one of 64 x 48"):
        list(pool.pairs([frame, frame[:32]]))
    pool.close()


def test_the_colour_wheel():
    assert wheel().shape == (55, 3)
    field = np.zeros((1, 5, 2), np.float32)
    field[0, 1:] = [(8, 0), (0, 8), (-8, 0), (16, 0)]
    still, right, down, left, beyond = colour(field, full=8)[0].tolist()
    assert still == [255, 255, 255]
    assert right == [255, 0, 0]
    assert down[0] > down[2]
    assert left[2] > left[0]
    assert beyond == [191, 0, 0]


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("size", [(16, 200), (30, 191), (12, 300), (31, 400), (9, 1000)])
def test_dis_of_wide_low_pictures(preset, size):
    """OpenCV reads outside the picture and the process dies; moved by a pixel, flow says so."""
    code = (
        "import sys, numpy as np\n"
        "from tubelet.flow.base import create_method, flow_config\n"
        "h, w = map(int, sys.argv[2:])\n"
        "wide = np.random.default_rng(0).integers(0, 256, (h // 4 + 2, w // 4 + 2), np.uint8)\n"
        "wide = np.kron(wide, np.ones((4, 4), np.uint8))\n"
        "dis = create_method(flow_config(f'dis:preset={sys.argv[1]}'))\n"
        "field = dis(wide[:h, 1 : w + 1].copy(), wide[:h, :w].copy())\n"
        "assert field.shape == (h, w, 2) and np.isfinite(field).all()\n"
        "assert 0.5 < np.median(field[..., 0]) < 1.5, np.median(field[..., 0])\n"
    )
    arguments = [preset, *map(str, size)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or done.returncode


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the mode's number")
@pytest.mark.skipif(sys.platform == "win32", reason="C's functions have other names there")
@pytest.mark.parametrize("method", ["dis", "farneback", "tvl1:outer=2,inner=5"])
def test_flow_does_not_depend_on_the_rounding_mode_of_others(method):
    """Some library in a mixed run leaves it changed, and new threads inherit it."""
    c = ctypes.CDLL(None)
    compute = create_method(flow_config(method))
    a, b = np.random.default_rng(0).integers(0, 256, (2, 64, 96), np.uint8)
    wanted = compute(a, b)
    upward = 0x800  # FE_UPWARD
    try:
        assert c.fesetround(upward) == 0
        found = compute(a, b)
        assert c.fegetround() == upward, "the caller's mode comes back"
    finally:
        c.fesetround(0)
    np.testing.assert_array_equal(found, wanted)


def test_several_cv2_over_each_other_are_named(caplog, monkeypatch):
    known = {"opencv-python": "4.10.0", "opencv-contrib-python-headless": "4.11.0"}

    def version(name):
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(opencv, "version", version)
    opencv._tell_of_several.cache_clear()
    for _ in range(2):
        create_method(flow_config("dis"))
    opencv._tell_of_several.cache_clear()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "opencv-contrib-python-headless 4.11.0, opencv-python 4.10.0" in told
    assert "uninstall all of them, then pip install 'tubelet[flow]'" in told
