"""YUV -> RGB against three independent references: the definition of the matrices (H.273),
swscale called directly, and what PyAV 16.1 gave."""

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from tubelet import open_video
from tubelet.decode.encode import Encoding, add_video_stream, encode, own_schedule
from tubelet.errors import UnknownName

K = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
# (Y, Cb, Cr) on 8 bits, limited range: dark, bright, and strongly coloured on both sides of grey.
COLORS = [(40, 128, 128), (120, 90, 200), (150, 60, 110), (90, 180, 100), (180, 128, 150)]


def definition(color, *, matrix, full, depth=8):
    """RGB in 0..255 (float) of an 8-bit YCbCr colour stored in `depth` bits, H.273 (38) to (40)."""
    kr, kb = K[matrix]
    largest, unit = 2**depth - 1, 2 ** (depth - 8)
    y, cb, cr = (np.array(color) - (0 if full else 16, 128, 128)) * unit
    y, cb, cr = (
        (y / largest, cb / largest, cr / largest)
        if full
        else (y / (219 * unit), cb / (224 * unit), cr / (224 * unit))
    )
    r = y + 2 * (1 - kr) * cr
    b = y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(255 * np.array([r, g, b]), 0, 255)


def write_yuv(path, encoding, *, colors=COLORS, width=64, height=48):
    """One frame per colour, the samples themselves chosen, no conversion on the way."""
    depth = 10 if "10" in encoding.pixel_format else 8
    with own_schedule(), av.open(str(path), "w") as container:
        stream = add_video_stream(container, encoding, width=width, height=height)
        for color in colors:
            frame = VideoFrame(width, height, encoding.pixel_format)
            for plane, value in zip(frame.planes, color, strict=True):
                kind = np.dtype("<u2" if depth == 10 else "u1")
                samples = np.full(plane.buffer_size // kind.itemsize, value << (depth - 8), kind)
                plane.update(samples.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def assert_near(pixels, truth):
    """swscale's fixed-point arithmetic leaves -3.2 (10-bit limited) to +2.1 levels (10-bit full);
    8 bits stay within -2.1 and +1."""
    difference = pixels - np.array(truth)
    assert difference.min() >= -3.3
    assert difference.max() <= 2.1


def first_pixels(path, **options):
    with open_video(path, **options) as video:
        return np.stack([f.rgb()[20, 30] for f in video.frames()]).astype(float)


LOSSLESS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "lossless=1:log-level=none:pools=none", "preset": "ultrafast"},
    "ffv1": {},
}


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full", [None, False, True])
@pytest.mark.parametrize("matrix", [None, "bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_colours_follow_the_tags(codec, matrix, full, pixels, tmp_path):
    """The wrong matrix or range would be 10 to 60 levels off."""
    path = tmp_path / ("a.mkv" if codec == "ffv1" else "a.mp4")
    encoding = Encoding(
        codec=codec,
        pixel_format=pixels,
        matrix=matrix,
        full_range=full,
        options=LOSSLESS[codec],
        gop=1,
    )
    write_yuv(path, encoding)
    depth = 10 if "10" in pixels else 8
    truth = [definition(c, matrix=matrix or "bt601", full=bool(full), depth=depth) for c in COLORS]
    assert_near(first_pixels(path), truth)


@pytest.mark.parametrize("matrix", ["bt709", "bt2020"])
def test_the_matrices_can_be_told_apart(matrix):
    """Guards the test above: its colours differ enough between matrices and ranges."""
    for full in (False, True):
        ours = [definition(c, matrix=matrix, full=full) for c in COLORS]
        other = [definition(c, matrix="bt601", full=full) for c in COLORS]
        turned = [definition(c, matrix=matrix, full=not full) for c in COLORS]
        assert np.abs(np.subtract(ours, other)).max() > 10
        assert np.abs(np.subtract(ours, turned)).max() > 10


def test_untagged_is_601_at_any_size(tmp_path):
    path = tmp_path / "hd.mp4"
    encoding = Encoding(options=LOSSLESS["libx264"], gop=1)
    write_yuv(path, encoding, width=1280, height=720, colors=COLORS[1:2])
    truth = definition(COLORS[1], matrix="bt601", full=False)
    assert_near(first_pixels(path), truth)


def test_jpeg_is_full_range_601(tmp_path):
    path = tmp_path / "a.avi"
    encoding = Encoding(codec="mjpeg", pixel_format="yuvj444p", options={"qscale": "1"})
    write_yuv(path, encoding)
    truth = [definition(c, matrix="bt601", full=True) for c in COLORS]
    assert_near(first_pixels(path), truth)


@pytest.mark.parametrize("matrix", [None, "bt709", "bt2020"])
@pytest.mark.parametrize("full", [False, True])
def test_legacy601_ignores_the_tags(matrix, full, tmp_path):
    path = tmp_path / "a.mkv"
    encoding = Encoding(codec="ffv1", pixel_format="yuv444p", matrix=matrix, full_range=full)
    write_yuv(path, encoding)
    truth = [definition(c, matrix="bt601", full=False) for c in COLORS]
    assert_near(first_pixels(path, color="legacy601"), truth)


@pytest.mark.parametrize("matrix", [None, "bt709"])
def test_legacy601_is_what_old_tools_gave(matrix, tmp_path):
    """PyAV 16.1 and older: swscale's bilinear flag, 601, limited; verified against 16.1 itself."""
    path = encode(textured(), tmp_path / "a.mp4", encoding=Encoding(matrix=matrix))
    with open_video(path, color="legacy601") as video, av.open(str(path)) as container:
        for ours, theirs in zip(video.frames(), container.decode(video=0), strict=True):
            old = theirs.reformat(format="rgb24", src_colorspace="ITU601")
            assert np.array_equal(ours.rgb(), old.to_ndarray())


def textured(count=3, *, width=64, height=48):
    """Noise in blocks, saturated: what makes chroma interpolation visible."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        blocks = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)).astype(np.uint8)
        yield blocks.repeat(4, 0).repeat(4, 1)[:height, :width]


@pytest.mark.parametrize("matrix", [None, "bt709"])
@pytest.mark.parametrize(
    ("codec", "pixels", "size", "name"),
    [
        ("h264", "yuv420p", (64, 48), "a.mp4"),
        ("h264", "yuv422p", (64, 48), "a.mp4"),
        ("h264", "yuv444p", (65, 49), "a.mp4"),
        ("hevc", "yuv420p", (64, 48), "a.mkv"),
        ("vp9", "yuv420p", (64, 48), "a.webm"),
        ("vp9", "yuv420p", (65, 49), "a.webm"),
        ("mjpeg", "yuvj420p", (64, 48), "a.avi"),
        ("mjpeg", "yuvj420p", (341, 257), "a.avi"),
        ("av1", "yuv420p10le", (64, 48), "a.mp4"),
        ("ffv1", "bgr0", (65, 49), "a.mkv"),
        ("ffv1", "gray", (65, 49), "a.mkv"),
    ],
)
def test_pictures_equal_swscale_called_directly(codec, pixels, size, name, matrix, tmp_path):
    """Bit for bit, where chroma siting plays no part (else swscale must be told; the filter is)."""
    encoding = Encoding(codec=codec, pixel_format=pixels, matrix=matrix)
    path = encode(textured(width=size[0], height=size[1]), tmp_path / name, encoding=encoding)
    direct = VideoReformatter()
    with open_video(path) as video, av.open(str(path)) as container:
        for ours, theirs in zip(video.frames(), container.decode(video=0), strict=True):
            rgb = direct.reformat(theirs, format="rgb24", interpolation=Interpolation.BICUBIC)
            assert np.array_equal(ours.rgb(), rgb.to_ndarray())


def test_an_unknown_colour_rule(tmp_path):
    path = encode(textured(), tmp_path / "a.mp4")
    with pytest.raises(UnknownName, match="legacy601"):
        open_video(path, color="bt709")
