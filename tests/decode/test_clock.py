"""Timestamps -> times: always later than the frame before, and true wherever PTS are."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.decode.clock import Clock, DecodeOrder, DisplayOrder
from tubelet.types import DecodeEvents

RATE = Fraction(25)
STEP = 1 / RATE


@dataclass
class Stamped:
    """A packet or a frame."""

    dts: int | None
    pts: int | None = None
    is_keyframe: bool = True
    key_frame: bool = False


def times(stamps, *, start=Fraction(0)):
    events = DecodeEvents()
    clock = Clock(start=start, rate=RATE, events=events)
    pairs = zip(stamps, [*stamps, None][1:], strict=True)
    return [clock.time(s, after=after) for s, after in pairs], events.bad_timestamps


seconds = st.fractions(min_value=-10, max_value=10**7, max_denominator=90_000)


@settings(max_examples=50)
@given(st.lists(st.none() | seconds, max_size=30), seconds)
def test_times_increase_whatever_the_stamps(stamps, start):
    got, bad = times(stamps, start=start)
    assert all(a < b for a, b in pairwise(got))
    assert bad >= sum(stamp is None for stamp in stamps)
    assert len(got) - bad == sum(
        stamp is not None and stamp - start == time for stamp, time in zip(stamps, got, strict=True)
    )


@settings(max_examples=30)
@given(st.lists(seconds.map(lambda s: s % 1000), unique=True, min_size=1, max_size=20))
def test_increasing_stamps_are_kept(stamps):
    stamps.sort()
    assert times(stamps, start=stamps[0]) == ([s - stamps[0] for s in stamps], 0)


def test_no_stamps_at_all_is_index_over_rate():
    assert times([None] * 100) == ([i * STEP for i in range(100)], 100)


def test_one_bad_stamp_does_not_move_the_others():
    stamps = [i * STEP for i in range(20)]
    for bad in (stamps[6], stamps[3], None, Fraction(10**6), Fraction(3600)):
        got, count = times([*stamps[:7], bad, *stamps[8:]])
        assert count == 1
        assert got[:7] + got[8:] == stamps[:7] + stamps[8:]


def test_a_clock_set_back_goes_on_at_the_average_rate():
    got, bad = times([100 + i * STEP for i in range(10)] + [i * STEP for i in range(500)])
    assert bad == 500
    assert got[-1] - got[9] > Fraction(480) * STEP
    assert got[-1] - got[-101] == 100 * STEP


def test_decode_order_gives_each_frame_the_next_place():
    order = DecodeOrder()
    for dts in (0, 1, 3, 4):
        order.sent(Stamped(dts), delayed=True)
    assert [order.shown(Stamped(None)) for _ in range(5)] == [0, 1, 3, 4, None]


def test_the_place_of_a_packet_without_a_frame_goes_with_it():
    """A decoder that reorders nothing gives each packet's frame at once."""
    order, shown = DecodeOrder(), []
    for dts in range(6):
        order.sent(Stamped(dts), delayed=False)
        if dts not in (2, 3):
            shown.append(order.shown(Stamped(None)))
    assert shown == [0, 1, 4, 5]


def test_places_before_the_first_key_frame_go_when_it_is_the_first_shown():
    order = DecodeOrder()
    for dts, is_key in enumerate([False, False, True, False]):
        order.sent(Stamped(dts, is_keyframe=is_key), delayed=True)
    assert [order.shown(Stamped(None, key_frame=k)) for k in (True, False)] == [2, 3]


def test_best_effort_takes_what_goes_back_less_often():
    """PTS = DTS of a stream with B-frames: FFmpeg then times frames by DTS."""
    order = DisplayOrder()
    pts = [0, 2, 1, 4, 3, 6, 5]
    frames = [Stamped(k + 1, pts=p) for k, p in enumerate(pts)]
    assert [order.shown(frame) for frame in frames] == [0, 2, 3, 4, 5, 6, 7]


def test_a_long_pause_is_kept():
    stamps = [Fraction(0), STEP, Fraction(3600), 3600 + STEP]
    assert times(stamps) == (stamps, 0)
    assert times(stamps[:3]) == (stamps[:3], 0)
