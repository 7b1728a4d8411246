"""`--decoders N`: processes that decode for all models. The same bytes, whatever dies or hangs."""

import os
import select
import signal
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from tests_support import Heard, failures, go, tiny, tree, video
from tiny import Fatal, TinyModel
from tubelet.clips.transform import ViewConfig, black
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UsageError
from tubelet.extraction.lanes import Lane
from tubelet.inputs import Input
from tubelet.machine.timing import Works
from tubelet.run.processes.frame_buffer import FrameReader, FrameWriter, Size, size_of
from tubelet.run.status import status_of
from tubelet.store.folder import load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and process handles")

CPUS = ("cpu", "cpu")


def files(out):
    return {name: data for name, data in tree(out).items() if name != "tubelet.json"}


def arrays(out):
    return {name: data for name, data in tree(out).items() if name.endswith(".npy")}


def bright(path):
    encode([np.full((24, 32, 3), 250, np.uint8)] * 8, path, encoding=Encoding("mpeg4"))
    return path


def test_the_same_files(videos, tmp_path):
    """Of two models with windows, taps and logits of their own, a video without rows, a broken
    one, and black frames; contact sheets too."""
    (tmp_path / "broken.mp4").write_text("x")
    video(tmp_path / "one.mp4", frames=3)
    inputs = [videos, tmp_path / "broken.mp4", tmp_path / "one.mp4"]
    models = [
        tiny(name="a", window=WindowConfig(4, stride=2, tail="drop"), taps=("mid",), logits=True),
        tiny(name="b", window=WindowConfig(3, 2, stride=3, tail="zero"), model=TinyModel(seed=1)),
    ]
    lost, _ = go(inputs, tmp_path / "plain", *models, debug_frames=2)
    failed, heard = go(
        inputs, tmp_path / "out", *models, debug_frames=2, devices=CPUS, decoders=3
    )  # fmt: skip
    assert (failed, lost) == (1, 1)
    assert sum(kind == "extracted" for kind in heard.kinds().values()) == 6
    plain, found = tree(tmp_path / "plain"), tree(tmp_path / "out")
    assert {k for k in found if found[k] != plain.get(k)} <= {"a/tubelet.json", "b/tubelet.json"}
    assert found.keys() == plain.keys()
    assert any("debug" in name for name in found)


def test_batches(videos, tmp_path):
    go([videos], tmp_path / "plain")
    works = Works()
    failed, _ = go([videos], tmp_path / "out", tiny(batch_size=3), decoders=2, works=works)
    assert failed == 0
    work = works.now()
    assert work.per_s["decode"] * work.wall_s == pytest.approx(sum(range(20, 25)))
    rows = sum(len(load(path).values) for path in (tmp_path / "out").glob("v?.json"))
    assert work.per_s["model"] * work.wall_s == pytest.approx(rows)
    for k in range(5):
        a, b = load(tmp_path / f"plain/v{k}.json"), load(tmp_path / f"out/v{k}.json")
        np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)


def test_a_slow_decoder_does_not_starve_the_model(tmp_path):
    """One model, one decoder that never gives its next frame: the others are all done before it
    is given up."""
    items = [Input("slow", "synthetic:frames=40,pattern=flat,stall=7")]
    items += [Input(f"v{k}", "synthetic:frames=30,pattern=flat") for k in range(6)]
    failed, heard = go(items, tmp_path / "out", decoders=2, timeout=3)
    assert failed == 1
    assert [outcome.id for outcome in heard.outcomes][-1] == "slow"
    line = failures(tmp_path / "out")["slow"]
    assert (line["stage"], line["type"]) == ("decode", "TimeLimit")
    assert status_of(tmp_path / "out")[0].working == []


def test_a_model_process_dies(videos, tmp_path):
    """No row is lost; a clip that kills it every time fails its video."""
    go([videos], tmp_path / "plain")
    flag = tmp_path / "flag"
    flag.touch()
    inputs = [videos, bright(tmp_path / "poison.mp4")]
    model = Fatal(str(flag))
    failed, heard = go(inputs, tmp_path / "out", tiny(model=model), decoders=2, devices=CPUS)
    assert failed == 1
    assert not flag.exists()
    assert {k for k, kind in heard.kinds().items() if kind == "failed"} == {"poison"}
    line = failures(tmp_path / "out")["poison"]
    assert (line["stage"], line["type"]) == ("model", "WorkerDied")
    assert line["message"].endswith("ended with signal 9 (SIGKILL); tried 3 times")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "plain")


class Broken(TinyModel):
    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.6:
            raise RuntimeError("not this one")
        return super().features(clip, taps)


def test_what_a_model_raises(videos, tmp_path):
    inputs = [videos, bright(tmp_path / "bad.mp4")]
    failed, heard = go(inputs, tmp_path / "out", tiny(model=Broken()), decoders=2, debug=True)
    assert failed == 1
    line = failures(tmp_path / "out")["bad"]
    assert (line["stage"], line["type"], line["message"]) == (
        "model", "RuntimeError", "not this one",
    )  # fmt: skip
    (outcome,) = [o for o in heard.outcomes if o.id == "bad"]
    assert "in features" in outcome.traceback  # where it was raised, in the other process


class Stopping(TinyModel):
    """Its process stops for good when it sees bright pictures."""

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.5:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().features(clip, taps)


def test_a_model_that_hangs_is_replaced(videos, tmp_path):
    inputs = [bright(tmp_path / "a.mp4"), videos]
    extractor = tiny(model=Stopping())
    failed, heard = go(inputs, tmp_path / "out", extractor, decoders=2, timeout=2)
    assert (failed, heard.kinds().pop("a")) == (1, "failed")
    line = failures(tmp_path / "out")["a"]
    assert (line["stage"], line["type"]) == ("model", "TimeLimit")
    assert "the model gave no row for 2 s" in line["message"]


class Killing(Heard):
    """Kills the decoder that has video `victim` whenever it begins, so many times."""

    def __init__(self, out, victim, times):
        super().__init__()
        self.out, self.victim, self.times = out, victim, times

    def advance(self, name, rows, fraction):
        super().advance(name, rows, fraction)
        if name == self.victim and rows and self.times:
            self.times -= 1
            (pid,) = {c["pid"] for c in status_of(self.out)[0].working if c["id"] == name}
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("times", "kind"), [(2, "extracted"), (3, "failed")])
def test_a_decoder_dies(tmp_path, times, kind):
    items = [Input(f"v{k}", f"synthetic:frames={300 if k else 2000},pattern=flat") for k in (1, 0)]
    out = tmp_path / "out"
    failed, heard = go(items, out, heard=Killing(out, "v0", times), decoders=2)
    assert failed == (kind == "failed")
    assert heard.times == 0
    assert heard.kinds() == {"v0": kind, "v1": "extracted"}
    assert status_of(out)[0].working == []
    if kind == "failed":
        line = failures(out)["v0"]
        assert line["type"] == "WorkerDied"
        assert line["message"].endswith("ended with signal 9 (SIGKILL); tried 3 times")
    else:
        go(items, tmp_path / "plain")
        assert files(out) == files(tmp_path / "plain")


def children_of(pid):
    """Handles of the processes below another one, and its fork server's."""
    found = {pid}
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for _ in range(4):
        found |= {child for child, parent in parents.items() if parent in found}
    return [os.pidfd_open(child) for child in found - {pid}]


def shared_files():
    return {name for name in os.listdir("/dev/shm") if name.startswith(("pym-", "psm_", "torch_"))}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_run(launcher, tmp_path, number):
    """Neither processes nor shared memory, whoever ends it; decoders that hang included."""
    out, before = tmp_path / "out", shared_files()
    (tmp_path / "list.jsonl").write_text(
        "".join(
            f'{{"path": "synthetic:frames=9,stall=7", "id": "h{k}"}}\n' for k in range(2)
        )
    )  # fmt: skip
    run = launcher.start(
        "extract", tmp_path / "list.jsonl", "-o", out, "-m", "tiny",
        "--device", "cpu,cpu", "--decoders", "2",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (out / "tubelet.json").exists() or len(status_of(out)[0].working) < 2:
        assert time.monotonic() < deadline
    handles = children_of(run.pid)
    assert len(handles) >= 4
    run.send_signal(number)
    code, text = run.wait()
    assert code == (130 if number == signal.SIGTERM else -9), text
    for handle in handles:
        assert select.select([handle], [], [], 60)[0]
        os.close(handle)
    assert shared_files() <= before
    assert status_of(out)[0].working == []
    assert failures(out) == {}


def test_command_line(launcher, videos, tmp_path):
    base = ("extract", videos, "-o", tmp_path / "out", "-m", "tiny", "--decoders")
    code, text = launcher.run(*base, "2")
    assert code == 0, text
    code, text = launcher.run(*base, "65")
    assert code == 2
    code, text = launcher.run(*base, "2", "--engine", "ray")
    assert code == 2
    assert "--decoders is for --engine local" in text
    with pytest.raises(UsageError, match="decoders is -1; it must be 0 to 64"):
        go([videos], tmp_path / "o", decoders=-1)


VIEW = ViewConfig(20, 16, (0.5,) * 3, (0.5,) * 3)


def windows_of(frames, config):
    """The frames of every window that fits."""
    starts = range(0, len(frames) - config.span + 1, config.step)
    return [frames[s : s + config.span : config.interval] for s in starts]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(("frames", "interval", "stride"), [(8, 1, 2), (4, 3, 2), (4, 2, 8)])
def test_a_frame_travels_once(frames, interval, stride, batch_size):
    """However many windows share it, and is one array on the other side."""
    config = WindowConfig(frames, interval, stride=stride)
    size = size_of(Lane(config, VIEW), batch_size)
    memory = bytearray(size.bytes)
    shelf, glance = FrameWriter(memory, size), FrameReader(memory, size)
    rng = np.random.default_rng(0)
    made = [rng.random((1, 16, 16, 3), dtype=np.float32) for _ in range(40)]
    windows = windows_of(made, config)
    serials, seen = set(), {}
    for k in range(0, len(windows), batch_size):
        places = shelf.place(windows[k : k + batch_size])
        for window, row, pixels in zip(
            windows[k : k + batch_size], places, glance.frames(places), strict=True
        ):
            for frame, (_, serial), got in zip(window, row, pixels, strict=True):
                np.testing.assert_array_equal(frame, got)
                serials.add(serial)
                assert seen.setdefault(serial, got) is got
    assert len(serials) == len({id(frame) for window in windows for frame in window})


def test_frames_that_are_gone_make_room():
    """A new frame is never taken for an old one that was where it is now in memory."""
    size = Size(2, (1, 2, 2, 3))
    memory = bytearray(size.bytes)
    shelf, glance = FrameWriter(memory, size), FrameReader(memory, size)
    for k in range(50):
        frame = np.full(size.shape, k, np.float32)
        ((got, _),) = glance.frames(shelf.place([[frame, frame]]))
        np.testing.assert_array_equal(got, frame)
        del frame
    dark = black(VIEW)
    size = Size(4, dark.shape)
    memory = bytearray(size.bytes)
    places = FrameWriter(memory, size, life=1).place([[dark, dark]])
    old = FrameWriter(memory, size, life=0).place([[dark, dark]])
    assert places[0][0] == places[0][1]
    assert places != old


def test_the_size_of_a_shelf():
    lane = Lane(WindowConfig(64, 1, stride=16), ViewConfig(256, 224, (0.5,) * 3, (0.5,) * 3))
    assert size_of(lane, 1).bytes == 64 * 224 * 224 * 3 * 4
    for (frames, interval, stride), slots in {(8, 8, 4): 16, (8, 8, 64): 8, (8, 8, 8): 8}.items():
        assert size_of(Lane(WindowConfig(frames, interval, stride=stride), VIEW), 1).slots == slots
    assert all(a <= b for a, b in pairwise(size_of(lane, b).slots for b in (1, 2, 4)))
