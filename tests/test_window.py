"""Windows: counts, frame indices, padding, times; the streaming gatherer equals the plan."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.clips.gather import Gatherer
from tubelet.clips.windows import (
    BLACK,
    RowTimes,
    WindowConfig,
    count_rows,
    parse_fps,
    plan_windows,
    row_limit,
    row_times,
    timeline,
)
from tubelet.errors import UsageError
from tubelet.types import VideoInfo

RULES = ["drop", "pad", "loop", "zero", "backpad"]


def info(n, fps=Fraction(30)):
    return VideoInfo(
        path="made up",
        width=8,
        height=8,
        fps=fps,
        frames=n,
        duration_s=float(n / fps),
        start_s=0.0,
        codec="none",
        container="none",
        pixel_format="rgb24",
        rotation=0,
        backend="none",
        size_bytes=0,
    )


configs = st.builds(
    WindowConfig,
    frames=st.integers(1, 9),
    interval=st.integers(1, 4),
    stride=st.none() | st.integers(1, 40),
    tail=st.sampled_from(RULES),
)
published = st.builds(
    WindowConfig,
    frames=st.integers(1, 9),
    interval=st.integers(1, 4),
    stride=st.none() | st.integers(1, 40),
    length=st.none() | st.integers(33, 45),
    tail=st.sampled_from([*RULES, "backpad-open", "center", "center-zero", "center-mean"]),
)
seconds = st.builds(
    WindowConfig,
    frames=st.integers(1, 9),
    interval=st.integers(1, 4),
    length=st.integers(1, 40),
    tail=st.just("repeat-second"),
    fps=st.sampled_from([Fraction(5), Fraction(30)]),
    index=st.just("linspace"),
)


def test_the_picture_of_the_docstring():
    rows = plan_windows(info(19), WindowConfig(4, 2))
    assert [r.frames for r in rows] == [(0, 2, 4, 6), (8, 10, 12, 14), (16, 18, 18, 18)]
    assert [r.padded for r in rows] == [0, 0, 2]


@pytest.mark.parametrize(
    ("tail", "last", "real"),
    [
        ("pad", (16, 18, 18, 18), 2),
        ("loop", (16, 18, 16, 18), 2),
        ("zero", (16, 18, BLACK, BLACK), 2),
        ("backpad", (11, 13, 15, 17), 4),
        ("drop", (8, 10, 12, 14), 4),
    ],
)
def test_tail_rules(tail, last, real):
    row = plan_windows(info(19), WindowConfig(4, 2, tail=tail))[-1]
    assert (row.frames, row.real) == (last, real)


def test_padding_repeats_the_last_frame_even_where_no_window_samples_it():
    # 20 frames, every second one: the last frame is 19, which no offset reaches.
    assert plan_windows(info(20), WindowConfig(4, 2))[-1].frames == (16, 18, 19, 19)


@given(configs, st.integers(0, 300))
def test_counts_follow_the_contract(config, n):
    span, stride = config.span, config.step
    more = math.ceil(max(0, n - span) / stride)
    expected = {
        "drop": (n - span) // stride + 1 if n >= span else 0,
        "backpad": 1 + more if n else 0,
    }.get(config.tail, min(math.ceil(n / stride), 1 + more))
    assert count_rows(n, config) == expected == len(plan_windows(info(n), config))


@given(configs, st.integers(1, 300))
def test_windows_stay_on_the_timeline(config, n):
    for row in plan_windows(info(n), config):
        assert len(row.frames) == config.frames
        assert 1 <= row.real <= config.frames
        assert all(0 <= f < n for f in row.frames[: row.real])
        steps = np.diff(row.frames[: row.real])
        assert (steps == config.interval).all()
        assert all(f == BLACK or 0 <= f < n for f in row.frames)


@given(configs, st.integers(1, 300))
def test_every_frame_is_covered_without_overlap_gaps(config, n):
    """With stride = span and interval 1, pad and backpad lose no frame."""
    config = WindowConfig(config.frames, 1, tail=config.tail)
    seen = {f for row in plan_windows(info(n), config) for f in row.frames}
    if config.tail in ("pad", "loop", "zero", "backpad"):
        assert set(range(n)) <= seen


@given(st.integers(1, 200), st.sampled_from([Fraction(30), Fraction(30000, 1001), Fraction(25)]))
def test_resampling_to_the_own_rate_changes_nothing(n, fps):
    times = [float(i / fps) for i in range(n)]
    for rule in ("hold", "ffmpeg-near"):
        config = WindowConfig(4, fps=fps, resample=rule)
        assert list(timeline(times, float(n / fps), config)) == list(range(n))


def test_resampling_known_cases():
    times = [i / 30 for i in range(10)]
    half = WindowConfig(4, fps=Fraction(15))
    assert list(timeline(times, 10 / 30, half)) == [0, 2, 4, 6, 8]
    double = WindowConfig(4, fps=Fraction(60))
    assert list(timeline(times, 10 / 30, double)) == [i // 2 for i in range(20)]
    one_long_frame = WindowConfig(4, fps=Fraction(10))
    assert list(timeline([0.0], 0.35, one_long_frame)) == [0, 0, 0, 0]
    assert list(timeline([0.0], 0.01, one_long_frame)) == [0]


@dataclass
class Numbered:
    index: int
    time_s: float
    duration_s: float

    def rgb(self):
        return np.full((1, 1, 3), self.index % 256, np.uint8)


spread = st.builds(
    WindowConfig,
    frames=st.integers(1, 9),
    interval=st.integers(1, 4),
    rows=st.integers(1, 30),
    tail=st.just("uniform"),
)


@st.composite
def clocks(draw):
    """Rising times with uneven gaps, and when the last frame ends."""
    gaps = draw(st.lists(st.integers(1, 90), min_size=1, max_size=80))
    ticks = np.cumsum([draw(st.integers(0, 50)), *gaps])
    return [t / 600 for t in ticks[:-1]], ticks[-1] / 600


@settings(deadline=None, max_examples=400)
@given(
    configs | published | seconds | spread,
    clocks(),
    st.none() | st.sampled_from([Fraction(7), Fraction(30), Fraction(24000, 1001)]),
    st.sampled_from(["hold", "ffmpeg-near"]),
    st.none() | st.floats(0.01, 10),
)
def test_the_stream_equals_the_plan(config, clock, fps, rule, stream_s):
    """Frames pushed one by one give the rows of the plan, and each is prepared at most once."""
    times, end_s = clock
    config = replace(config, fps=config.fps or fps, resample=rule)
    prepared = []

    def prepare(frame, _):
        prepared.append(frame.index)
        return frame.index

    limit = row_limit(stream_s, config)
    total = None if config.rows is None else len(timeline(times, end_s, config))
    gatherer = Gatherer(
        config, prepare=prepare, black=BLACK, native_fps=Fraction(30), limit=limit, total=total
    )
    rows = []
    for i, t in enumerate(times):
        until = times[i + 1] if i + 1 < len(times) else end_s
        rows.extend(gatherer.feed(Numbered(i, t, until - t)))
    rows.extend(gatherer.finish())

    promised = replace(info(len(times)), stream_s=stream_s)
    plan = plan_windows(promised, config, times, end_s)
    assert [r.window for r in rows] == plan
    assert [tuple(r.pixels) for r in rows] == [w.frames for w in plan]
    spans = [RowTimes(r.start_s, r.end_s, r.center_s) for r in rows]
    assert spans == row_times(plan, times, end_s, config)
    assert len(prepared) == len(set(prepared))
    for row in rows:
        assert row.start_s < row.end_s
        if config.fps is None:
            shown = [f for f in row.window.frames if f != BLACK]
            assert row.start_s == times[shown[0]]
            assert row.end_s == [*times[1:], end_s][max(shown)]


def spans_of(n, config, fps=25):
    return row_times(plan_windows(info(n), config), [i / fps for i in range(n)], n / fps, config)


@pytest.mark.parametrize("tail", ["center", "center-zero", "center-mean"])
def test_a_row_around_a_frame_is_at_that_frame_also_at_the_edges(tail):
    """Half of 16 frames lie before frame k: their centre is where it appears."""
    found = [t.center_s for t in spans_of(40, WindowConfig(16, stride=1, tail=tail))]
    assert found == pytest.approx([k / 25 for k in range(40)])
    odd = [t.center_s for t in spans_of(40, WindowConfig(15, stride=1, tail=tail))]
    assert odd == pytest.approx([(k + 0.5) / 25 for k in range(40)])
    far = [t.center_s for t in spans_of(40, WindowConfig(4, 3, stride=8, tail=tail))]
    assert far == pytest.approx([k / 25 for k in range(4, 40, 8)])


def test_a_repeated_last_frame_counts_where_no_window_samples_it():
    # Frames 16 18 19 19: the display of frame 19 ends at 20 / 25 s.
    assert spans_of(20, WindowConfig(4, 2))[-1] == RowTimes(16 / 25, 20 / 25, 18 / 25)
    assert spans_of(20, WindowConfig(4, 2, tail="zero"))[-1].end_s == 19 / 25
    assert spans_of(20, WindowConfig(4, 2, tail="loop"))[-1].end_s == 19 / 25


@settings(deadline=None)
@given(configs | published | seconds, st.integers(500, 700))
def test_held_frames_do_not_grow_with_the_video(config, n):
    gatherer = Gatherer(config, prepare=lambda f, _: f.index, black=BLACK, native_fps=Fraction(30))
    most = 0
    for i in range(n):
        for _ in gatherer.feed(Numbered(i, i / 30, 1 / 30)):
            pass
        most = max(most, len(gatherer._held))
    second = int(config.fps) if config.tail == "repeat-second" else 0
    assert most <= 2 * max(config.span, config.reach) + config.step + second


@pytest.mark.parametrize(
    "bad",
    [
        {"frames": 0},
        {"frames": 4, "interval": 0},
        {"frames": 4, "stride": -1},
        {"frames": 4, "tail": "mirror"},
        {"frames": 4, "fps": Fraction(0)},
    ],
)
def test_bad_configurations_name_the_rule(bad):
    with pytest.raises(UsageError, match="must"):
        WindowConfig(**bad)


def test_fps_texts():
    assert parse_fps("native") is None
    assert parse_fps("30000/1001") == Fraction(30000, 1001)
    for bad in ("fast", "1/0", ""):
        with pytest.raises(UsageError, match="native"):
            parse_fps(bad)
