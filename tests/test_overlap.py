"""The thread that decodes ahead: order, bounds, errors, early ends."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import TinyModel
from tubelet.extraction.extractor import Extractor
from tubelet.extraction.pipeline import Batches, extract_video, record_video
from tubelet.extraction.recording import Source
from tubelet.machine.prefetch import prefetch


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=50), st.integers(1, 4))
def test_same_items_in_the_same_order(items, ahead):
    assert list(prefetch(iter(items), ahead)) == items


def test_it_runs_ahead_by_a_bounded_amount():
    made = []
    enough = threading.Event()

    def source():
        for i in range(100):
            made.append(i)
            if i == 3:
                enough.set()
            yield i

    consumer = prefetch(source(), ahead=2)
    assert next(consumer) == 0
    assert enough.wait(10)  # one taken, two waiting, one offered
    assert len(made) == 4
    consumer.close()
    assert len(made) <= 5


def test_an_error_arrives_after_what_came_before_it():
    def source():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    consumer = prefetch(source())
    assert [next(consumer), next(consumer)] == [1, 2]
    with pytest.raises(OSError, match="disk is gone"):
        next(consumer)


def test_an_early_end_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            yield from range(1000)
        finally:
            closed.set()

    consumer = prefetch(source())
    next(consumer)
    consumer.close()
    assert closed.is_set()
    assert not any(t.name == "tubelet-decode" for t in threading.enumerate())


def test_rows_are_the_same_bytes_as_without_the_thread(tmp_path):
    path = "synthetic:frames=75,fps=30,width=64,height=48"
    plain = extract_video(path, [Extractor(TinyModel())])[0]
    batches = Batches([Extractor(TinyModel())])
    recordings = record_video(Source(path), batches, ahead=prefetch)
    batches.flush()
    beside = recordings[0].features()
    assert len(plain.values) > 5
    assert plain.values.tobytes() == beside.values.tobytes()
    assert plain.end_s.tobytes() == beside.end_s.tobytes()
