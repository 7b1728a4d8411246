"""Flow on its way through windows, views and caches: alignment in time, each pair once."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import moving
from tubelet.clips.gather import Gatherer
from tubelet.clips.modality import open_source, pixels_of
from tubelet.clips.transform import ViewConfig, prepare, prepare_flow, resize, view_config
from tubelet.clips.windows import WindowConfig, timeline
from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import StoreError, VideoError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.pipeline import extract_video
from tubelet.flow.base import create_method, flow_config, pack, unpack
from tubelet.flow.opencv import grayscale
from tubelet.types import ClipSpec

gray = grayscale()

N = 11
DIS = flow_config("dis:preset=fast")
HALF = (0.5, 0.5)


class Probe(nn.Module):
    """A network that hands out what it sees: "pool" is every 16th pixel of the clip."""

    taps, num_classes, activation = ("pool",), 1, "none"

    def __init__(self, clip):
        super().__init__()
        self.clip = clip
        side = -(-clip.crop // 16)
        self.width = clip.channels * clip.frames * side * side

    def features(self, clip, taps=("pool",)):
        return {"pool": clip[..., ::16, ::16].flatten(1)}


def probe(channels, *, frames=4, rounding="none", stride=3, cache=None, method="dis:preset=fast"):
    clip = ClipSpec(frames, 1, 96, 64, (0.5,) * channels, (0.5,) * channels, channels=channels)
    return Extractor(
        Probe(clip),
        window=WindowConfig(frames, stride=stride),
        options=Options(flow=flow_config(method, rounding=rounding), flow_cache=cache),
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """11 frames of a turning texture at 25 frames/s."""
    path = tmp_path_factory.mktemp("flow") / "turning.mkv"
    frames = moving.frames(moving.Affine(degrees=1.5, shift=(1, 0)), N)
    return str(encode(frames, path, encoding=Encoding("ffv1")))


def clips_of(features, channels, frames=4):
    """Rows as [N, C, T, 4, 4]."""
    return features.values.reshape(len(features.values), channels, frames, 4, 4)


def expected_flows(path, view, config=DIS):
    """N prepared flows by the plainest route: whole frames, one pair after the other."""
    compute = create_method(config)
    with open_video(path) as reader:
        greys = [gray(resize(frame.rgb(), view)) for frame in reader.frames()]
    fields = [unpack(pack(compute(a, b), config), config) for a, b in pairwise(greys)]
    return [prepare_flow(field, view) for field in [*fields, fields[-1]]]


@pytest.mark.parametrize("rounding", ["none", "uint8"])
def test_n_frames_give_n_flows_of_which_the_last_is_repeated(video, rounding):
    extractor = probe(2, rounding=rounding)
    rows = clips_of(extractor(video), 2)
    flows = expected_flows(video, extractor.view, flow_config("dis:preset=fast", rounding=rounding))
    assert len(flows) == N
    plan = [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [9, 10, 10, 10]]
    assert len(rows) == len(plan)
    for row, indices in zip(rows, plan, strict=True):
        want = np.stack([flows[i][0, ::16, ::16] for i in indices]).transpose(3, 0, 1, 2)
        np.testing.assert_array_equal(row, want)


def test_two_streams_are_the_two_alone_and_aligned(video):
    both, rgb, flow = extract_video(video, [probe(5), probe(3), probe(2)])
    np.testing.assert_array_equal(clips_of(both, 5)[:, :3], clips_of(rgb, 3))
    np.testing.assert_array_equal(clips_of(both, 5)[:, 3:], clips_of(flow, 2))
    for name in ("start_s", "end_s"):
        np.testing.assert_array_equal(getattr(both, name), getattr(rgb, name))
    assert both.provenance["first_last_frame"] == rgb.provenance["first_last_frame"]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from(["drop", "pad", "loop", "zero", "backpad"]),
    st.lists(st.integers(1, 90), min_size=2, max_size=30),
    st.none() | st.sampled_from([Fraction(7), Fraction(30)]),
)
def test_every_position_gets_the_pair_with_its_successor(frames, interval, stride, tail, gaps, fps):
    config = WindowConfig(frames, interval, stride, tail=tail, fps=fps)
    times = [t / 600 for t in np.cumsum([0, *gaps[:-1]])]
    end_s = sum(gaps) / 600
    shown = list(timeline(times, end_s, config))
    asked = []

    class Shown:
        def __init__(self, index):
            self.index, self.time_s, self.duration_s = index, times[index], gaps[index] / 600

    def prepare_pair(frame, pair):
        asked.append(frame.index)
        return frame.index, pair and tuple(shot.index for shot in pair)

    gatherer = Gatherer(
        config, prepare=prepare_pair, black=(-1, None), native_fps=Fraction(30), pairs=True
    )
    rows = [row for i in range(len(times)) for row in gatherer.feed(Shown(i))]
    rows += list(gatherer.finish())
    plain = Gatherer(config, prepare=lambda a, _: a.index, black=-1, native_fps=Fraction(30))
    alone = [row for i in range(len(times)) for row in plain.feed(Shown(i))]
    alone += list(plain.finish())
    pairs = list(pairwise(shown))
    pairs.append(pairs[-1] if pairs else None)
    assert [row.window for row in rows] == [row.window for row in alone]
    assert [row.start_s for row in rows] == [row.start_s for row in alone]
    allowed = {(-1, None), *zip(shown, pairs, strict=True)}
    for row in rows:
        assert set(row.pixels) <= allowed
        assert tuple(frame for frame, _ in row.pixels) == row.window.frames
    assert len(asked) <= len(shown)


def test_overlapping_windows_and_several_models_compute_each_pair_once(video):
    with open_video(video) as reader:
        source = open_source(DIS, reader.info, color="auto", cache=None)
        view = probe(2).view
        for _ in range(2):
            pixels_of(reader.frames(), view, range(N), flow=source)
        assert source.submitted == 2 * (N - 1)
    extractors = [probe(2, stride=1), probe(2, frames=3, stride=2), probe(5, stride=1)]
    from tubelet.extraction import lanes

    opened = []
    original = lanes.open_source

    def remembered(*args, **kwargs):
        opened.append(original(*args, **kwargs))
        return opened[-1]

    lanes.open_source = remembered
    try:
        extract_video(video, extractors)
    finally:
        lanes.open_source = original
    assert [source.submitted for source in opened] == [N - 1]


def test_a_resampled_timeline_repeats_and_drops_frames(video):
    """Where a frame is shown twice nothing moves; where frames are dropped the motion adds up."""
    twice = probe(2, frames=4, stride=4)
    twice.window = WindowConfig(4, fps=Fraction(50))
    rows = clips_of(twice(video), 2)
    assert not rows[0][:, 0].any()
    assert rows[0][:, 1].any()
    half = probe(2, frames=4, stride=4)
    half.window = WindowConfig(4, fps=Fraction(25, 2))
    slow, fast = clips_of(half(video), 2)[0, :, 0], clips_of(probe(2)(video), 2)[0, :, 0]
    assert np.median(np.abs(slow)) == pytest.approx(2 * np.median(np.abs(fast)), rel=0.1)


def test_a_part_of_a_video_has_its_own_last_flow(video):
    part = probe(2)(video, start_s=0.0, end_s=0.16)
    rows, flows = clips_of(part, 2), expected_flows(video, probe(2).view)
    want = np.stack([flows[i][0, ::16, ::16] for i in (0, 1, 2, 2)]).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(rows[0], want)


def test_one_frame_has_no_flow(tmp_path):
    path = encode(moving.frames(moving.Affine(), 1), tmp_path / "one.mp4")
    with pytest.raises(VideoError, match=r"one\.mp4: optical flow needs two frames"):
        probe(2)(str(path))
    assert len(probe(3)(str(path)).values) == 1


def test_black_frames_do_not_move(video):
    extractor = probe(5)
    extractor.window = replace(extractor.window, tail="zero")
    rows = clips_of(extractor(video), 5)
    assert (rows[-1][:3, 2:] == -1).all()
    assert (rows[-1][3:, 2:] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(40, 90), st.integers(40, 90), st.sampled_from([32, 50, 70]), st.data())
def test_the_working_resolution_is_that_of_the_rgb_stream(height, width, short, data):
    """A crop of the whole resized frame is what the RGB stream makes of it."""
    crop = data.draw(st.integers(1, short))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    view = ViewConfig(short, crop, (0.0,) * 3, (1 / 255,) * 3, crops=3, resize="uint8")
    whole = resize(image, view).astype(np.float32)
    flow = np.stack([whole[..., 0]] * 2, axis=-1) / 127.5 - 1
    flow_view = replace(view, mean=HALF, std=HALF)
    levels = (prepare_flow(flow, flow_view)[..., 0] + 1) * 127.5
    np.testing.assert_allclose(levels, prepare(image, view)[..., 0], atol=1e-3)


def test_mirrored_views_move_the_other_way(video):
    with open_video(video) as reader:
        pictures = [frame.rgb() for frame in reader.frames()][:2]
    view = replace(view_config(probe(2).model.clip), flip=True)
    compute = create_method(flow_config("farneback"))
    seen = []
    for images in (pictures, [p[:, ::-1] for p in pictures]):
        a, b = (gray(np.ascontiguousarray(resize(p, view))) for p in images)
        seen.append(prepare_flow(unpack(pack(compute(a, b), DIS), DIS), view))
    plain, turned = seen
    np.testing.assert_allclose(plain[1], turned[0], atol=0.02)


def test_a_cache_gives_the_same_rows_and_is_used(video, tmp_path):
    fresh = probe(5)(video)
    for _ in range(2):
        kept = probe(5, cache=tmp_path)(video)
        np.testing.assert_array_equal(kept.values, fresh.values)
    (file,) = tmp_path.glob("*/*.npz")
    with np.load(file) as stored:
        assert stored["pairs"].tolist() == [[i, i + 1] for i in range(N - 1)]
        changed = {"pairs": stored["pairs"], "flow": np.zeros_like(stored["flow"])}
    np.savez_compressed(file, **changed)
    assert not clips_of(probe(2, cache=tmp_path)(video), 2).any()
    probe(2, cache=tmp_path, rounding="uint8")(video)
    probe(2, cache=tmp_path, method="farneback")(video)
    assert len(list(tmp_path.glob("*/key.json"))) == 3


def test_a_cache_grows_by_what_is_asked_of_it(video, tmp_path):
    probe(2, cache=tmp_path)(video, start_s=0.2)
    (file,) = tmp_path.glob("*/*.npz")
    with np.load(file) as stored:
        assert len(stored["pairs"]) == N - 1 - 5
    whole = probe(2, cache=tmp_path)(video)
    np.testing.assert_array_equal(whole.values, probe(2)(video).values)
    with np.load(file) as stored:
        assert len(stored["pairs"]) == N - 1


def test_a_damaged_cache_is_named(video, tmp_path):
    probe(2, cache=tmp_path)(video)
    (file,) = tmp_path.glob("*/*.npz")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged file of the flow cache"):
        probe(2, cache=tmp_path)(video)


def test_the_recipe_tells_how_flow_was_made(video):
    recipe = probe(2, rounding="uint8").recipe()
    assert recipe["flow"]["method"] == "dis"
    assert recipe["flow"]["rounding"] == "uint8"
    assert recipe["flow"]["opencv"]
    assert "flow" not in probe(3).recipe()
    assert "flow_cache" not in recipe


def test_single_frames_for_the_views_of_an_evaluation(video):
    view = probe(2).view
    flows = expected_flows(video, view)
    with open_video(video) as reader:
        source = open_source(DIS, reader.info, color="auto", cache=None)
        found = pixels_of(reader.frames(), view, {0, 4, N - 1}, flow=source)
    assert sorted(found) == [0, 4, N - 1]
    for index, pixels in found.items():
        np.testing.assert_array_equal(pixels, flows[index])
