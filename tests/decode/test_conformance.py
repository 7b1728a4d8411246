"""Every backend on every kind of file: the right frames, at the right times, and nothing else."""

import importlib.util
from fractions import Fraction

import numpy as np
import pytest

from tubelet import open_video
from tubelet.decode.base import scan_video
from tubelet.decode.picture import Orientation
from tubelet.decode.synthetic import number_picture, read_number
from tubelet.errors import UnsupportedVideo, UsageError
from tubelet.types import DecodeEvents

from .samples import BY_NAME, SAMPLES, H, N, W, save_picture


def loads(backend):
    if backend == "torchcodec":
        if importlib.util.find_spec("torchcodec") is None:
            return False
        from tubelet.decode.torchcodec import _decoder_class

        try:
            _decoder_class()
        except UsageError:
            return False
    return True


TORCHCODEC = loads("torchcodec")
BACKENDS = ["pyav", "torchcodec"] if TORCHCODEC else ["pyav"]
UNTURN = {
    0: Orientation(),
    90: Orientation(transpose=True, flip_y=True),
    180: Orientation(flip_x=True, flip_y=True),
    270: Orientation(transpose=True, flip_x=True),
}


def watch(reader, *, rotation=0):
    """(numbers, times, durations) of every frame; holds each frame to the protocol."""
    seen, times, lasts = [], [], []
    for index, frame in enumerate(reader.frames()):
        picture = frame.rgb()
        assert frame.index == index
        assert picture.shape == (reader.info.height, reader.info.width, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert picture.flags.writeable
        seen.append(read_number(UNTURN[rotation].apply(picture)))
        times.append(frame.time_s)
        lasts.append(frame.duration_s)
    return seen, times, lasts


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_every_frame_once_in_time(sample, backend, made):
    path = made(sample)
    if backend in sample.wrong_for:
        with pytest.raises(UnsupportedVideo, match="use backend 'pyav'"):
            open_video(path, backend)
        return
    with open_video(path, backend) as video:
        assert (video.info.width, video.info.height) == sample.size
        assert video.info.rotation == sample.rotation
        assert video.info.backend == backend
        seen, times, lasts = watch(video, rotation=sample.rotation)
        assert seen == list(sample.numbers)
        assert times == pytest.approx(sample.expected_times(), abs=sample.tolerance_s)
        ends = [t + d for t, d in zip(times, lasts, strict=True)]
        assert ends[:-1] == pytest.approx(times[1:], abs=1e-9)
        assert lasts[-1] > 0
        events = video.events
        assert not events.damaged
        assert events.bad_timestamps == events.size_changes == 0
        assert bool(events.messages) == (sample.name == "more_promised.avi")


@pytest.mark.skipif(
    not TORCHCODEC, reason="torchcodec cannot be loaded: it needs FFmpeg's libraries"
)
def test_torchcodec_is_tried():
    """Skipped once instead of once a file: a run without torchcodec says so."""
    assert "torchcodec" in BACKENDS


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_the_timeline_is_known_from_packets(sample, made):
    """`plan` must not differ from `extract`: exact, for every intact file."""
    timeline = scan_video(made(sample))
    assert timeline.exact, timeline.reason
    with open_video(made(sample)) as video:
        frames = [(f.time_s, f.time_s + f.duration_s) for f in video.frames()]
    assert timeline.times_s == pytest.approx([shown for shown, _ in frames], abs=1e-9)
    assert timeline.end_s == pytest.approx(frames[-1][1], abs=1e-9)
    assert timeline.frames == len(sample.numbers)
    assert timeline.fps == video.info.fps


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["h264.mp4", "opengop.ts", "vp9.webm", "av1.mp4"])
def test_frames_start_over_and_threads_change_nothing(name, threads, made):
    with open_video(made(BY_NAME[name]), threads=threads) as video:
        once = [(f.time_s, f.rgb().tobytes()) for f in video.frames()]
        cut_short = [f.index for f, _ in zip(video.frames(), range(3), strict=False)]
        again = [(f.time_s, f.rgb().tobytes()) for f in video.frames()]
    assert len(once) == N
    assert cut_short == [0, 1, 2]
    assert again == once


def test_a_kept_frame_can_be_converted_later(made):
    with open_video(made(BY_NAME["h264.mp4"])) as video:
        kept = [f for f in video.frames() if f.index % 10 == 3]
    assert [read_number(f.rgb()) for f in kept] == [3, 13, 23]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Numbered pictures whose names sort wrongly as text: 1, 10, 11, ..., 2."""
    folder = tmp_path_factory.mktemp("frames of a video")
    for i in range(N):
        save_picture(number_picture(i, width=W, height=H), folder / f"img_{i + 1}.jpg")
    return folder


@pytest.mark.parametrize("fps", [Fraction(25), "30000/1001", 12.5])
def test_a_folder_of_frames(folder, fps):
    with open_video(folder, fps=fps) as video:
        assert (video.info.backend, video.info.frames) == ("frames", N)
        seen, times, lasts = watch(video)
        assert seen == list(range(N))
        interval = 1 / Fraction(fps)
        assert times == pytest.approx([float(i * interval) for i in range(N)])
        assert lasts == pytest.approx([float(interval)] * N)
        assert video.events == DecodeEvents()
    timeline = scan_video(folder, fps=fps)
    assert timeline.exact
    assert list(timeline.times_s) == times


@pytest.mark.parametrize("pattern", ["bits", "flat"])
def test_synthetic_frames(pattern):
    description = f"synthetic:frames=300,fps=30000/1001,width=33,height=17,pattern={pattern}"
    with open_video(description) as video:
        assert (video.info.width, video.info.height, video.info.frames) == (33, 17, 300)
        frames = [(read_number(f.rgb(), pattern=pattern), f.time_s) for f in video.frames()]
    assert [n for n, _ in frames] == list(range(300))
    assert [t for _, t in frames] == pytest.approx([i * 1001 / 30000 for i in range(300)])
    assert scan_video(description).frames == 300
