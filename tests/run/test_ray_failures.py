"""Kills on a Ray cluster: decoders, a node, the driver; Ctrl-C. Slow: `make scale`."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from launcher import Launcher
from ray_cluster import features, go_ray, movie, places_of_workers
from tests_support import Heard, failures, go, tiny, tree, video
from tiny import TinyModel
from tubelet.decode.encode import Encoding, encode
from tubelet.inputs import Input

pytest.importorskip("ray", reason="needs tubelet[ray]")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

STORE = 100 << 20


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for k in range(24):
        video(folder / f"v{k:02}.mp4", frames=60 + k, seed=k)
    movie(folder / "long.mp4", frames=400, gop=12)
    return folder


@pytest.fixture(scope="module")
def calm(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("calm")
    go([videos], out)
    return features(out)


@pytest.fixture
def cluster():
    """A head without processors and two nodes of two."""
    import ray
    from ray.cluster_utils import Cluster

    with places_of_workers():
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
            cluster.wait_for_nodes()
            yield cluster, nodes
        finally:
            ray.shutdown()
            cluster.shutdown()


class Striking(Heard):
    """Does something when the third video is done."""

    def __init__(self, strike):
        super().__init__()
        self.strike = strike

    def done(self, outcome):
        super().done(outcome)
        if len(self.outcomes) == 3:
            self.strike()


def processes(name):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if text.startswith(f"ray::{name}"):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("name", ["Decoder", "ModelWorker"])
def test_an_actor_is_killed(cluster, videos, calm, tmp_path, name):
    import ray

    ray.init(address=cluster[0].address, log_to_driver=False)
    killed = []

    def strike():
        killed.extend(processes(name)[:1])
        os.kill(killed[0], signal.SIGKILL)

    failed, heard = go_ray([videos], tmp_path / "out", workers=2, heard=Striking(strike))
    assert killed
    assert failed == 0
    assert len(heard.kinds()) == 25
    assert features(tmp_path / "out") == calm


def test_a_node_is_killed(cluster, videos, calm, tmp_path):
    import ray

    ray.init(address=cluster[0].address, log_to_driver=False)
    strike = lambda: cluster[0].remove_node(cluster[1][0], allow_graceful=False)  # noqa: E731
    failed, heard = go_ray([videos], tmp_path / "out", workers=2, heard=Striking(strike))
    assert failed == 0
    assert len(heard.kinds()) == 25
    assert features(tmp_path / "out") == calm


class Stuck(TinyModel):
    """Never comes back from a bright clip."""

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.6:
            time.sleep(600)
        return super().features(clip, taps)


def test_the_time_limit(cluster, videos, tmp_path):
    import ray

    ray.init(address=cluster[0].address, log_to_driver=False)
    encode([np.full((24, 32, 3), 255, np.uint8)] * 8, tmp_path / "stuck.mp4", encoding=Encoding())
    inputs = [tmp_path / "stuck.mp4", videos / "v00.mp4"]
    failed, _ = go_ray(inputs, tmp_path / "out", tiny(model=Stuck()), workers=1, timeout=5)
    assert failed == 1
    line = failures(tmp_path / "out")["stuck"]
    assert (line["stage"], line["type"]) == ("model", "TimeLimit")
    assert "the model gave no row for 5 s" in line["message"]
    assert (tmp_path / "out/v00.npy").exists()


def test_a_decoder_that_hangs_before_its_first_row(cluster, videos, tmp_path):
    """The driver gives its length up; the worker is ended with the process that hangs; the rest is
    done."""
    import ray

    ray.init(address=cluster[0].address, log_to_driver=False)
    items = [Input("h", "synthetic:frames=40,pattern=flat,stall=0")]
    items.append(Input("v", str(videos / "v00.mp4")))
    failed, heard = go_ray(items, tmp_path / "out", workers=1, timeout=3)
    assert (failed, heard.kinds()) == (1, {"h": "failed", "v": "extracted"})
    line = failures(tmp_path / "out")["h"]
    assert (line["stage"], line["type"], line["attempts"]) == ("decode", "TimeLimit", 1)
    assert heard.notes == [f"length not read: {items[0].path} (nothing moved for 3 s (--timeout))"]
    deadline = time.monotonic() + 30
    while processes("Decoder"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_driver_ends_and_the_command_is_run_again(
    cluster, videos, calm, tmp_path, number, code
):
    out = tmp_path / "out"
    launcher = Launcher(tmp_path)
    arguments = (
        "extract", videos, "-o", out, "-m", "tiny", "--stride", 2, "--engine", "ray",
        "--ray-address", cluster[0].address, "--part-seconds", 2, "--workers", 2,
    )  # fmt: skip
    try:
        process = launcher.start(*arguments)
        process.lines(3)
        process.send_signal(number)
        ended, text = process.wait()
        assert ended == code, text
        if number == signal.SIGINT:
            assert "finishing" in text
            assert not list((out / ".tubelet/claims").glob("*.json"))
        before = tree(out)
        assert any(name.endswith(".npy") for name in before)
        assert launcher.run(*arguments)[0] == 0
    finally:
        launcher.close()
    assert {k: v for k, v in features(out).items() if k.endswith(".npy")} == {
        k: v for k, v in calm.items() if k.endswith(".npy")
    }
