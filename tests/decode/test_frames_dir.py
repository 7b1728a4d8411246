"""Folders of numbered frames that are not as they should be, and synthetic descriptions."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from tubelet import open_video
from tubelet.decode.synthetic import number_picture, read_number
from tubelet.errors import EmptyVideo, NotAVideo, UnknownName, UsageError, VideoError

from .samples import save_picture


def fill(folder, names, *, size=(64, 48)):
    for i, name in enumerate(names):
        save_picture(number_picture(i, width=size[0], height=size[1]), folder / name)
    return folder


def test_numbers_decide_the_order_and_gaps_are_counted(tmp_path):
    """frame 3 is absent: its time stays empty, the frame before it is shown longer."""
    folder = fill(tmp_path, ["v2_f1.png", "v2_f2.png", "v2_f04.png", "v2_f10.png"])
    with open_video(folder, fps=10) as video:
        frames = list(video.frames())
        assert [read_number(f.rgb()) for f in frames] == [0, 1, 2, 3]
        assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.3, 0.9])
        assert [f.duration_s for f in frames] == pytest.approx([0.1, 0.2, 0.6, 0.1])
        assert video.events.missing_frames == 6
        assert video.events.messages == ["no frames numbered 3 to 3", "no frames numbered 5 to 9"]
        assert video.events.damaged


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    fill(tmp_path, ["0001.jpg", "0002.jpg"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".0003.jpg").write_text("x")
    (tmp_path / "0004.jpg.d").mkdir()
    with open_video(tmp_path, fps=25) as video:
        assert [read_number(f.rgb()) for f in video.frames()] == [0, 1]


@pytest.mark.parametrize(
    ("names", "fps", "error", "words"),
    [
        ([], 25, EmptyVideo, "no frames in this folder"),
        (["1.png"], None, UsageError, "--frames-fps"),
        (["1.png"], 0, UsageError, "positive"),
        (["1.png"], float("nan"), UsageError, "positive"),
        (["1.png"], "fast", UsageError, "positive"),
        (["1.png"], "1e-9", UsageError, "positive"),
        (["1.png", "01.png"], 25, NotAVideo, "same number"),
        (["a_1.png", "b_1.png"], 25, NotAVideo, r"named in several ways \(a_N.png, b_N.png\)"),
        (["x_1.png", "y_1.png"], 25, NotAVideo, "holds optical flow"),
        (["1.png", "1.jpg"], 25, NotAVideo, "named in several ways"),
        (["first.png"], 25, NotAVideo, "must hold its number"),
    ],
)
def test_folders_that_are_refused(names, fps, error, words, tmp_path):
    with pytest.raises(error, match=words):
        open_video(fill(tmp_path, names), "frames", fps=fps)


@pytest.mark.parametrize(
    ("frames", "others", "pattern"),
    [
        # PHOENIX: the last digits are the same in every name
        (["01_pid0_fn000001-0.png", "01_pid0_fn000002-0.png"], [], None),
        # TSN, denseflow, mmaction2: flow lies beside the frames
        (
            ["img_00001.png", "img_00002.png"],
            ["flow_x_00001.png", "flow_x_00002.png", "flow_y_00001.png", "flow_y_00002.png"],
            None,
        ),
        (["i/000001.png", "i/000002.png"], ["u/000001.png", "v/000001.png"], None),
        (["img_00001.png", "img_00002.png"], ["cover.png", "thumb_1.png"], "img_%05d.png"),
        (["img_00001.png", "img_00002.png"], ["cover.png"], "img_{:05}.png"),
        (["a1.png", "a2.png", "a10.png"], ["b1.png"], "a*.png"),
        (["rgb/1.png", "rgb/2.png"], ["depth/1.png", "1.png"], "rgb/%d.png"),
    ],
)
def test_which_files_are_the_frames(frames, others, pattern, tmp_path):
    for folder in {(tmp_path / name).parent for name in [*frames, *others]}:
        folder.mkdir(exist_ok=True)
    fill(tmp_path, frames)
    fill(tmp_path, others, size=(48, 32))
    with open_video(tmp_path, "frames", fps=5, pattern=pattern) as video:
        found = list(video.frames())
        assert [read_number(f.rgb()) for f in found] == list(range(len(frames)))
        assert found[1].time_s == pytest.approx(0.2)


def test_a_stray_picture_is_named_with_the_way_out(tmp_path):
    fill(tmp_path, ["img_00001.png", "img_00002.png", "cover.png"])
    words = r"cover\.png: .*number.*--frames-pattern 'img_%d\.png'"
    with pytest.raises(NotAVideo, match=words) as caught:
        open_video(tmp_path, fps=25)
    pattern = str(caught.value).split("'")[-2]
    with open_video(tmp_path, fps=25, pattern=pattern) as video:
        assert [read_number(f.rgb()) for f in video.frames()] == [0, 1]


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("img_.png", UsageError, "one place for the number"),
        ("img_%d_%d.png", UsageError, "one place"),
        ("../img_%d.png", UsageError, "nothing outside the folder"),
        ("/img_%d.png", UsageError, "nothing outside"),
        ("img_%d", UsageError, "must end in one of"),
        ("pic_%d.png", EmptyVideo, r"no file fits .*; it has img_1\.png"),
        ("img_%03d.png", EmptyVideo, "no file fits"),
        ("none/img_%d.png", EmptyVideo, "no file fits"),
    ],
)
def test_patterns_that_are_refused(pattern, error, words, tmp_path):
    with pytest.raises(error, match=words):
        open_video(fill(tmp_path, ["img_1.png"]), fps=25, pattern=pattern)
    with pytest.raises(UsageError, match="is for folders of frames"):
        open_video("synthetic:", pattern="img_%d.png")


def test_a_frame_of_another_size(tmp_path):
    fill(tmp_path, ["1.png", "2.png"])
    save_picture(number_picture(2, width=32, height=48), tmp_path / "3.png")
    with open_video(tmp_path, fps=25) as video:
        frames = list(video.frames())
        frames[1].rgb()
        with pytest.raises(VideoError, match=r"3\.png: 32x48, but the first frame is 64x48"):
            frames[2].rgb()


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_unreadable_frame(data, tmp_path):
    fill(tmp_path, ["1.png", "2.png"])
    (tmp_path / "2.png").write_bytes(data)
    with open_video(tmp_path, fps=25) as video:
        frames = list(video.frames())
        with pytest.raises(VideoError, match=r"2\.png: this frame cannot be read"):
            frames[1].rgb()
    (tmp_path / "1.png").write_bytes(data)
    with pytest.raises(VideoError, match=r"1\.png"):
        open_video(tmp_path, fps=25)


@pytest.mark.parametrize(
    ("description", "error", "words"),
    [
        ("synthetic:frames=0", EmptyVideo, "no frames"),
        ("synthetic:frames=-1", UsageError, "whole number"),
        ("synthetic:framse=3", UnknownName, "did you mean 'frames'"),
        ("synthetic:fps=0", UsageError, "positive"),
        ("synthetic:width=2", UsageError, "5 or more"),
        ("synthetic:pattern=noise", UnknownName, "bits, flat"),
        ("synthetic:frames=2000000", UsageError, "at most"),
    ],
)
def test_synthetic_descriptions_that_are_refused(description, error, words):
    with pytest.raises(error, match=words):
        open_video(description)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_the_orientation_of_a_photo_is_applied(orientation, turns, tmp_path):
    """EXIF tag 0x0112 of a JPEG; `turns` quarter turns counterclockwise make it upright."""
    plain = tmp_path / "1.jpg"
    save_picture(number_picture(21, width=64, height=48), plain)
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0])
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" + tag + bytes(4)
    data = plain.read_bytes()
    plain.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    with open_video(tmp_path, fps=25) as video:
        picture = next(iter(video.frames())).rgb()
        assert picture.shape == (video.info.height, video.info.width, 3)
    assert read_number(np.rot90(picture, -turns)) == 21


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks):
    """A grey picture; only its head and what is asked for are real."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1) * height) if width * height < 10_000 else b""
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PEAK = """
import gc, resource, sys
from tubelet import open_video
from tubelet.errors import UnsupportedVideo
import tubelet.decode.frames_dir, tubelet.decode.pyav
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    with open_video(sys.argv[1], fps=25) as video:
        print(*(frame.rgb().shape for frame in video.frames()))
except UnsupportedVideo as error:
    print(error)
gc.collect()  # PyAV frees the name of a profile twice
assert peak() - before < 64 * 1024, peak() - before
"""


def read_apart(folder):
    """What a process of its own says of a folder; it fails when it takes 64 MB for that."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_profiles_and_texts_of_any_size_are_left_alone(tmp_path):
    bomb = zlib.compress(bytes(256 << 20), 1)
    for number, kind in enumerate([b"iCCP", b"zTXt", b"iTXt"], 1):
        before = b"\1\0\0\0" if kind == b"iTXt" else b"\0"
        extra = chunk(kind, b"name\0" + before + bomb)
        (tmp_path / f"{number}.png").write_bytes(png(8, 6, extra))
    assert read_apart(tmp_path).count("(6, 8, 3)") == 3


def test_a_picture_above_the_limit_is_not_decoded(tmp_path):
    rows = zlib.compress(bytes(20_001 * 20_000), 1)
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows)
    (tmp_path / "1.png").write_bytes(data + chunk(b"IEND", b""))
    assert "20000x20000 is more than the limit" in read_apart(tmp_path)
