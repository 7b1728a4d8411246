"""`--engine ray`: the files of a local run, whatever dies on the way."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import tubelet
from scale_ray import features, go_ray
from tests_support import failures, go, tiny, tree, video
from tiny import TinyModel
from tubelet.decode.synthetic import number_picture
from tubelet.encode import Encoding, encode
from tubelet.window import WindowConfig

pytest.importorskip("ray", reason="needs tubelet[ray]")
pytestmark = pytest.mark.filterwarnings("default")

OPTIONS = {"num_cpus": 2, "object_store_memory": 150 << 20}


@pytest.fixture(scope="module")
def cluster():
    import ray

    places = [str(Path(__file__).parents[1]), str(Path(tubelet.__file__).parents[1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(places))  # workers find `tiny` there
        ray.init(address="local", include_dashboard=False, log_to_driver=False, **OPTIONS)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five short ones and a long one, of several parts."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(4):
        video(folder / f"v{k}.mp4", frames=20 + k, seed=k)
    pictures = (number_picture(i, width=64, height=48) for i in range(150))
    encode(pictures, folder / "long.mp4", encoding=Encoding("h264", gop=12))
    (folder / "broken.mp4").write_text("x")
    return folder


class Fatal(TinyModel):
    """Takes its process down: always for bright clips, once for others while `flag` is there."""

    def __init__(self, flag):
        super().__init__()
        self.flag = flag

    def features(self, clip, taps=("pool",)):
        if clip.mean() > 0.6 or os.path.exists(self.flag):
            if os.path.exists(self.flag):
                os.unlink(self.flag)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().features(clip, taps)


def test_the_same_files(cluster, videos, tmp_path):
    """Short, long and broken videos, dense windows, taps; a second run has nothing to do."""
    extractor = tiny(window=WindowConfig(4, stride=2), taps=("mid",), logits=True)
    failed, _ = go([videos], tmp_path / "local", extractor)
    lost, heard = go_ray([videos], tmp_path / "ray", extractor, workers=2)
    assert (failed, lost) == (1, 1)
    assert features(tmp_path / "ray") == features(tmp_path / "local")
    assert heard.kinds() == {
        "broken": "failed", "long": "extracted", **{f"v{k}": "extracted" for k in range(4)},
    }  # fmt: skip
    assert not list((tmp_path / "ray/.tubelet").rglob("*.npz"))
    _, heard = go_ray([videos], tmp_path / "ray", extractor, workers=1)
    assert sorted(heard.kinds().values()) == ["failed", *["skipped"] * 5]


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
