"""Timestamps -> times: always later than the frame before, and true wherever PTS are."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.decode.clock import Clock, DecodeOrder
from tubelet.types import DecodeEvents

RATE = Fraction(25)
STEP = 1 / RATE


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
    class Stamped:
        pts = None

        def __init__(self, dts):
            self.dts = dts

    order = DecodeOrder()
    for dts in (0, 1, 3, 4):
        order.sent(Stamped(dts))
    assert [order.shown(Stamped(None)) for _ in range(5)] == [0, 1, 3, 4, None]


def test_a_long_pause_is_kept():
    stamps = [Fraction(0), STEP, Fraction(3600), 3600 + STEP]
    assert times(stamps) == (stamps, 0)
    assert times(stamps[:3]) == (stamps[:3], 0)
