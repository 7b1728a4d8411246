"""What a run's stages do with their time."""

import pytest

from tubelet.machine import timing as meter
from tubelet.machine.timing import COUNTERS, Timer, Works, in_words


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when told to."""
    now = [1.0]
    monkeypatch.setattr(meter.time, "perf_counter_ns", lambda: int(now[0] * 1e9))
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def slow(clock):
    for k in range(3):
        clock(2)
        yield k


def test_a_run(clock):
    """Time of the producer is its own, that of the consumer is not."""
    one, works = Timer(), Works()
    assert works.now() is None
    one.count("model", 7)  # before the run
    works.follow(one.read, {"decode": 2})
    assert works.now() is None
    for _ in one.each("decode", slow(clock)):
        with one.timed("model"):
            clock(3)
        one.count("decode", 30)
        one.count("model", 1)
    one.count("store", 3_000_000)
    work = works.now()
    assert work.wall_s == 15
    assert work.busy == pytest.approx({"fetch": 0, "decode": 0.2, "model": 0.6, "store": 0})
    assert work.per_s == pytest.approx({"fetch": 0, "decode": 6, "model": 0.2, "store": 0.2})
    assert in_words(work.plain()) == (
        "decode 6 frames/s, busy 20%; model 0.2 rows/s, busy 60%; store 0.2 MB/s, busy 0%: "
        "model is the limit"
    )
    clock(15)
    assert works.now().bound_by is None
    assert in_words(works.now().plain()).endswith(": no stage was busy for half of the time")


def test_what_another_process_took():
    one, other, cells = Timer(), Timer(), [0] * COUNTERS
    other.share(cells)
    for units in (2, 3):
        other.count("decode", units)
        one.add(other.take())
    assert one.read() == cells == other.read()
    assert other.take() == [0] * COUNTERS
