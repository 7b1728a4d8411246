"""Presets: published examples, and row by row against each convention's arithmetic written anew."""

import json
import math
from dataclasses import astuple
from fractions import Fraction

import av
import av.error
import av.filter
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests_support import tiny
from tubelet.cli import group
from tubelet.clips.windows import BLACK, WindowConfig, count_rows, plan_windows, row_times, timeline
from tubelet.errors import UnknownName, UsageError
from tubelet.models import zoo
from tubelet.presets import PRESETS, find
from tubelet.rows.align import Track, rows_in
from tubelet.types import ClipSpec, VideoInfo

CLIP = "synthetic:frames=100,fps=30,width=64,height=48"
MODEL = ClipSpec(frames=8, interval=8, short_side=256, crop=256)


def info(n, fps=Fraction(30), stream_s=None):
    return VideoInfo(
        path="made up",
        width=8,
        height=8,
        fps=fps,
        frames=n,
        duration_s=None,
        start_s=0.0,
        codec="none",
        container="none",
        pixel_format="rgb24",
        rotation=0,
        backend="none",
        size_bytes=0,
        stream_s=stream_s,
    )


def rows_of(name, n, *, fps=None, stream_s=None):
    """Frame indices of every window of a video of n frames at the preset's own rate."""
    config = find(name).window(MODEL)
    rate = config.fps or fps or Fraction(30)
    times = [float(i / rate) for i in range(n)]
    plan = plan_windows(info(n, fps or rate, stream_s), config, times, float(n / rate))
    return [list(row.frames) for row in plan]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_is_complete_and_consistent(preset):
    n, rows = preset.example
    assert count_rows(n, preset.window(MODEL)) == rows
    assert preset.sources
    assert all(source.startswith("https://") for source in preset.sources)
    assert preset.exact
    assert preset.unsure
    preset.view(MODEL)


def test_every_model_exists():
    for preset in PRESETS.values():
        for name in preset.models:
            assert zoo.find(name) if "." in name else name in zoo.table().archs
        assert preset.needs_weights == (zoo.find(preset.models[0]) is None)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownName, match="qvhighlights-slowfast"):
        find("qvhighlights")


def test_the_published_example_of_ego4d():
    assert [(r[0], r[-1]) for r in rows_of("ego4d-slowfast-r101", 39)] == [(0, 31), (7, 38)]
    assert rows_of("ego4d-slowfast-r101", 39)[1] == list(range(7, 39))


def test_published_row_counts():
    assert len(rows_of("qvhighlights-slowfast", 4500, stream_s=150.0)) == 75
    # EPIC-Kitchens-100 P01_01: 1652.15 s at 30 fps; the published array is (3097, 2304).
    assert (
        count_rows(math.ceil(1652.152817 * 30), find("epic-kitchens-slowfast").window(MODEL))
        == 3097
    )
    # ActionFormer issue 5: the file has 1269 rows, the script's formula gives 1270.
    assert len(rows_of("thumos-i3d", 5094)) == 1270
    # wtalc-pytorch issue 5.
    assert len(rows_of("weakly-supervised-i3d", 201)) == 12
    # De La Jara et al.: 9000 frames in windows of 8; the original lost the last one.
    assert len(rows_of("tvg-2023", 9000)) == 1125


def hero_clips(n, clip_s, duration, native_fps):
    """The HERO extractor on frame numbers: pad to seconds, to clips, cut, sample."""
    torch = pytest.importorskip("torch")
    frames = torch.arange(n)
    if n % 30:
        frames = torch.cat([frames, frames[-1:].repeat(30 - n % 30)])
    seconds = frames.view(-1, 30)
    unit = Fraction(clip_s).numerator
    if len(seconds) % unit:
        seconds = torch.cat([seconds, seconds[-1:].repeat(unit - len(seconds) % unit, 1)])
    clips = seconds.reshape(-1, int(clip_s * 30))
    if duration is not None:
        clips = clips[: math.ceil(duration / float(clip_s))]
    size = 32 * 2 * math.floor(native_fps) / 30
    start = max(clips.shape[1] - size, 0) * 0 / 1
    index = torch.linspace(start, start + size - 1, 32)
    index = torch.clamp(index, 0, clips.shape[1] - 1).long()
    return clips[:, index].tolist()


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(
        [("qvhighlights-slowfast", "2"), ("hero-slowfast", "3/2"), ("charades-sta-slowfast", "1")]
    ),
    st.integers(1, 400),
    st.sampled_from(
        [
            Fraction(30),
            Fraction(25),
            Fraction(30000, 1001),
            Fraction(24000, 1001),
            Fraction(60),
            Fraction(12),
        ]
    ),
    st.integers(-20, 20) | st.none(),
)
def test_hero_features_frame_by_frame(preset, n, native_fps, off_by):
    """off_by: how far, in hundredths of a second, the header's duration is from the frames'."""
    name, clip_s = preset
    duration = None if off_by is None else max(0.01, round(n / 30 + off_by / 100, 6))
    got = rows_of(name, n, fps=native_fps, stream_s=duration)
    want = hero_clips(n, Fraction(clip_s), duration, native_fps)
    # Without a duration the original adds rows that only repeat: not made here.
    real = math.ceil(n / (Fraction(clip_s) * 30))
    assert got == want[:real]
    assert all(row == want[real] for row in want[real:])


def vslnet_windows(n, stride):
    rows = []
    for start in range(0, n, stride):
        end = min(n - 1, start + stride)
        if end - start < stride:
            start = max(0, end - stride)
        rows.append(list(range(start, end)))
    return rows


@settings(deadline=None)
@given(
    st.sampled_from([("charades-sta-i3d", 24), ("anet-captions-i3d", 16), ("tacos-i3d", 16)]),
    st.integers(1, 500),
)
def test_vslnet_windows_frame_by_frame(preset, n):
    name, stride = preset
    got, want = rows_of(name, n), vslnet_windows(n, stride)
    assert len(got) == len(want)
    if n > stride:
        assert got == want


def script_of_actionformer(n, chunk=16, frequency=4):
    length = (n - chunk) // frequency * frequency
    return [[i * frequency + j for j in range(chunk)] for i in range(length // frequency + 1)]


def stacks_of_video_features(n, stack=24, step=8):
    """A stack is used when it holds stack + 1 frames; `step` frames are dropped after each."""
    waiting, rows = [], []
    for frame in range(n):
        waiting.append(frame)
        if len(waiting) - 1 == stack:
            rows.append(waiting[:-1])
            waiting = waiting[step:]
    return rows


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 4), st.integers(1, 20))
def test_center_is_the_untrimmed_sampling_of_mmaction2(n, frames, interval, stride):
    centres = np.arange(stride // 2, n, stride)
    around = np.arange(-(frames // 2) * interval, interval * (frames - frames // 2), interval)
    want = np.clip(centres[:, None] + around, 0, n - 1).tolist()
    config = WindowConfig(frames, interval, stride, tail="center")
    assert [list(row.frames) for row in plan_windows(info(n), config)] == want


def clips_of_mmaction2(n, clips=100, frames=8, interval=8):
    room = max(n - ((frames - 1) * interval + 1), 0)
    starts = np.round(np.arange(clips) * (room / float(clips - 1))).astype(int)
    return np.mod(starts[:, None] + np.arange(frames) * interval, n).tolist()


def back_padded(n, window=32, stride=16):
    """Windows from every stride-th frame; the one that would pass the end is moved back."""
    rows, start = [], 0
    while True:
        if start + window >= n:
            rows.append(list(range(max(0, n - window), n)))
            return rows
        rows.append(list(range(start, start + window)))
        start += stride


def padded(window, stride):
    """Windows from every stride-th frame until one holds the last, which is repeated."""

    def rows(n):
        found = [[0]]
        while found[-1][-1] < n - 1 or len(found[-1]) < window:
            start = stride * len(found) if len(found[-1]) == window else 0
            row = [min(start + i, n - 1) for i in range(window)]
            found = [row] if len(found[-1]) < window else [*found, row]
        return found

    return rows


def full(window, stride):
    """Full windows only."""
    return lambda n: [
        list(range(start, start + window)) for start in range(0, n, stride) if start + window <= n
    ]


def around_of_ms_tcn(n):
    return [[f if 0 <= f < n else BLACK for f in range(t - 10, t + 11)] for t in range(n)]


def around_of_tridivb(n, size=32, step=1):
    """Slots that no frame fills stay zero."""
    rows = []
    for index in range(n):
        slots = [BLACK] * size
        start, end = int(index - step * size / 2), int(index + step * size / 2)
        for slot, frame in enumerate(range(start, end, step)):
            if 0 <= frame <= n - 1:
                slots[slot] = frame
        rows.append(slots)
    return rows


def chunks_of_the_model(n, size=8):
    """De La Jara et al., without the faults: every frame once, the end filled with the last."""
    frames = list(range(n)) + [n - 1] * (-n % size)
    return [frames[i : i + size] for i in range(0, len(frames), size)]


def hero(clip_s):
    return lambda n: hero_clips(n, Fraction(clip_s), None, 30)[: math.ceil(n / (clip_s * 30))]


# name: (fewest frames for which the original's own arithmetic holds, frames of its rows)
ANEW = {
    "ego4d-slowfast-r101": (32, back_padded),
    "epic-kitchens-slowfast": (32, back_padded),
    "thumos-i3d": (16, script_of_actionformer),
    "thumos-slowfast-r50": (1, padded(32, 4)),
    "thumos-slowfast-r101": (1, padded(32, 4)),
    "anet-i3d": (1, full(16, 16)),
    "anet-slowfast-r50": (1, padded(32, 8)),
    "anet-slowfast-r101": (1, padded(32, 8)),
    "hacs-slowfast-r101": (1, padded(32, 8)),
    "hacs-slowonly": (1, clips_of_mmaction2),
    "unav-i3d": (1, stacks_of_video_features),
    "weakly-supervised-i3d": (1, full(16, 16)),
    "xd-violence-i3d": (1, full(16, 16)),
    "ms-tcn-i3d": (1, around_of_ms_tcn),
    "charades-i3d": (1, full(16, 8)),
    "slowfast-every-frame": (1, around_of_tridivb),
    "qvhighlights-slowfast": (1, hero(2)),
    "hero-slowfast": (1, hero(Fraction(3, 2))),
    "charades-sta-slowfast": (1, hero(1)),
    "anet-captions-slowfast": (1, hero(2)),
    "tacos-slowfast": (1, hero(2)),
    "charades-sta-i3d": (25, lambda n: vslnet_windows(n, 24)),
    "anet-captions-i3d": (17, lambda n: vslnet_windows(n, 16)),
    "tacos-i3d": (17, lambda n: vslnet_windows(n, 16)),
    "tvg-2023": (1, chunks_of_the_model),
}


def test_every_preset_is_written_anew():
    assert set(ANEW) == set(PRESETS)


@pytest.mark.parametrize("name", ANEW)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_windows_frame_by_frame(name, data):
    fewest, anew = ANEW[name]
    n = data.draw(st.integers(fewest, 250))
    assert rows_of(name, n) == anew(n)


def test_what_fills_a_window_around_a_frame_is_zero_behind_the_normalisation():
    window = WindowConfig(frames=4, stride=1, tail=find("slowfast-every-frame").tail)
    rows = [row for row, _ in tiny(window=window).stream(CLIP)]
    assert [rows[0].window.frames, rows[-1].window.frames] == [(-1, -1, 0, 1), (97, 98, 99, -1)]
    assert not np.any(rows[0].pixels[0])
    assert np.all(rows[0].pixels[2] == rows[2].pixels[0])
    assert np.any(rows[0].pixels[2])


def test_consumers_place_a_row_per_frame_at_its_frame():
    for name in ("ms-tcn-i3d", "slowfast-every-frame"):
        preset = find(name)
        n, fps = 300, 25
        spans = row_times(
            plan_windows(info(n), preset.window(MODEL)),
            [i / fps for i in range(n)],
            n / fps,
            preset.window(MODEL),
        )
        start, end, center = np.array([astuple(span) for span in spans]).T
        track = Track(start, end, n / fps, center)
        for frame in (0, 3, 150, 299):
            assert rows_in(track, frame / fps, (frame + 1) / fps, preset.offset) == (
                frame,
                frame + 1,
            )


def fps_filter(stamps, unit, last, rate):
    """FFmpeg's own `fps` filter on numbered frames: the numbers that come out."""
    graph = av.filter.Graph()
    size = f"video_size=16x2:pix_fmt=gray:time_base={unit.numerator}/{unit.denominator}"
    source = graph.add("buffer", f"{size}:pixel_aspect=1/1")
    change = graph.add("fps", f"fps={rate.numerator}/{rate.denominator}")
    sink = graph.add("buffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    numbers = []

    def drain():
        while True:
            try:
                picture = sink.pull().to_ndarray()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            numbers.append(int(picture[0, 0]))

    for number, stamp in enumerate(stamps):
        frame = av.VideoFrame.from_ndarray(np.full((2, 16), number, np.uint8), format="gray")
        frame.pts, frame.time_base = stamp, unit
        frame.duration = stamps[number + 1] - stamp if number + 1 < len(stamps) else last
        source.push(frame)
        drain()
    source.push(None)
    drain()
    return numbers


units = [Fraction(1, d) for d in (600, 1000, 12800, 15360, 90000)] + [Fraction(1001, 30000)]
rates = [Fraction(r) for r in (7, 15, 24, 25, 30)] + [Fraction(30000, 1001), Fraction(24000, 1001)]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(units), st.sampled_from(rates), st.booleans(), st.integers(0, 99), st.data())
def test_ffmpeg_near_is_ffmpegs_fps_filter(unit, rate, constant, first, data):
    sixtieth = max(1, int(1 / unit / 60))
    if constant:
        gaps = [data.draw(st.integers(1, 5)) * sixtieth] * data.draw(st.integers(1, 90))
    else:
        gaps = data.draw(st.lists(st.integers(1, 8 * sixtieth), min_size=1, max_size=60))
    stamps = [first + sum(gaps[:i]) for i in range(len(gaps))]
    want = fps_filter(stamps, unit, gaps[-1], rate)
    config = WindowConfig(1, fps=rate, resample="ffmpeg-near")
    times = [float(stamp * unit) for stamp in stamps]
    got = list(timeline(times, float((stamps[-1] + gaps[-1]) * unit), config))
    # The filter gives nothing at all for a video that is over before its first tick.
    assert got == (want or [len(gaps) - 1][:1])


def test_inception_keeps_two_times_of_24_frames():
    """Why the Charades-STA files of VSLNet have two rows per window, and the S16 ones have one."""
    torch = pytest.importorskip("torch")
    from tubelet.models.registry import create_model

    model = create_model("i3d_inception_rgb_imagenet", weights=None)
    with torch.inference_mode():
        for frames, times in ((24, 2), (16, 1)):
            clip = torch.zeros(1, 3, frames, 64, 64)
            assert model.features(clip, taps=("grid",))["grid"].shape[2] == times


def invoke(*arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_plan_applies_a_preset_and_what_overrides_it():
    def windows(*options):
        done = invoke("plan", CLIP, "--rows", "--json", *options)
        assert done.return_value == 0, done.exception
        return [row["frames"] for row in json.loads(done.stdout)["windows"]]

    assert windows("--preset", "ego4d-slowfast-r101") == back_padded(100)
    assert windows("--preset", "ego4d-slowfast-r101", "--stride", 40) == back_padded(100, stride=40)
    assert windows("--preset", "qvhighlights-slowfast") == hero_clips(100, 2, None, 30)
    assert windows("--preset", "hacs-slowonly") == clips_of_mmaction2(100)
    shorter = windows("--preset", "tvg-2023", "-m", "x3d_m.k400")
    assert shorter[0] == list(range(16))
    assert len(shorter) == 7


def test_mistakes_with_presets():
    assert isinstance(invoke("plan", CLIP, "--preset", "qvhighlight").exception, UnknownName)
    rule = invoke("plan", CLIP, "--preset", "hero-slowfast", "--stride", 7).exception
    assert isinstance(rule, UsageError)
    assert "repeat-second" in str(rule)
    missing = invoke("extract", CLIP, "-o", "nowhere", "--preset", "epic-kitchens-slowfast")
    assert "--weights" in str(missing.exception)


def test_extract_says_in_the_recipe_which_preset_and_what_overrides_it(tmp_path):
    torch = pytest.importorskip("torch")
    from tubelet.models.registry import create_model
    from tubelet.models.weights.load import save

    torch.manual_seed(0)
    save(create_model("x3d_xs", weights=None), tmp_path / "w.safetensors", metadata={})
    shared = ["extract", "synthetic:frames=13,fps=30,width=64,height=48", "--preset", "tvg-2023"]
    shared += ["-m", "x3d_xs", "--weights", tmp_path / "w.safetensors"]
    plain, short = tmp_path / "plain", tmp_path / "short"
    assert invoke(*shared, "-o", plain).return_value == 0
    assert invoke(*shared, "-o", short, "--tail", "drop", "--crop", "160").return_value == 0
    recipes = [json.loads((out / "tubelet.json").read_text())["recipe"] for out in (plain, short)]
    assert recipes[0]["preset"] == "tvg-2023 (but models)"
    assert recipes[1]["preset"] == "tvg-2023 (but crop, models, tail)"
    assert recipes[0]["window"] | {"tail": "drop"} == recipes[1]["window"]
    assert recipes[0]["window"]["interval"] == 1
    rows = [np.load(next(out.glob("*.npy"))) for out in (plain, short)]
    assert [len(values) for values in rows] == [4, 3]
    np.testing.assert_array_equal(rows[0][:3], rows[1])
