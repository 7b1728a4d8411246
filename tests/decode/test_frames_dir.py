"""Folders of numbered frames that are not as they should be, and synthetic descriptions."""

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
        (["1.png"], None, UsageError, "--fps"),
        (["1.png"], 0, UsageError, "positive"),
        (["1.png"], float("nan"), UsageError, "positive"),
        (["1.png"], "fast", UsageError, "positive"),
        (["1.png", "01.png"], 25, NotAVideo, "same number"),
        (["x_1.png", "y_1.png"], 25, NotAVideo, "several ways"),
        (["1.png", "1.jpg"], 25, NotAVideo, "several ways"),
        (["first.png"], 25, NotAVideo, "must hold its number"),
    ],
)
def test_folders_that_are_refused(names, fps, error, words, tmp_path):
    with pytest.raises(error, match=words):
        open_video(fill(tmp_path, names), "frames", fps=fps)


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
