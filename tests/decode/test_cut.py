"""Cutting a box out before it is converted: the pixels of `rgb()`, bit for bit, or None."""

from dataclasses import replace

import numpy as np
import pytest

from tubelet import open_video
from tubelet.clips.transform import ViewConfig, needed, prepare, prepare_frame
from tubelet.decode.encode import Encoding, encode
from tubelet.types import Box, CuttableFrame

VIEW = ViewConfig(40, 32, (0.4, 0.45, 0.5), (0.2, 0.225, 0.25))
LOCAL = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray", "bgr0"]


def noise(width=160, height=96, count=3):
    rng = np.random.default_rng(width)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def write(path, pixels, *, size=(160, 96), **changes):
    codec = "mjpeg" if pixels.startswith("yuvj") else "ffv1"
    encoding = replace(Encoding(codec=codec, pixel_format=pixels), **changes)
    return encode(noise(*size), path, encoding=encoding)


@pytest.mark.parametrize("color", ["auto", "legacy601"])
@pytest.mark.parametrize("size", [(160, 96), (161, 96), (97, 160)])
@pytest.mark.parametrize("pixels", LOCAL)
def test_a_cut_is_the_same_pixels(pixels, size, color, tmp_path):
    path = write(tmp_path / "a.mkv", pixels, size=size)
    with open_video(path, color=color) as video:
        for frame in video.frames():
            assert isinstance(frame, CuttableFrame)
            whole = frame.rgb()
            assert frame.size == whole.shape[:2]
            for box in (Box(0, 0, *frame.size), Box(32, 32, 96, 96), needed(*frame.size, VIEW)):
                cut = frame.cut(box)
                assert cut is not None
                assert cut.shape[1] >= box.right - box.left
                expected = whole[box.top : box.bottom, box.left : box.right]
                assert np.array_equal(cut[:, : box.right - box.left, :3], expected)


@pytest.mark.parametrize(
    ("pixels", "size", "changes"),
    [
        ("yuv420p10le", (160, 96), {}),
        ("yuv420p", (160, 97), {}),
        ("yuv420p", (160, 96), {"codec": "h264", "rotation": 90}),
    ],
)
def test_where_it_would_not_be_the_same_it_is_refused(pixels, size, changes, tmp_path):
    """Interpolated chroma, and pictures that are turned."""
    path = write(
        tmp_path / "a.mp4" if changes else tmp_path / "a.mkv", pixels, size=size, **changes
    )
    with open_video(path) as video:
        for frame in video.frames():
            assert isinstance(frame, CuttableFrame)
            assert frame.cut(needed(*frame.size, VIEW)) is None
            expected = prepare(frame.rgb(), VIEW)
            assert prepare_frame(frame, VIEW).tobytes() == expected.tobytes()


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("resize", ["float", "uint8"])
@pytest.mark.parametrize("size", [(160, 96), (96, 160), (40, 40), (60, 40), (40, 30)])
def test_prepared_frames_are_the_same_bytes(size, resize, crops, tmp_path):
    """Sizes above, at and below the short side: at it nothing is interpolated."""
    view = replace(VIEW, crops=crops, resize=resize, flip=True)
    with open_video(write(tmp_path / "a.mkv", "yuv420p", size=size)) as video:
        for frame in video.frames():
            expected = prepare(frame.rgb(), view)
            assert prepare_frame(frame, view).tobytes() == expected.tobytes()


def test_an_array_outlives_its_frame_and_reader(tmp_path):
    with open_video(write(tmp_path / "a.mkv", "yuv420p")) as video:
        kept = [(frame.cut(Box(0, 0, 96, 160)), frame.rgb()) for frame in video.frames()]
    for cut, whole in kept:
        assert np.array_equal(cut[:, :160, :3], whole)
