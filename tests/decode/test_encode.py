"""What `encode` writes is what was asked for."""

import os
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UnknownName, UsageError, VideoError

from .samples import N, pictures


def test_reference_structure_and_tags(tmp_path):
    encoding = Encoding(gop=10, b_frames=2, matrix="bt709", full_range=False, rotation=90)
    encoding = replace(encoding, options={"sc_threshold": "0"})  # no key frames at scene cuts
    path = encode(pictures(), tmp_path / "a.mp4", encoding=encoding)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert int(stream.colorspace) == int(stream.color_primaries) == int(stream.color_trc) == 1
        assert int(stream.color_range) == 1
        frames = list(container.decode(stream))
    assert [i for i, f in enumerate(frames) if f.key_frame] == [0, 10, 20]
    assert any(f.pict_type == av.video.frame.PictureType.B for f in frames)
    assert frames[0].rotation == -90


def test_without_b_frames(tmp_path):
    path = encode(pictures(), tmp_path / "a.mp4", encoding=Encoding(b_frames=0))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert len(packets) == N
    assert all(p.pts == p.dts for p in packets)


@pytest.mark.parametrize(
    ("name", "encoding", "error", "words"),
    [
        ("a.mp4", Encoding(codec="h246"), UnknownName, "did you mean"),
        ("a.webm", Encoding(codec="h264"), VideoError, "webm"),
        ("a.xyz", Encoding(), VideoError, "xyz"),
        ("absent/a.mp4", Encoding(), VideoError, "No such file"),
        ("a.mp4", Encoding(codec="mpeg4", pixel_format="yuv444p"), VideoError, "mpeg4"),
    ],
)
def test_what_cannot_be_written(name, encoding, error, words, tmp_path):
    with pytest.raises(error, match=words):
        encode(pictures(), tmp_path / name, encoding=encoding)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "times", "words"),
    [(0, None, "no frames"), (5, [Fraction(0)], "1 times"), (2, [Fraction(0)] * 3, "3 times")],
)
def test_frames_and_times_must_agree(frames, times, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        encode(pictures(frames), tmp_path / "a.mp4", times_s=times)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_scaled(tmp_path):
    encoding = Encoding(size=(48, 22))
    path = encode(pictures(), tmp_path / "a.mkv", encoding=encoding)
    with open_video(path) as reader:
        assert (reader.info.width, reader.info.height) == (48, 22)
        assert len(list(reader.frames())) == N


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduler to ask")
def test_no_codec_changes_how_this_process_is_scheduled(tmp_path):
    before = os.sched_getscheduler(0)
    encode([np.zeros((64, 64, 3), np.uint8)] * 2, tmp_path / "a.mp4", encoding=Encoding("av1"))
    assert os.sched_getscheduler(0) == before
