"""What a Ray run hands out, what its processes say to each other, and the error without Ray."""

import sys
import threading

import numpy as np
import pytest
from click.testing import CliRunner

from tests_support import tiny, video
from tubelet.cli import group
from tubelet.clips.windows import WindowConfig
from tubelet.errors import UsageError
from tubelet.extraction.lanes import Here, open_here
from tubelet.extraction.recording import Source, Tally
from tubelet.inputs import Input
from tubelet.inputs.local import Openers
from tubelet.machine import prefetch as overlap
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.run.parts.units import GROUP_VIDEOS, busy_workers, groups
from tubelet.run.ray.messages import (
    BEAT,
    DecodeRequest,
    RemoteReading,
    decode,
    packed,
    unpacked,
    with_beats,
)


def test_groups(tmp_path):
    """Longest first; long files begin with their plan; short ones go together, within limits."""
    for k in range(40):
        (tmp_path / f"{k}").touch()
    items = [Input(str(k), str(tmp_path / str(k))) for k in range(40)]
    seconds = [1000.0, 50.0, 40.0, *[1.0] * 36, None]
    units = groups(items, seconds, part_s=300)
    assert [(u.step, len(u.items)) for u in units[:2]] == [("plan", 1), ("whole", 1)]
    assert units[0].items == (items[0],)
    assert sorted(i.id for u in units for i in u.items) == sorted(i.id for i in items)
    assert max(len(u.items) for u in units) == GROUP_VIDEOS
    assert groups(items[:1], [1000.0], part_s=501)[0].step == "whole"
    assert groups([Input("gone", "nowhere")], [1000.0], part_s=1)[0].step == "whole"


def test_every_worker_gets_something(tmp_path):
    """A few short videos are spread, and one long video is work for all."""
    (tmp_path / "long").touch()
    short = [Input(str(k), "x") for k in range(5)]
    units = groups(short, [1.0] * 5, part_s=300, workers=3)
    assert [len(u.items) for u in units] == [2, 2, 1]
    assert busy_workers(units, 8) == 3
    assert busy_workers(groups([Input("long", str(tmp_path / "long"))], [900.0], 300, 8), 8) == 8


def test_a_frame_is_sent_once(tmp_path):
    path = str(video(tmp_path / "a.mp4", frames=20))
    lane = tiny(window=WindowConfig(4, stride=1)).lane
    with open_here(Source(path), [lane], Tally()) as reading:
        assert isinstance(reading, Here)
        rows = [row for _, row in reading.rows()]
    sent, before, there = 0, [], []
    for row in rows:
        message = packed(row, before)
        sent += 0 if message[3] is None else len(message[3])
        again = unpacked(message, there)
        before, there = row.pixels, again.pixels
        assert (again.window, again.start_s, again.end_s) == (row.window, row.start_s, row.end_s)
        assert all(np.array_equal(a, b) for a, b in zip(again.pixels, row.pixels, strict=True))
    assert sent == 20


def test_a_distant_video_is_the_video(tmp_path):
    path = str(video(tmp_path / "a.mp4", frames=20))
    lane, tally, here = tiny().lane, Tally(), Tally()
    errand = DecodeRequest(Input("a", path), Source(path), [lane])
    distant = RemoteReading(decode(errand, Openers()), tally)
    rows = list(distant.rows())
    with open_here(Source(path), [lane], here) as reading:
        assert len(list(reading.rows())) == len(rows)
        assert (distant.info, distant.events) == (reading.info, reading.events)
    assert distant.ended
    assert (tally.decoded, tally.frame) == (here.decoded, here.frame)


def test_errors_come_through_with_their_stage(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    path, tally = str(tmp_path / "a.mp4"), Tally()
    errand = DecodeRequest(Input("a", path), Source(path), [tiny().lane])
    with pytest.raises(Exception, match="not a video") as caught:
        RemoteReading(decode(errand, Openers()), tally)
    assert type(caught.value).__name__ == "NotAVideo"
    assert tally.stage == "open"


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("tubelet.run.ray")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match=r"pip install 'tubelet\[ray\]'"):
        import tubelet.run.ray  # noqa: F401


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ray-address", "auto"), "--ray-address is for --engine ray"),
        (("--part-seconds", "9"), "--part-seconds is for --engine ray"),
        (("--engine", "ray", "--device", "cpu,cpu"), "say --device cpu --workers 2"),
    ],
)
def test_options_in_vain_are_refused(tmp_path, options, says):
    arguments = ("extract", "synthetic:frames=9", "-o", str(tmp_path / "out"), *options)
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_decoder_that_moves_says_so(monkeypatch):
    """Also while it has no row to give; one that hangs says nothing."""
    monkeypatch.setattr(overlap, "QUIET_S", 0.01)
    go_on = threading.Event()

    def rows():
        yield "row", 1
        HEARTBEAT.beat()
        go_on.wait()
        yield "row", 2

    messages = with_beats(rows())
    assert next(messages) == ("row", 1)
    HEARTBEAT.beat()
    assert next(messages) == BEAT
    go_on.set()
    assert list(messages) == [("row", 2)]
