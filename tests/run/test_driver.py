"""The driver over a pool that a test plays: what it gives out, and when it gives up."""

import pytest

from tests_support import Heard, failures
from tubelet.errors import StoreError
from tubelet.inputs import Input
from tubelet.machine.heartbeat import NO_SIGN
from tubelet.machine.timing import COUNTERS, Works
from tubelet.run.driver import ATTEMPTS, Driver
from tubelet.run.job import Job, Outcome
from tubelet.run.out import Target, open_out
from tubelet.run.parts.units import WorkUnit

TARGETS = [Target("", {"model": "made up"}, {})]


class Played:
    """A pool whose workers answer each unit with `answer(unit)`: events, the last one ends it."""

    def __init__(self, answer):
        self.answer, self.units, self.started, self.busy = answer, [], 0, []

    def start(self, place):
        self.started += 1
        self.busy.append((self.started, "ready", None))
        return self.started

    def send(self, worker, unit):
        self.units.append((unit.step, *(item.id for item in unit.items)))
        self.sender = worker
        self.busy += [(worker, *event) for event in self.answer(unit)]

    def wait(self, hear, timeout_s):
        busy, self.busy = self.busy, []
        for event in busy:
            hear(*event)

    def sign(self, worker):
        return NO_SIGN

    def why(self, worker):
        return "exit code 7"

    def counters(self):
        return [0] * COUNTERS

    def close(self):
        pass


def drive(out, pool, units, workers=1):
    heard = Heard()
    job = Job([item for unit in units for item in unit.items], out)
    with open_out(out, TARGETS) as opened:
        failed = Driver(job, opened, heard, pool).work(units, workers, Works())
    return failed, heard


def done(unit):
    return [("done", Outcome(item.id, "extracted", "")) for item in unit.items]


def test_whoever_dies_with_every_worker_is_given_up_and_the_others_are_done(tmp_path):
    """Of a group nobody knows whose fault it was: each is tried by itself."""

    def answer(unit):
        if any(item.id == "bad" for item in unit.items):
            return [("gone", None)]
        return [*done(unit), ("unit", None)]

    pool = Played(answer)
    group = WorkUnit("whole", tuple(Input(name, f"{name}.mp4") for name in ("a", "bad", "b")))
    failed, heard = drive(tmp_path, pool, [group])
    assert (failed, heard.kinds()) == (1, {"a": "extracted", "bad": "failed", "b": "extracted"})
    assert [unit for unit in pool.units if "bad" in unit][1:] == [("whole", "bad")] * 2
    assert pool.started == ATTEMPTS + 1
    line = failures(tmp_path)["bad"]
    assert line["message"].endswith("ended with exit code 7; tried 3 times")


def test_a_unit_that_is_lost_again_and_again_is_given_up(tmp_path):
    pool = Played(lambda unit: [("lost", "a bug")])
    failed, _ = drive(tmp_path, pool, [WorkUnit("whole", (Input("a", "a.mp4"),))])
    assert (failed, len(pool.units)) == (1, ATTEMPTS)
    assert failures(tmp_path)["a"]["message"] == "a bug; tried 3 times"


def test_a_video_that_cannot_be_cut_is_read_as_a_whole(tmp_path):
    def answer(unit):
        if unit.step == "plan":
            return [("unit", 2)]
        if unit.step == "part":
            return [("unit", "other pixels" if unit.part else "")]
        return [*done(unit), ("unit", None)]

    pool = Played(answer)
    failed, heard = drive(tmp_path, pool, [WorkUnit("plan", (Input("a", "a.mp4"),))], workers=1)
    assert (failed, heard.notes) == (0, ["a: read as a whole: other pixels"])
    assert [step for step, *_ in pool.units] == ["plan", "part", "part", "whole"]


def test_a_video_is_read_as_a_whole_when_no_part_of_it_is_being_made(tmp_path):
    """A part that is finished behind the whole video would never be cleared away."""
    cut, first, other = (Input(name, f"{name}.mp4") for name in ("cut", "first", "other"))
    slow = []

    def answer(unit):
        if unit.step == "plan":
            return [("unit", 2)]
        if unit.step == "part" and unit.part == 0:
            slow.append(pool.sender)  # says nothing yet
            return []
        if unit.step == "part":
            return [("unit", "other pixels")]
        if unit.items == (other,):  # now the other worker is done with its part, too
            pool.busy.append((slow[0], "unit", ""))
        return [*done(unit), ("unit", None)]

    pool = Played(answer)
    units = [WorkUnit("plan", (cut,)), *(WorkUnit("whole", (item,)) for item in (first, other))]
    failed, heard = drive(tmp_path, pool, units, workers=2)
    assert (failed, set(heard.kinds())) == (0, {"cut", "first", "other"})
    steps = [unit for unit in pool.units if unit[0] == "whole"]
    assert steps == [("whole", "first"), ("whole", "other"), ("whole", "cut")]
    assert slow


def test_out_that_cannot_be_written_ends_the_run(tmp_path):
    pool = Played(lambda unit: [("broken", "the disk is gone")])
    units = [WorkUnit("whole", (Input(name, name),)) for name in "abc"]
    with pytest.raises(StoreError, match="the disk is gone"):
        drive(tmp_path, pool, units)
    assert len(pool.units) == 1
