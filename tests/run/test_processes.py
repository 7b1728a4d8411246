"""Real processes: kills, signals, a full disk, two runs on one OUT, workers."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests_support import failures, go, tiny, tree, video
from tiny import TinyModel
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UsageError
from tubelet.inputs import Input
from tubelet.machine.atomic import TEMPORARY
from tubelet.machine.locks import Owner, is_alive, started, this_process
from tubelet.machine.timing import Works
from tubelet.models.device import device_list
from tubelet.run.claims import disk as claims_module
from tubelet.run.claims.disk import Claims, is_stale
from tubelet.run.status import status_of
from tubelet.store.failures import Failure, Failures
from tubelet.store.folder import CODECS, load, sha256_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def extract(videos, out, *options):
    one = () if "--workers" in options else ("--timeout", "0")  # no second process
    return ("extract", videos, "-o", out, "-m", "tiny", "--stride", "2", *one, *options)


def assert_whole(out):
    """Every file that has its final name is complete; a video with a JSON is verified."""
    for path in out.rglob("*.json"):
        if ".tubelet" in path.parts or path.name.startswith(TEMPORARY):
            continue
        record = json.loads(path.read_text())
        for name, digest in record.get("files", {}).items():
            assert sha256_of(out / name) == digest
    for path in out.rglob("*.npy"):
        if not path.name.startswith(TEMPORARY):
            np.load(path)
    for line in failures(out).values():
        assert line["id"]


@pytest.mark.parametrize("fmt", sorted(CODECS))
def test_kills_leave_whole_files_and_the_next_run_finishes(launcher, videos, tmp_path, fmt):
    options = ("--format", fmt, "--taps", "mid", "--logits")
    assert launcher.run(*extract(videos, tmp_path / "calm", *options))[0] == 0
    out, chance = tmp_path / "out", random.Random(fmt)
    for _ in range(4):
        process = launcher.start(*extract(videos, out, *options, "--overwrite"))
        process.lines(chance.randrange(5))
        time.sleep(chance.random() * 0.03)  # the moment is what is tried
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_whole(out)
    assert launcher.run(*extract(videos, out, *options))[0] == 0
    assert tree(out) == tree(tmp_path / "calm")
    assert not [p for p in out.rglob("*") if "tubelet-tmp" in p.name]


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_drops_the_current_video(launcher, videos, tmp_path, workers):
    out = tmp_path / "out"
    process = launcher.start(
        *extract(videos, out, "--workers", workers, "--batch-size", 2, "--debug-frames", 50)
    )
    told = process.lines(1)
    process.send_signal(signal.SIGTERM)
    code, text = process.wait()
    assert code == 130, text
    assert "interrupted; finished files are kept" in text
    assert "Traceback" not in text
    assert told[0].split(":")[0] in {p.stem for p in out.glob("*.json")}
    assert_whole(out)
    assert not [p for p in out.rglob("*") if "tubelet-tmp" in p.name]
    assert status_of(out)[0].working == []


def flat(*frames, name="v", **more):
    """Synthetic videos of so many frames."""
    tail = "".join(f",{k}={v}" for k, v in more.items())
    return [
        {"path": f"synthetic:frames={n},pattern=flat{tail}", "id": f"{name}{k}"}
        for k, n in enumerate(frames)
    ]


def listed(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def claimed(out, count):
    """The ids of so many videos, once they are claimed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (out / "tubelet.json").exists():
            working = {claim["id"] for claim in status_of(out)[0].working}
            if len(working) == count:
                return working
    raise AssertionError(f"{count} videos were never claimed at a time")


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_finishes_what_is_under_way(launcher, tmp_path, workers):
    """And begins nothing else; the next run does the rest. One is this process, two are others."""
    out, videos = tmp_path / "out", listed(tmp_path / "list.jsonl", flat(*[900] * 4))
    several = ("--workers", 2) if workers == 2 else ()
    process = launcher.start(*extract(videos, out, *several))
    under_way = claimed(out, workers)
    process.send_signal(signal.SIGINT)
    code, text = process.wait()
    assert code == 130, text
    assert "finishing what is under way (v" in text
    assert f"{workers} extracted, 0 already done, 0 failed" in text
    assert "interrupted; finished files are kept" in text
    assert {p.stem for p in out.glob("v*.npy")} == under_way
    assert status_of(out)[0].working == []
    assert launcher.run(*extract(videos, out))[0] == 0
    assert len(list(out.glob("v*.npy"))) == 4


def test_a_second_ctrl_c_drops_it(launcher, tmp_path):
    """A video that would never end."""
    out, videos = tmp_path / "out", listed(tmp_path / "list.jsonl", flat(40, 40, stall=9))
    process = launcher.start(*extract(videos, out, "--workers", 1))
    claimed(out, 1)
    process.send_signal(signal.SIGINT)
    (told,) = process.lines(1)
    assert told.startswith("finishing what is under way (v")
    assert told.endswith("; Ctrl-C again drops it\n")
    process.send_signal(signal.SIGINT)
    code, text = process.wait()
    assert code == 130, text
    assert "Traceback" not in text
    assert not list(out.glob("v*"))
    assert failures(out) == {}
    assert status_of(out)[0].working == []


@pytest.mark.parametrize("fmt", sorted(CODECS))
def test_disk_full(launcher, tmp_path, fmt):
    """No file may be larger than 16 kB: the long video does not fit, the short ones do."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for name, frames in (("a", 5), ("b", 200), ("c", 5)):
        video(folder / f"{name}.mp4", frames=frames)
    options = ("--keep", "space-time", "--stride", "1", "--window", "4", "--format", fmt)
    command = ("extract", folder, "-o", out, "-m", "tiny", "--timeout", "0", *options)
    code, text = launcher.run(*command, limit=16384)
    assert code == 1, text
    assert "Traceback" not in text
    line = failures(out)["b"]
    assert (line["stage"], line["type"]) == ("store", "StoreError")
    assert "cannot write: File too large" in line["message"]
    assert {p.stem for p in out.glob(f"*.{fmt}")} == {"a", "c"}
    assert not [p for p in out.rglob("*") if "tubelet-tmp" in p.name]


def test_command_line_mistakes(launcher, videos, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/1.png").touch()
    (tmp_path / "file").touch()
    for inputs, out, options, words in [
        (videos, tmp_path / "file/x", (), "cannot write there"),
        (tmp_path / "frames", tmp_path / "o", (), "--frames-fps 25"),
        (videos, tmp_path / "o", ("--format", "hdf4"), "did you mean 'hdf5'"),
        (videos, tmp_path / "o", ("--workers", "0"), "workers is 0"),
        (videos, tmp_path / "o", ("--taps", "mit"), "did you mean 'mid'"),
        (videos, tmp_path / "o", ("--device", "cuda:99"), "this machine has"),
        (tmp_path / "absent.mp4", tmp_path / "o", (), "no such file; nothing was done"),
    ]:
        code, text = launcher.run(*extract(inputs, out, *options))
        assert code == 2, text
        assert words in text
        assert len(text.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_file_that_another_verb_takes(launcher, tmp_path):
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    code, text = launcher.run("show", tmp_path / "list.csv")
    assert code == 2
    assert "a list of videos it goes to `tubelet plan`" in text
    (tmp_path / "w.pt").write_text("no checkpoint")
    code, text = launcher.run("convert", tmp_path / "w.pt", "-o", tmp_path / "w.safetensors")
    assert code == 2, text
    assert "w.pt" in text
    assert len(text.splitlines()) == 1


def test_exit_codes_and_summary(launcher, videos, tmp_path):
    code, text = launcher.run(*extract(videos, tmp_path / "out", "--json"))
    *_, summary, stages, counts = text.splitlines()
    counts = json.loads(counts)
    assert (code, counts["videos"], counts["failed"], counts["skipped"]) == (0, 5, 0, 0)
    assert counts["rows"] == sum(len(load(p).values) for p in (tmp_path / "out").glob("v*.json"))
    assert counts["hours"] == pytest.approx(sum(range(20, 25)) / 25 / 3600, rel=0.02)
    assert "5 extracted, 0 already done, 0 failed" in summary
    work = counts["work"]
    assert set(work["stages"]) == {"fetch", "decode", "model", "store"}
    frames = work["stages"]["decode"]["frames_per_s"] * work["seconds"]
    assert frames == pytest.approx(sum(range(20, 25)), rel=0.01)
    assert 0 < work["stages"]["model"]["busy"] < 1
    assert stages.startswith(("decode ", "fetch "))
    assert " rows/s, busy " in stages
    (tmp_path / "text.mp4").write_text("x")
    code, text = launcher.run(*extract(tmp_path / "text.mp4", tmp_path / "out"))
    assert code == 1
    assert text.startswith("text: failed: ")


def test_two_runs_share_the_work(launcher, videos, tmp_path):
    """Each video is extracted by exactly one of them, and both end with everything done."""
    out = tmp_path / "out"
    runs = [launcher.start(*extract(videos, out, "--json")) for _ in range(3)]
    ends = [run.wait() for run in runs]
    counts = [json.loads(text.splitlines()[-1]) for _, text in ends]
    assert [code for code, _ in ends] == [0, 0, 0]
    assert sum(c["videos"] for c in counts) == 5
    assert sum(c["skipped"] for c in counts) == 10
    launcher.run(*extract(videos, tmp_path / "calm"))
    assert tree(out) == tree(tmp_path / "calm")


def test_bytes_do_not_depend_on_how_they_were_made(videos, tmp_path):
    """Workers, neighbours, order, resume history: the same bytes (batch size 1, CPU, float32)."""
    go([videos], tmp_path / "plain")
    go([videos], tmp_path / "workers", workers=2)
    go([videos / f"v{k}.mp4" for k in (3, 0, 4)], tmp_path / "resumed")
    (tmp_path / "resumed/v0.npy").unlink()
    go([videos], tmp_path / "resumed")
    plain = {n: d for n, d in tree(tmp_path / "plain").items() if n.startswith("v")}
    for other in ("workers", "resumed"):
        found = {n: d for n, d in tree(tmp_path / other).items() if n.startswith("v")}
        assert found == plain, other


def assert_counted(works, out):
    """Every frame, row and byte of a run, whoever did the work."""
    work = works.now()
    assert work.per_s["decode"] * work.wall_s == pytest.approx(sum(range(20, 25)))
    values = [load(path).values for path in out.glob("v?.json")]
    assert work.per_s["model"] * work.wall_s == pytest.approx(sum(map(len, values)))
    assert work.per_s["store"] * work.wall_s * 1e6 == pytest.approx(sum(v.nbytes for v in values))
    assert all(0 < work.busy[stage] < 1 for stage in ("decode", "model", "store"))


def test_a_process_per_device(videos, tmp_path):
    """Two devices are two processes, whatever --workers says; the bytes are those of one."""
    go([videos], tmp_path / "plain")
    works = Works()
    failed, _ = go([videos], tmp_path / "devices", devices=("cpu", "cpu"), works=works)
    assert failed == 0
    assert_counted(works, tmp_path / "plain")
    plain, found = tree(tmp_path / "plain"), tree(tmp_path / "devices")
    assert {k for k in found if found[k] != plain.get(k)} <= {"tubelet.json"}
    assert found.keys() == plain.keys()


def test_device_lists(launcher, videos, tmp_path):
    assert device_list("cpu") == ("cpu",)
    assert device_list("cpu,cpu") == ("cpu", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda:0' is not available; this machine has cpu"):
            device_list("cuda:0,1")
    code, text = launcher.run(*extract(videos, tmp_path / "out", "--device", "cpu,cpu"))
    assert code == 0, text


@pytest.mark.parametrize(("batch_size", "workers"), [(3, 1), (1000, 1), (3, 2)])
def test_windows_of_different_videos_share_batches(videos, tmp_path, batch_size, workers):
    sizes = []

    class Counting(TinyModel):
        def features(self, clip, taps=("pool",)):
            sizes.append(len(clip))
            return super().features(clip, taps)

    model = Counting() if workers == 1 else TinyModel()
    go([videos], tmp_path / "plain")
    extractor = tiny(model=model, batch_size=batch_size)
    failed, heard = go([videos], tmp_path / "out", extractor, workers=workers)
    assert failed == 0
    rows = sum(outcome.rows for outcome in heard.outcomes)
    for k in range(5):
        a, b = load(tmp_path / f"plain/v{k}.json"), load(tmp_path / f"out/v{k}.json")
        np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(a.center_s, b.center_s)
    if workers == 1:
        full = min(batch_size, rows)
        assert sizes == [full] * (rows // full) + ([rows % full] if rows % full else [])


class Deadly(TinyModel):
    """Takes its process down when it sees a video of bright pictures."""

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.5:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().features(clip, taps)


def test_a_worker_that_dies_fails_its_video_only(videos, tmp_path):
    bright = np.full((24, 32, 3), 250, np.uint8)
    encode([bright] * 8, tmp_path / "a.mp4", encoding=Encoding("mpeg4"))
    inputs = [tmp_path / "a.mp4", videos]
    failed, heard = go(inputs, tmp_path / "out", tiny(model=Deadly()), workers=2)
    assert failed == 1
    assert heard.kinds() == {"a": "failed", **{f"v{k}": "extracted" for k in range(5)}}
    line = failures(tmp_path / "out")["a"]
    assert line["type"] == "WorkerDied"
    assert "SIGSEGV" in line["message"]


def dead_process():
    """The number and start of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner(this_process().host, this_process().machine, process.pid, started(process.pid))
    assert is_alive(owner)
    process.communicate(b"\n")
    return owner


def test_claims(tmp_path):
    with Claims(tmp_path, total=3) as mine:
        assert mine.take("a/b")
        (path,) = (tmp_path / ".tubelet/claims").glob("*.json")
        record = json.loads(path.read_text())
        assert record["id"] == "a/b"
        assert record["pid"] == os.getpid()
        assert set(record) >= {"host", "started", "machine", "since"}
        assert not mine.take("a/b")
        run = tmp_path / ".tubelet/runs"
        assert json.loads(next(run.iterdir()).read_text())["inputs"] == 3
        mine.release("a/b")
        assert mine.take("a/b")
    assert not list((tmp_path / ".tubelet").rglob("*.json"))


def write_claim(out, identity, owner):
    path = Claims(out, total=0)._path(identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"id": identity, "host": owner.host, "machine": owner.machine, "pid": owner.pid,
              "started": owner.started}  # fmt: skip
    path.write_text(json.dumps(record))
    return path


def test_a_dead_process_of_this_host_loses_its_claim_at_once(tmp_path):
    path = write_claim(tmp_path, "a", dead_process())
    assert is_stale(path)
    with Claims(tmp_path, total=1) as mine:
        assert mine.take("a")


def test_a_reused_process_number_is_not_the_same_process(tmp_path):
    me = this_process()
    impostor = Owner(me.host, me.machine, me.pid, "1")
    assert is_stale(write_claim(tmp_path, "a", impostor)) == (me.started != "0")


def test_elsewhere_a_claim_lasts_120_s_without_heartbeat(tmp_path):
    path = write_claim(tmp_path, "a", Owner("far", "00000000", 1, "1"))
    with Claims(tmp_path, total=1) as mine:
        assert not mine.take("a")
        assert mine.holder("a") == "process 1 on far"
        assert mine.holder("b") == ""
        old = time.time() - 115
        os.utime(path, (old, old))
        assert not mine.take("a")
        old = time.time() - 125
        os.utime(path, (old, old))
        assert mine.take("a")


def test_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "HEARTBEAT_S", 0.01)
    with Claims(tmp_path, total=1) as mine:
        mine.take("a")
        path = mine._path("a")
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_failures_are_read_anew_when_another_process_wrote_them(tmp_path):
    book = Failures(tmp_path)
    book.add(Failure("a", "a.mp4", "open", "NotAVideo", "first"))
    assert book.read()["a"]["message"] == "first"
    book.read()["a"] = {}  # what a caller does with its copy is its own business
    before = book.path.stat()
    other = tmp_path / "other"
    other.write_bytes(book.path.read_bytes().replace(b"first", b"other"))
    os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
    os.replace(other, book.path)
    assert book.read()["a"]["message"] == "other"
    book.add(Failure("a", "a.mp4", "open", "NotAVideo", "again"))
    assert book.read()["a"]["attempts"] == 2
    book.forget("a")
    assert book.read() == {}


def test_status(launcher, videos, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "bad.mp4").write_text("x")
    go([videos, tmp_path / "bad.mp4"], out)
    with Claims(out, total=7) as mine:
        mine.take("v9")
        write_claim(out, "gone", dead_process())
        (status,) = status_of(out)
        assert (status.videos, status.failed) == (5, 1)
        assert status.rows == sum(len(load(p).values) for p in out.glob("v?.json"))
        assert [run["inputs"] for run in status.runs] == [7]
        assert (status.left, status.left_s) == (1, None)  # nothing was done since this run began
        assert [claim["id"] for claim in status.working] == ["v9"]
        _, text = launcher.run("status", out)
        assert "5 videos done" in text
        assert "1 claimed, 1 to do; time left unknown yet" in text
        path = out / "v0.json"
        os.utime(path, (time.time() + 60, time.time() + 60))
        (status,) = status_of(out)
        assert status.left_s is not None
        assert status.left_s > 0
        assert f"working on v9: process {os.getpid()}" in text
    with pytest.raises(UsageError, match="is this an output folder"):
        status_of(tmp_path / "elsewhere")


def test_status_says_where_the_time_goes(launcher, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "HEARTBEAT_S", 0.01)
    out, works, counters = tmp_path / "out", Works(), [0] * 8
    go([videos], out)
    with Claims(out, total=7, works=works):
        assert "work" not in status_of(out)[0].runs[0]
        works.follow(lambda: list(counters), {"decode": 2})
        counters[:] = [0, 0, 9 * 10**13, 500, 10**9, 3, 5, 10**6]
        deadline = time.monotonic() + 10
        while "work" not in status_of(out)[0].runs[0]:
            assert time.monotonic() < deadline
        _, text = launcher.run("status", out)
    assert "MB/s, busy " in text
    assert ": decode is the limit" in text


def test_a_failure_elsewhere_is_not_repeated(videos, tmp_path):
    """While we wait for another run's video, that run fails it: it is counted, not tried again."""
    out, tried = tmp_path / "out", []
    (tmp_path / "bad.mp4").write_text("x")

    class Watching(TinyModel):
        """Between the look at the claim and the end of the queue, the other run gives up."""

        def features(self, clip, taps=("pool",)):
            if not tried:
                tried.append(1)
                Failures(out).add(Failure("bad", "bad.mp4", "open", "NotAVideo", "other's"))
                path.unlink()
            return super().features(clip, taps)

    path = write_claim(out, "bad", Owner("far", "00000000", 1, "1"))
    items = [Input("bad", str(tmp_path / "bad.mp4")), Input("v0", str(videos / "v0.mp4"))]
    failed, heard = go(items, out, tiny(model=Watching()))
    assert failed == 1
    assert [o.text for o in heard.outcomes if o.id == "bad"] == ["in another run: other's"]
    assert failures(out)["bad"]["attempts"] == 1
