"""OUT on an object store: a real S3 server (moto) on this machine."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256

import pytest
from click.testing import CliRunner

from buckets import s3_server
from launcher import Launcher
from tests_support import go, tiny, tree, video
from tiny import TinyModel
from tubelet.cli import group
from tubelet.clips.windows import WindowConfig
from tubelet.errors import RecipeMismatch, StoreError, TubeletError, UsageError
from tubelet.run.claims.objects import StoreClaims
from tubelet.store.remote import fetch_folder as brought_module
from tubelet.store.remote import objects
from tubelet.store.remote.fetch_folder import local_copy
from tubelet.store.remote.objects import ObjectFolder

pytestmark = pytest.mark.filterwarnings("default")  # of boto, aiohttp and flask
counter = itertools.count()
ODD = "sub/c d::e?#[1]"


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        server.system.makedirs("features", exist_ok=True)
        yield server


@pytest.fixture
def out(s3, tmp_path, monkeypatch):
    """A new folder of a store, and a cache of its own."""
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    return ObjectFolder.of(f"s3://features/{next(counter)}/out")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(["a", "b", ODD, "sub/é"]):
        video(folder / f"{name}.mp4", frames=20 + k, seed=k)
    return folder


@pytest.fixture(scope="module")
def launcher(s3, tmp_path_factory):
    launcher = Launcher(tmp_path_factory.mktemp("launcher"), imports="s3fs aiobotocore.session")
    yield launcher
    launcher.close()


def spooled(tmp_path):
    """What is left on this disk."""
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    return [p.name for p in files if p.name not in ("tubelet.json", "lock")]


def assert_whole(s3, out):
    """Every JSON that is there lists arrays that are there, with their bytes."""
    there = s3.tree(out.url)
    for name, data in there.items():
        if name.endswith(".json"):
            for array, digest in json.loads(data).get("files", {}).items():
                assert sha256(there[array]).hexdigest() == digest
    return there


@pytest.mark.parametrize("fmt", ["npy", "npz"])
def test_the_files_of_a_disk(s3, out, videos, tmp_path, fmt):
    """Taps, logits, contact sheets, a failure; a second run writes nothing."""
    (tmp_path / "broken.mp4").write_text("no video")
    inputs = [videos, tmp_path / "broken.mp4"]
    options = {"debug_frames": 1, "fmt": fmt}

    def model():
        return tiny(taps=("pool", "mid"), logits=True)

    go(inputs, tmp_path / "disk", model(), **options)
    failed, heard = go(inputs, out, model(), **options)
    assert failed == 1
    assert s3.tree(out.url) == tree(tmp_path / "disk")
    assert not spooled(tmp_path)
    before = s3.system.find("features", detail=True)
    failed, heard = go([videos], out, model(), **options)
    assert set(heard.kinds().values()) == {"skipped"}
    after = s3.system.find("features", detail=True)
    assert {k: v["LastModified"] for k, v in after.items()} == {
        k: v["LastModified"] for k, v in before.items()
    }


def test_several_models(s3, out, videos, tmp_path):
    models = [tiny(name="one"), tiny(name="org/two")]
    go([videos], tmp_path / "disk", *models)
    go([videos], out, *models)
    assert s3.tree(out.url) == tree(tmp_path / "disk")


def test_kills_leave_whole_videos_and_the_next_run_finishes(s3, out, videos, tmp_path, launcher):
    command = ("extract", videos, "-o", out.url, "-m", "tiny", "--stride", "2", "--timeout", "0")
    calm = tmp_path / "calm"
    assert launcher.run(*command[:3], calm, *command[4:])[0] == 0
    chance = random.Random(0)
    for _ in range(4):
        process = launcher.start(*command, "--overwrite")
        process.lines(chance.randrange(4))
        time.sleep(chance.random() * 0.05)  # the moment is what is tried
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_whole(s3, out)
    code, text = launcher.run(*command)
    assert code == 0, text
    assert s3.tree(out.url) == tree(calm)
    assert not [n for n in s3.tree(out.url, hidden=True) if ".tubelet/" in n]
    assert not spooled(tmp_path)


def test_shards_and_twins_share_one_folder(s3, out, videos, tmp_path, launcher):
    """Two shards at once, each of them twice; every video is made once."""
    go([videos], tmp_path / "disk", shard=None)
    command = ("extract", videos, "-o", out.url, "-m", "tiny", "--stride", "2", "--timeout", "0")
    runs = [launcher.start(*command, "--shard", f"{k % 2}/2", "--json") for k in range(4)]
    ends = [run.wait() for run in runs]
    assert [code for code, _ in ends] == [0] * 4, ends
    counts = [json.loads(text.splitlines()[-1]) for _, text in ends]
    assert sum(c["videos"] for c in counts) == 4, counts
    there = assert_whole(s3, out)
    assert {n for n in there if n.endswith(".npy")} == {
        n for n in tree(tmp_path / "disk") if n.endswith(".npy")
    }


def test_workers(s3, out, videos, tmp_path):
    """Processes of their own make and send the videos, and record what fails."""
    (tmp_path / "broken.mp4").write_text("no video")
    inputs = [videos, tmp_path / "broken.mp4"]
    go(inputs, tmp_path / "disk", workers=2, timeout=60)
    assert go(inputs, out, workers=2, timeout=60)[0] == 1
    assert s3.tree(out.url) == tree(tmp_path / "disk")
    assert not spooled(tmp_path)


def test_failures_are_counted_and_forgotten(s3, out, tmp_path):
    source = tmp_path / "in/a.mp4"
    source.parent.mkdir()
    source.write_text("no video")
    for attempts in (1, 2):
        assert go([source], out, retry_failed=attempts > 1)[0] == 1
        (line,) = map(json.loads, s3.tree(out.url)["failures.jsonl"].splitlines())
        assert (line["id"], line["type"], line["attempts"]) == ("a", "NotAVideo", attempts)
    video(source)
    assert go([source], out, retry_failed=True)[1].kinds() == {"a": "extracted"}
    assert set(s3.tree(out.url, hidden=True)) == {"a.json", "a.npy", "tubelet.json"}


def test_a_changed_video_is_done_again(s3, out, tmp_path):
    go([video(tmp_path / "a.mp4")], out)
    before = s3.tree(out.url)
    assert go([video(tmp_path / "a.mp4", seed=5)], out)[1].kinds() == {"a": "extracted"}
    assert assert_whole(s3, out)["a.npy"] != before["a.npy"]


def test_a_missing_array_is_noticed(s3, out, videos):
    go([videos], out)
    s3.system.rm_file(f"{out.url}/b.npy")
    assert go([videos], out)[1].kinds() == {
        "a": "skipped", "b": "extracted", ODD: "skipped", "sub/é": "skipped"
    }  # fmt: skip


def test_another_recipe_is_refused(out, videos, tmp_path):
    go([videos], out)
    with pytest.raises(RecipeMismatch, match=f"{out.url} was made with another recipe"):
        go([videos], out, tiny(window=WindowConfig(4, stride=4)))
    assert go([videos], out, tiny(window=WindowConfig(4, stride=4)), overwrite=True)[0] == 0


class Never(TinyModel):
    def features(self, clip, taps=("pool",)):
        raise AssertionError("nothing is to be decoded")


@pytest.mark.parametrize("text", ["s3://no-such-bucket/out", "s3://Bad_Bucket!/out"])
def test_a_bucket_that_is_not_there(s3, text, videos, tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match=f"{text}.*(not exist|[Ii]nvalid)"):
        go([videos], ObjectFolder.of(text), tiny(model=Never()))


@pytest.mark.parametrize(
    "text", ["s3://", "s3:///x", "s3://b/../x", "s3://b//x", "s3://b/x?y", "s3://b/x::y"]
)
def test_what_is_no_folder(text):
    with pytest.raises(UsageError):
        ObjectFolder.of(text)


def test_no_credentials(s3, out, videos, launcher, monkeypatch):
    """Found before anything is decoded, in a new process: libraries remember credentials."""
    environment = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere"}
    hidden = {k: v for k, v in os.environ.items() if not k.startswith("AWS_ACCESS")}
    command = [sys.executable, "-m", "tubelet", "extract", str(videos), "-o", out.url]
    done = subprocess.run(
        [*command, "--timeout", "0"], env=hidden | environment, capture_output=True, text=True
    )
    assert (done.returncode, out.url in done.stderr) == (2, True), done.stderr
    assert "credentials" in done.stderr


def test_a_store_that_fails_in_mid_run(s3, out, videos, tmp_path, monkeypatch):
    """The run ends and says so; what was finished is kept, and sent before anything is decoded."""
    monkeypatch.setattr(objects, "WAITS_S", (0.01,))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(s3.system).clear_instance_cache()  # clients of other settings

    class Outage(TinyModel):
        def features(self, clip, taps=("pool",)):
            s3.stop()
            return super().features(clip, taps)

    go([videos / "a.mp4"], tmp_path / "disk")
    try:
        with pytest.raises(StoreError, match=f"{out.url}.*cannot be"):
            go([videos / "a.mp4"], out, tiny(model=Outage()))
    finally:
        s3.start()
    assert "a.json" not in s3.tree(out.url)
    assert {"a.json", "a.npy"} <= set(spooled(tmp_path))
    assert go([videos / "a.mp4"], out, tiny(model=Never()))[1].kinds() == {"a": "skipped"}
    assert assert_whole(s3, out) == tree(tmp_path / "disk")
    assert not spooled(tmp_path)


def tubelet(*argv):
    """(exit code, stdout) of a verb in this process."""
    done = CliRunner().invoke(group, list(map(str, argv)))
    assert done.exception is None or isinstance(done.exception, SystemExit | TubeletError)
    return done


def test_verbs_that_read(s3, out, videos, tmp_path):
    """They say of a store what they say of a disk, and leave nothing behind."""
    (tmp_path / "broken.mp4").write_text("no video")
    disk = tmp_path / "disk"
    for place in (disk, out):
        go([videos, tmp_path / "broken.mp4"], place, tiny(logits=True))
    (status,) = json.loads(tubelet("status", out.url, "--json").stdout)
    (wanted,) = json.loads(tubelet("status", disk, "--json").stdout)
    assert status == {**wanted, "out": out.url}
    for argv in (["verify"], ["compare", disk], ["verify", "--no-plan", "--json"]):
        there, here = tubelet(*argv, out.url), tubelet(*argv, disk)
        assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
        assert there.stdout.strip()
    for name in ("a.npy", f"{ODD}.json"):
        for argv in (["map", "--rows", "0:2"], ["show"]):
            assert tubelet(*argv, f"{out.url}/{name}").stdout == (
                tubelet(*argv, disk / name).stdout
            )
    for argv in (["merge"], ["pack", "--layout", "qvhighlights", "--allow-missing"]):
        for source, target in ((out.url, "there"), (disk, "here")):
            done = tubelet(*argv, source, "-o", tmp_path / argv[0] / target)
            assert done.exit_code == 0, done.output
        assert tree(tmp_path / argv[0] / "there") == tree(tmp_path / argv[0] / "here")
    assert not list((tmp_path / "cache").glob(".*"))


def test_damage_is_found(s3, out, videos):
    go([videos], out)
    data = s3.system.cat_file(f"{out.url}/b.npy")
    s3.system.pipe_file(f"{out.url}/b.npy", data[:-1] + b"x")
    done = tubelet("verify", out.url)
    assert "WRONG: b:" in done.stdout
    assert "b.npy: missing or damaged" in done.stdout


def test_a_running_process_is_seen(s3, out, videos, tmp_path):
    go([videos], out)
    with StoreClaims(tmp_path / "spool", out, total=7, shard="0/2") as claims:
        assert claims.take("a")
        (status,) = json.loads(tubelet("status", out.url, "--json").stdout)
    assert [(r["inputs"], r["shard"]) for r in status["runs"]] == [(7, "0/2")]
    assert [r["id"] for r in status["working"]] == ["a"]
    assert not [n for n in s3.tree(out.url, hidden=True) if ".tubelet" in n]


@pytest.mark.parametrize(
    "argv", [["serve", "{}"], ["merge", "disk", "-o", "{}"], ["report", "disk", "-o", "{}"]]
)
def test_verbs_that_need_a_disk(argv):
    argv = [a.format("s3://features/x") for a in argv]
    done = CliRunner().invoke(group, argv)
    assert done.exit_code == 2
    assert "aws s3 sync" in done.output


def test_nothing_there(out):
    for argv in (["verify", out.url], ["status", out.url], ["show", f"{out.url}/a.npy"]):
        with pytest.raises(UsageError, match=f"{out.url}.*(nothing there|no such object)"):
            CliRunner().invoke(group, argv, catch_exceptions=False, standalone_mode=False)


def test_keys_that_lead_out_of_the_folder_are_left_out(s3, out, videos, tmp_path):
    go([videos], out)
    keys = ["../evil.json", "x/../../../evil.json", "x//evil.json"]
    for key in keys:
        s3.system.pipe_file(f"{out.url}/{key}", b"{}")
    with local_copy(out.url) as path:
        assert {p.name for p in tmp_path.rglob("evil*")} == set()
        assert set(tree(path)) == set(s3.tree(out.url)) - set(keys)


def test_a_disk_without_room_is_said_before(s3, out, videos, monkeypatch):
    go([videos], out)
    monkeypatch.setattr(brought_module, "KEEP_FREE", 1 << 60)
    with pytest.raises(UsageError, match="TUBELET_CACHE"), local_copy(out.url):
        pass


def test_a_huge_json_is_refused(s3, out, monkeypatch):
    s3.system.pipe_file(f"{out.url}/tubelet.json", bytes(2000))
    with pytest.raises(StoreError, match="2000 bytes, the limit is 1000"):
        out.read("tubelet.json", limit=1000)


class Elsewhere(StoreClaims):
    """The claims of another machine that has fallen silent."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._disk.me["machine"] = "ffffffff"


def test_claims_of_a_silent_machine_are_overtaken_once(out, tmp_path, monkeypatch):
    """Of two that find it stale at once, one has it."""
    with (
        Elsewhere(tmp_path / "x", out, total=1) as silent,
        StoreClaims(tmp_path / "y", out, total=1) as first,
        StoreClaims(tmp_path / "z", out, total=1) as second,
    ):
        assert silent.take("a")
        assert not first.take("a")
        assert "on" in first.holder("a")
        monkeypatch.setattr("tubelet.run.claims.objects.STALE_S", -1.0)
        looked = second._claims("a")
        assert first.take("a")
        monkeypatch.setattr(second, "_claims", lambda identity: looked)
        assert not second.take("a")
        monkeypatch.undo()
        assert not second.take("a")
        first.release("a")
        assert second.take("a")


def test_hdfs_renames(tmp_path, monkeypatch):
    """What is written there, on pyarrow's local file system: no half file has its final name."""
    pa = pytest.importorskip("pyarrow.fs")
    from fsspec.implementations.arrow import ArrowFSWrapper

    system = ArrowFSWrapper(pa.LocalFileSystem())
    root = tmp_path / "hdfs"

    def opened(url):
        return system, str(root / url.removeprefix("hdfs://host/"))

    monkeypatch.setattr(objects, "open_url", opened)
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.mp4").write_text("no video")
    inputs = [video(tmp_path / "a.mp4"), tmp_path / "broken.mp4"]
    go(inputs, tmp_path / "disk")
    out = ObjectFolder.of("hdfs://host/out")
    assert go(inputs, out)[1].kinds() == {"a": "extracted", "broken": "failed"}
    assert go(inputs, out)[1].kinds() == {"a": "skipped", "broken": "failed"}
    video(tmp_path / "a.mp4", seed=4)
    assert go(inputs, out)[1].kinds() == {"a": "extracted", "broken": "failed"}
    for _ in range(2):
        go(inputs, tmp_path / "disk")
    assert tree(root / "out") == tree(tmp_path / "disk")
