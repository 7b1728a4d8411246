"""A video that hangs costs its time limit and nothing else."""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from launcher import Launcher
from tests_support import failures, go, tiny, tree, video
from tiny import TinyModel
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UsageError
from tubelet.inputs import Input
from tubelet.machine.heartbeat import Heartbeat, read_sign
from tubelet.run.share.durations import READERS, lengths
from tubelet.run.share.shard import Shard
from tubelet.run.status import status_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and process handles")

LIMIT_S = 2


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield launcher
    launcher.close()


def hanging(name, stall, frames=40):
    """A decoder that never gives frame `stall`."""
    return Input(name, f"synthetic:frames={frames},pattern=flat,stall={stall}")


def short(name):
    return Input(name, "synthetic:frames=9,pattern=flat")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hanging_decoder_is_killed_and_the_run_goes_on(tmp_path, workers):
    inputs = [short("a"), hanging("h", 7), short("b"), hanging("first", 0), short("c")]
    failed, heard = go(inputs, tmp_path / "out", timeout=LIMIT_S, workers=workers)
    assert failed == 2
    kinds = {"a": "extracted", "b": "extracted", "c": "extracted", "h": "failed"}
    assert heard.kinds() == {**kinds, "first": "failed"}
    lines = failures(tmp_path / "out")
    assert set(lines) == {"h", "first"}
    facts = {k: lines["h"][k] for k in ("stage", "type", "unexpected")}
    assert facts == {"stage": "decode", "type": "TimeLimit", "unexpected": False}
    # Two frames more than were counted may be under way: a frame is given when its end is known.
    assert lines["h"]["frame"] in (4, 5, 6)
    assert lines["first"]["frame"] is None
    assert "no frame came after frame" in lines["h"]["message"]
    assert "no frame came for 2 s" in lines["first"]["message"]
    assert "--timeout" in lines["h"]["message"]
    assert status_of(tmp_path / "out")[0].working == []
    go([short("a"), short("b"), short("c")], tmp_path / "calm")
    names = [n for n in tree(tmp_path / "calm") if n[0] in "abc"]
    for name in (n for n in names if n.endswith(".npy")):
        assert tree(tmp_path / "out")[name] == tree(tmp_path / "calm")[name]


def test_shares_with_a_video_whose_length_hangs(tmp_path):
    """Each shard waits the limit once; all make the same plan, in which it counts as the mean."""
    inputs = [short("a"), hanging("h", 7), short("b"), short("c")]
    kinds, plans = {}, set()
    for k in range(2):
        _, heard = go(inputs, tmp_path / "out", timeout=LIMIT_S, shard=Shard(k, 2))
        assert len(heard.outcomes) == 2
        kinds |= heard.kinds()
        lost, plan = heard.notes
        path = inputs[1].path
        assert lost == f"length not read: {path} (nothing moved for 2 s (--timeout))"
        assert plan.endswith("; 1 of unknown length count as the mean")
        plans.add(plan.partition("plan ")[2][:16])
    assert kinds == {"a": "extracted", "b": "extracted", "c": "extracted", "h": "failed"}
    assert len(plans) == 1


def test_when_all_lengths_hang_it_is_not_tried_for_ever(tmp_path):
    """The limit is waited for three times, however many there are."""
    notes = []
    items = [hanging(f"h{k}", 0) for k in range(4 * READERS)] + [short("last")]
    assert lengths(items, limit=0.3, note=notes.append) == [None] * len(items)
    (note,) = notes
    assert note.endswith("(nothing moved for 0.3 s (--timeout)), and 60 more")


class Deadly(str):
    """A path that whoever looks at it dies of."""

    def startswith(self, *what):
        os.kill(os.getpid(), signal.SIGKILL)


def test_who_crashes_the_reader_of_lengths_alone_is_of_unknown_length():
    items, notes = [short(f"v{k}") for k in range(2 * READERS)], []
    items[5] = Input("d", Deadly("d.mp4"))
    found = lengths(items, limit=60, note=notes.append)
    assert found[5] is None
    assert found[:5] + found[6:] == lengths(items[:5] + items[6:])
    (note,) = notes
    assert note == (
        "length not read: d.mp4 (the process that read it ended with signal 9 (SIGKILL))"
    )


class Stopping(TinyModel):
    """Its process stops for good when it sees bright pictures; it cannot even be terminated."""

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.5:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().features(clip, taps)


def test_a_stopped_process_is_killed(tmp_path):
    bright = np.full((24, 32, 3), 250, np.uint8)
    encode([bright] * 8, tmp_path / "a.mp4", encoding=Encoding("mpeg4"))
    video(tmp_path / "b.mp4")
    inputs = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    failed, heard = go(inputs, tmp_path / "out", tiny(model=Stopping()), timeout=LIMIT_S)
    assert (failed, heard.kinds()) == (1, {"a": "failed", "b": "extracted"})
    line = failures(tmp_path / "out")["a"]
    assert (line["stage"], line["type"]) == ("model", "TimeLimit")
    assert "the model gave no row for 2 s" in line["message"]


def test_who_waits_for_a_full_batch_is_not_to_blame(tmp_path):
    """Rows of `a` wait for windows of `h`, which never come: `a` is done again, without it."""
    inputs = [short("a"), hanging("h", 7), short("b")]
    extractor = tiny(batch_size=1000)
    failed, heard = go(inputs, tmp_path / "out", extractor, timeout=LIMIT_S)
    assert (failed, set(failures(tmp_path / "out"))) == (1, {"h"})
    assert heard.kinds() == {"a": "extracted", "b": "extracted", "h": "failed"}


def test_a_pipe_or_device_among_the_inputs_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "other.tar")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    video(tmp_path / "v.mp4")
    failed, heard = go([tmp_path, tmp_path / "other.tar"], tmp_path / "out")
    assert failed == 3
    assert heard.kinds()["v"] == "extracted"
    assert {line["message"].split(": ")[-1] for line in failures(tmp_path / "out").values()} == {
        "not a regular file"
    }


def limited(out, *options):
    """A run of one video that hangs, as a process."""
    (out.parent / "list.jsonl").write_text(json.dumps({"path": hanging("", 7).path, "id": "h"}))
    return ("extract", out.parent / "list.jsonl", "-o", out, "-m", "tiny", *options)


def test_the_command_line(launcher, tmp_path):
    code, text = launcher.run(*limited(tmp_path / "out", "--timeout", LIMIT_S))
    assert code == 1
    assert "h: failed: synthetic:" in text
    assert "0 extracted, 0 already done, 1 failed" in text
    assert failures(tmp_path / "out")["h"]["attempts"] == 1
    code, text = launcher.run(*limited(tmp_path / "o", "--timeout", "-1"))
    assert code == 2
    assert "timeout is -1.0; it must be seconds, 0 for no limit" in text
    with pytest.raises(UsageError, match="timeout is inf"):
        go([short("a")], tmp_path / "o", timeout=float("inf"))


def children_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def worker_of(out, pid):
    """The process that reads the video of a run, once that is claimed: a child of the server that
    workers come from."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (out / "tubelet.json").exists() and status_of(out)[0].working:
            for server in children_of(pid):
                for worker in children_of(server):
                    return worker
    raise AssertionError("nobody took the video")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hanging_worker_does_not_outlive_its_run(launcher, tmp_path, number):
    out = tmp_path / "out"
    run = launcher.start(*limited(out, "--timeout", "500"))
    handle = os.pidfd_open(worker_of(out, run.pid))
    run.send_signal(number)
    code, text = run.wait()
    assert code == (130 if number == signal.SIGTERM else -9), text
    select.select([handle], [], [])
    os.close(handle)
    assert status_of(out)[0].working == []
    assert failures(out) == {}
    assert not [p for p in out.rglob("*") if number == signal.SIGTERM and "claims/" in str(p)]


def test_pulse():
    """What the watcher reads: nothing is expected outside of the blocks, beats change the sign."""
    cells, pulse = [0] * 4, Heartbeat()
    pulse.share(cells)
    assert read_sign(cells).limits == 0
    with pulse.expected("fetch"):
        with pulse.expected("model", limits=6):
            assert read_sign(cells)[1:] == (6, "model", -1)
        before = read_sign(cells)
        pulse.beat(frame=3)
        after = read_sign(cells)
        assert before != after
        assert after[1:] == (1, "fetch", 3)
    assert read_sign(cells).limits == 0
