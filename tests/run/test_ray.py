"""`--engine ray`: the files of a local run, whatever dies on the way."""

import socket
from importlib.util import find_spec

import numpy as np
import pytest

from buckets import s3_server
from ray_cluster import damage, features, go_ray, movie, places_of_workers
from tests_support import Heard, failures, go, tiny, tree, video
from tiny import Fatal
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.errors import UsageError
from tubelet.machine.timing import Works
from tubelet.run.status import status_of
from tubelet.store.remote.objects import ObjectFolder

pytest.importorskip("ray", reason="needs tubelet[ray]")
pytestmark = pytest.mark.filterwarnings("default")

OPTIONS = {"num_cpus": 2, "object_store_memory": 150 << 20}


@pytest.fixture(scope="module")
def s3():
    """A store, known to Ray's processes; None where its libraries are not installed."""
    if not (find_spec("s3fs") and find_spec("flask_cors")):
        yield None
        return
    with s3_server() as server:
        server.system.makedirs("features", exist_ok=True)
        yield server


@pytest.fixture(scope="module")
def cluster(s3, tmp_path_factory):
    import ray

    with places_of_workers(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUBELET_CACHE", str(tmp_path_factory.mktemp("cache-of-actors")))
        ray.init(address="local", include_dashboard=False, log_to_driver=False, **OPTIONS)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four short ones, one that is none, and two of several parts, one of them damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        video(folder / f"v{k}.mp4", frames=20 + k, seed=k)
    for name in ("long", "damaged"):
        movie(folder / f"{name}.mp4", frames=150, gop=12)
    damage(folder / "damaged.mp4")
    (folder / "broken.mp4").write_text("x")
    return folder


class Seeing(Heard):
    """Looks at the run as `tubelet status` does, when a video is done."""

    def __init__(self, out):
        super().__init__()
        self.out, self.told = out, []

    def done(self, outcome):
        super().done(outcome)
        self.told += status_of(self.out)


def test_the_same_files(cluster, videos, tmp_path):
    """Short, long and broken videos, dense windows, taps; a second run has nothing to do. What
    cannot be made of parts is read as a whole, and leaves none."""
    extractor = tiny(window=WindowConfig(4, stride=2), taps=("mid",), logits=True)
    failed, _ = go([videos], tmp_path / "local", extractor)
    works, heard = Works(), Seeing(tmp_path / "ray")
    lost, _ = go_ray([videos], tmp_path / "ray", extractor, workers=2, works=works, heard=heard)
    assert any(status.working and status.runs and status.left for status in heard.told)
    assert (failed, lost) == (1, 1)
    assert features(tmp_path / "ray") == features(tmp_path / "local")
    assert heard.kinds() == {
        "broken": "failed", "long": "extracted", "damaged": "extracted",
        **{f"v{k}": "extracted" for k in range(4)},
    }  # fmt: skip
    assert any(note.startswith("damaged: read as a whole: ") for note in heard.notes)
    assert heard.rows >= sum(outcome.rows for outcome in heard.outcomes) > 150
    assert not list((tmp_path / "ray/.tubelet").rglob("*.npz"))
    work = works.now()
    assert all(0 < work.busy[stage] < 1 for stage in ("decode", "model", "store"))
    assert work.per_s["decode"] > 0
    assert work.per_s["model"] > 0
    _, heard = go_ray([videos], tmp_path / "ray", extractor, workers=1)
    assert sorted(heard.kinds().values()) == ["failed", *["skipped"] * 6]


def test_out_on_a_store(cluster, s3, videos, tmp_path, monkeypatch):
    """Actors make files in a cache of their own and send them; long videos are not cut."""
    if s3 is None:
        pytest.skip("needs tubelet[s3] and moto's server")
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    out = ObjectFolder.of("s3://features/out")
    go([videos], tmp_path / "local")
    failed, heard = go_ray([videos], out, workers=2)
    there = {k: v for k, v in s3.tree(out.url).items() if k != "tubelet.json"}
    assert (failed, there) == (1, features(tmp_path / "local"))
    assert not list(tmp_path.glob("cache/**/*.npy"))
    _, heard = go_ray([videos], out, workers=1)
    assert sorted(heard.kinds().values()) == ["failed", *["skipped"] * 6]


def test_a_worker_dies_and_a_poison_video_is_given_up(cluster, videos, tmp_path):
    go([videos], tmp_path / "local")
    bright = np.full((24, 32, 3), 255, np.uint8)
    encode([bright] * 8, tmp_path / "poison.mp4", encoding=Encoding("mpeg4"))
    flag = tmp_path / "flag"
    flag.touch()
    inputs = [videos, tmp_path / "poison.mp4"]
    failed, heard = go_ray(inputs, tmp_path / "ray", tiny(model=Fatal(str(flag))), workers=2)
    assert failed == 2
    assert not flag.exists()
    assert {k for k, kind in heard.kinds().items() if kind == "failed"} == {"broken", "poison"}
    line = failures(tmp_path / "ray")["poison"]
    assert line["type"] == "WorkerDied"
    assert "tried 3 times" in line["message"]
    expected = {k: v for k, v in tree(tmp_path / "local").items() if k.endswith(".npy")}
    assert {k: v for k, v in tree(tmp_path / "ray").items() if k.endswith(".npy")} == expected


def test_an_address_that_does_not_answer(cluster):
    """Refused, silent, of another protocol, or no address: said within the limit."""
    from tubelet.run.ray.reach import check_answers

    check_answers(cluster.get_runtime_context().gcs_address)
    check_answers("auto")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray at {address}: no answer within 0.1 s; "):
            check_answers(address, 0.1)
    with pytest.raises(UsageError, match=r"no Ray at .*: Connection refused; .* on this machine"):
        check_answers(f"ray://{address}")
    with pytest.raises(UsageError, match="it must be auto, or HOST:PORT"):
        check_answers("somewhere")
