"""Pixels against the reference's numbers, and the fast route against the readable one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.clips.transform import (
    ViewConfig,
    crop_corner,
    fitted_size,
    needed,
    prepare,
    reference_view,
    resized_size,
    to_clip,
    to_pixels,
)
from tubelet.clips.views import view_indices
from tubelet.clips.windows import linspace_indices
from tubelet.errors import UsageError
from tubelet.presets.base import Convention
from tubelet.types import ClipSpec

HALF = ((0.45,) * 3, (0.225,) * 3)


@pytest.fixture(scope="module")
def facts(golden):
    return golden.table("preprocess")


@pytest.fixture(scope="module")
def arrays(golden):
    return golden.arrays("preprocess")


def test_every_resized_and_cropped_clip_of_the_reference(facts, arrays, golden):
    for case in facts["spatial"]:
        key = case["key"]
        frames = golden.fill.make_frames(0, facts["frames"][case["clip"]]["shape"])
        view = ViewConfig(
            case["short_side"], case["crop"], tuple(case["mean"]), tuple(case["std"]), crops=3
        )
        got = to_clip([prepare(f, view) for f in frames])[case["spatial_index"]].numpy()
        if f"{key}/full" in arrays:
            np.testing.assert_allclose(got, arrays[f"{key}/full"], atol=3e-6)
        else:
            grid = got[:, case["frames_in_grid"], 3::8, 3::8]
            np.testing.assert_allclose(grid, arrays[f"{key}/grid"], atol=3e-6)
        means = got.astype(np.float64).mean(axis=(2, 3))
        np.testing.assert_allclose(means, arrays[f"{key}/frame_means"], atol=3e-6)


def test_crop_positions_and_sizes(facts):
    for case in facts["crop_offsets"]:
        sizes = case["height"], case["width"], case["crop"]
        assert [list(crop_corner(*sizes, i)) for i in range(3)] == case["top_left"]
    for (height, width), short, size in facts["resized_shapes"]:
        assert list(resized_size(height, width, short)) == size


def test_pathway_indices(facts):
    for frames, alpha, indices in facts["pathways"]["rows"]:
        assert linspace_indices(0, frames - 1, frames // alpha, frames - 1) == indices


def test_view_sampling(facts):
    for row in facts["temporal"]["rows"]:
        n, fps, frames, interval, views, offset, view, *_, indices = row
        clip = ClipSpec(frames, interval, 256, 256, sampling="dense-offset" if offset else "dense")
        assert view_indices(n, fps, clip, view=view, views=views) == indices
    for n, fps, frames, interval, _, _, indices in facts["temporal_trimmed"]["rows"]:
        clip = ClipSpec(frames, interval, 256, 256)
        assert view_indices(n, fps, clip, view=0, views=1) == indices
    for n, frames, indices in facts["frame_folders"]["ssv2"]:
        clip = ClipSpec(frames, 2, 256, 256, sampling="uniform")
        assert view_indices(n, 12, clip, view=0, views=1) == indices
    for n, frames, interval, views, view, indices in facts["frame_folders"]["charades"]:
        clip = ClipSpec(frames, interval, 256, 256, sampling="every-kth")
        assert view_indices(n, 24, clip, view=view, views=views) == indices


sizes = st.integers(20, 120)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, st.integers(8, 100), st.data())
def test_the_fast_route_equals_whole_frames_in_float(height, width, short, data):
    crop = data.draw(st.integers(1, short))
    fit = data.draw(st.sampled_from(["short-side", "enlarge", "stretch"]))
    long = data.draw(st.integers(short, 130)) if fit == "stretch" else None
    view = ViewConfig(short, crop, *HALF, crops=3, fit=fit, long_side=long)
    frame = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    got = to_clip([prepare(frame, view)])
    for index in range(3):
        want = reference_view(frame[None], view, index)
        np.testing.assert_allclose(got[index].numpy(), want.numpy(), atol=4e-6)


def test_uint8_is_within_one_level():
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    exact, rounded = (
        prepare(frame, ViewConfig(64, 56, *HALF, resize=kind)) for kind in ("float", "uint8")
    )
    levels = np.abs(exact - rounded) * 0.225 * 255
    assert 0 < levels.max() <= 0.5 + 1e-4
    assert np.allclose(np.rint((rounded * 0.225 + 0.45) * 255) % 1, 0)


def test_flip_adds_mirrored_views_and_pixels_come_back():
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    view = ViewConfig(60, 60, *HALF, crops=3, flip=True)
    views = prepare(frame, view)
    assert views.shape == (6, 60, 60, 3)
    np.testing.assert_array_equal(views[3:], views[:3, :, ::-1])
    np.testing.assert_array_equal(to_pixels(views, view)[1], frame[:, 10:70])


def test_fits():
    view = ViewConfig(226, 224, *HALF, fit="enlarge")
    assert fitted_size(480, 640, view) == (480, 640)
    assert fitted_size(120, 160, view) == (226, 301)
    squashed = ViewConfig(256, 224, *HALF, fit="stretch", long_side=340)
    assert fitted_size(180, 320, squashed) == (256, 340)


BAD_VIEWS = [
    {"crop": 65},
    {"crop": 0},
    {"crops": 2},
    {"resize": "cubic"},
    {"fit": "pad"},
    {"fit": "stretch"},
    {"long_side": 90},
    {"fit": "stretch", "long_side": 60},
]


@pytest.mark.parametrize("bad", BAD_VIEWS)
def test_bad_views_name_the_rule(bad):
    kwargs = {"short_side": 64, "crop": 64, "mean": HALF[0], "std": HALF[1], **bad}
    with pytest.raises(UsageError, match=r"need|must"):
        ViewConfig(**kwargs)


def test_five_and_ten_crops():
    """The order of torchvision's five_crop; ten are these and then the mirror of each."""
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    how = Convention(short_side=12, crop=8, crops=10)
    clip = ClipSpec(4, 1, 12, 8, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    got = prepare(image, how.view(clip))
    whole = image.astype(np.float32)
    five = [whole[t : t + 8, x : x + 8] for t, x in ((0, 0), (0, 8), (4, 0), (4, 8), (2, 4))]
    np.testing.assert_allclose(got, [*five, *(v[:, ::-1] for v in five)], atol=1e-3)
    np.testing.assert_array_equal(prepare(image, replace(how, crops=5).view(clip)), got[:5])
    with pytest.raises(UsageError, match="mirrored already"):
        replace(how, flip=True).view(clip)


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30)])
def test_the_box_that_is_decoded_holds_all_five_crops(height, width):
    box = needed(height, width, ViewConfig(16, 14, (0.5,) * 3, (0.5,) * 3, crops=5))
    assert (box.top, box.left, box.bottom, box.right) == (0, 0, height, width)
