"""Frames in memory are a video like any other: the same rows, clear refusals."""

import numpy as np
import pytest
import torch

import tubelet
from tests_support import tiny
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import EmptyVideo, TubeletError, UsageError, VideoError
from tubelet.store.png import write_png


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """(path, pictures [T, H, W, 3], times [T]) of a real file."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(11)]
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    encode(noise, path, encoding=Encoding("mpeg4"))
    with tubelet.open_video(path) as video:
        frames = list(video.frames())
        return str(path), np.stack([f.rgb() for f in frames]), [f.time_s for f in frames]


def kinds(pictures):
    tensor = torch.from_numpy(pictures)
    yield "array", pictures
    yield "list", list(pictures)
    yield "generator", (p for p in pictures)
    yield "tensor, channels last", tensor
    yield "tensor, channels first", tensor.permute(0, 3, 1, 2)
    yield "tensors", tuple(tensor.permute(0, 3, 1, 2))
    yield "array, channels first", pictures.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("window", [WindowConfig(4, stride=2), WindowConfig(4, fps=10)], ids=str)
def test_rows_equal_those_of_the_file(film, window):
    path, pictures, times = film
    wanted = tiny(window=window)(path)
    for name, frames in kinds(pictures):
        found = tiny(window=window)(tubelet.from_frames(frames, times=times))
        np.testing.assert_array_equal(found.values, wanted.values, err_msg=name)
        np.testing.assert_array_equal(found.start_s, wanted.start_s)
        np.testing.assert_allclose(found.end_s, wanted.end_s, atol=1e-6)
    by_rate = tiny(window=window)(tubelet.from_frames(pictures, fps=25))
    np.testing.assert_array_equal(by_rate.values, wanted.values)


def test_parts_and_folders_of_frames(film, tmp_path):
    """Whatever is open already may stand for a path: parts of it, and pictures with their rate."""
    path, pictures, times = film
    wanted = tiny()(path, start_s=0.12, end_s=0.36)
    for video in (tubelet.from_frames(pictures, times=times), tubelet.open_video(path)):
        found = tiny()(video, start_s=0.12, end_s=0.36)
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.start_s, wanted.start_s)
    for number, picture in enumerate(pictures):
        with open(tmp_path / f"img_{number:05}.png", "wb") as file:
            write_png(file, picture)
    with tubelet.open_video(tmp_path, fps=3) as folder:
        rows = tiny()(folder)
    np.testing.assert_array_equal(rows.values, tiny()(path).values)
    assert rows.end_s[-1] == pytest.approx(11 / 3)
    streamed = [values["pool"] for _, values in tiny().stream(tubelet.open_video(path))]
    np.testing.assert_array_equal(streamed, tiny()(path).values)


def test_images_of_pil(film):
    image = pytest.importorskip("PIL.Image")
    _, pictures, times = film
    found = tiny()(tubelet.from_frames([image.fromarray(p) for p in pictures], times=times))
    np.testing.assert_array_equal(found.values, tiny()(film[0]).values)
    grey = [image.fromarray(p).convert("L") for p in pictures]
    with tubelet.from_frames(grey, fps=25) as video:
        assert next(iter(video.frames())).rgb().shape == (24, 32, 3)


def test_what_a_reader_promises(film):
    _, pictures, _ = film
    with tubelet.from_frames(pictures, fps="30000/1001") as video:
        assert tubelet.open_video(video) is video
        assert (video.info.width, video.info.height, video.info.frames) == (32, 24, 11)
        for _ in range(2):
            frames = list(video.frames())
            assert [f.index for f in frames] == list(range(11))
            assert frames[3].time_s == pytest.approx(3 * 1001 / 30000)
            assert frames[3].time_s + frames[3].duration_s == pytest.approx(frames[4].time_s)
        mine = frames[0].rgb()
        assert mine.flags.writeable
        assert mine.flags.c_contiguous
        mine[:] = 0
        np.testing.assert_array_equal(frames[0].rgb(), pictures[0])


def test_times_decide_the_rate_and_the_end(film):
    _, pictures, _ = film
    with tubelet.from_frames(pictures[:3], times=[0.5, 1.0, 2.0]) as video:
        assert [(f.time_s, f.duration_s) for f in video.frames()] == [
            (0.5, 0.5), (1.0, 1.0), (2.0, 1.0),
        ]  # fmt: skip
        assert video.info.fps == pytest.approx(3 / 2.5)


def test_an_iterator_is_drawn_as_it_is_read_and_once(film):
    _, pictures, _ = film
    drawn = []

    def frames():
        for index, picture in enumerate(pictures):
            drawn.append(index)
            yield picture

    with tubelet.from_frames(frames(), fps=25) as video:
        assert drawn == [0]
        assert len(list(video.frames())) == 11
        with pytest.raises(VideoError, match=r"gives them once.*pass a list"):
            list(video.frames())


ARRAY = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "clock", "error", "words"),
    [
        ("a.mp4", {"fps": 25}, UsageError, r"open_video\(path\)"),
        (None, {"fps": 25}, UsageError, "frames of type NoneType: frames are uint8 pictures"),
        ({1: 2}, {"fps": 25}, UsageError, "frames of type dict"),
        (7, {"fps": 25}, UsageError, "frames of type int"),
        (ARRAY, {}, UsageError, "needs a clock: fps=25"),
        (ARRAY, {"fps": 25, "times": [0, 1, 2, 3]}, UsageError, "and not both"),
        (ARRAY, {"fps": 0}, UsageError, "not a positive number"),
        (ARRAY, {"fps": "fast"}, UsageError, "not a positive number"),
        (ARRAY, {"times": [0, 1, 2]}, UsageError, "3 times for 4 frames"),
        (ARRAY, {"times": [0, 2, 1, 3]}, UsageError, "later than the one before"),
        (ARRAY, {"times": [0, 1, 2, float("nan")]}, UsageError, "later than"),
        (ARRAY, {"times": "abcd"}, UsageError, "times must be seconds"),
        (ARRAY[:1], {"times": [0]}, UsageError, "give fps instead"),
        (ARRAY[0], {"fps": 25}, UsageError, r"frames of shape \(8, 8, 3\)"),
        (ARRAY / 255, {"fps": 25}, UsageError, r"type float64.*round\(\)\.astype\('uint8'\)"),
        (torch.zeros(4, 3, 8, 8), {"fps": 25}, UsageError, "type float32"),
        (ARRAY[..., :1], {"fps": 25}, UsageError, r"frame 0 is of shape \(8, 8, 1\)"),
        (ARRAY[:, :3], {"fps": 25}, UsageError, "say channels='first'"),
        (["a", "b"], {"fps": 25}, UsageError, "frame 0 is str"),
        ([], {"fps": 25}, EmptyVideo, "there are none"),
        (iter([]), {"fps": 25}, EmptyVideo, "there are none"),
        (ARRAY[:0], {"fps": 25}, EmptyVideo, "there are none"),
    ],
    ids=range(22),
)
def test_what_is_no_video(frames, clock, error, words):
    with pytest.raises(error, match=words):
        tubelet.from_frames(frames, **clock)


def test_what_turns_out_while_frames_are_drawn():
    with pytest.raises(VideoError, match="frame 1 is 6x8, but the first is 8x8"):
        list(tubelet.from_frames([ARRAY[0], ARRAY[0][:, :6]], fps=25).frames())
    with pytest.raises(VideoError, match="more than the 2 times"):
        list(tubelet.from_frames(iter(ARRAY), times=[0, 1]).frames())
    with pytest.raises(VideoError, match="4 frames came, and there are 5 times"):
        list(tubelet.from_frames(iter(ARRAY), times=range(5)).frames())
    narrow = tubelet.from_frames(ARRAY[:, :3], fps=25, channels="last")
    assert (narrow.info.width, narrow.info.height) == (8, 3)


def test_other_things_than_paths_and_readers_are_refused():
    with pytest.raises(TubeletError, match=r"ndarray is no path.*from_frames"):
        tubelet.open_video(ARRAY)
    with pytest.raises(UsageError, match="fps is for paths"):
        tubelet.open_video(tubelet.from_frames(ARRAY, fps=25), fps=25)
