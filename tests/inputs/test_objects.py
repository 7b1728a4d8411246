"""Videos on an object store: a real S3 server (moto) on this machine."""

import json
import sys

import pytest

from buckets import s3_server
from tests_support import failures, go, tree, video
from tubelet.errors import UsageError
from tubelet.inputs import collect
from tubelet.inputs.object_store import fetched
from tubelet.machine.heartbeat import CELLS, HEARTBEAT
from tubelet.store.remote.objects import object_scheme

pytestmark = pytest.mark.filterwarnings("default")  # of boto, aiohttp and flask


@pytest.fixture(scope="module")
def store():
    """An s3fs file system with an empty bucket `films`."""
    with s3_server() as server:
        server.system.makedirs("films", exist_ok=True)
        yield server.system


@pytest.fixture
def films(store, tmp_path):
    for k, name in enumerate(["a.mp4", "sub/b.mp4"]):
        store.put_file(str(video(tmp_path / f"in/{name}", seed=k)), f"films/{name}")
    store.pipe_file("films/notes.md", b"no video")
    return store


def test_a_folder_of_a_bucket(films, tmp_path, monkeypatch):
    """The same arrays as from a disk; ids below the folder; nothing stays in the cache."""
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    go([tmp_path / "in"], tmp_path / "disk")
    failed, heard = go(["s3://films/"], tmp_path / "out")
    assert failed == 0
    assert heard.kinds() == {"a": "extracted", "sub/b": "extracted"}
    arrays = {k: v for k, v in tree(tmp_path / "disk").items() if k.endswith(".npy")}
    assert {k: v for k, v in tree(tmp_path / "out").items() if k.endswith(".npy")} == arrays
    record = json.loads((tmp_path / "out/sub/b.json").read_text())
    assert record["source"] == "s3://films/sub/b.mp4"
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_changed_object_is_done_again(films, tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    go(["s3://films/a.mp4"], tmp_path / "out")
    assert go(["s3://films/a.mp4"], tmp_path / "out")[1].kinds() == {"a": "skipped"}
    films.put_file(str(video(tmp_path / "new.mp4", seed=9)), "films/a.mp4")
    films.invalidate_cache()
    assert go(["s3://films/a.mp4"], tmp_path / "out")[1].kinds() == {"a": "extracted"}


def test_pieces_that_arrive_are_signs_of_life(films, tmp_path, monkeypatch):
    """Or the time limit would end the download of a large video."""
    films.pipe_file("films/large.mp4", bytes(1 << 20))
    cells = [0] * CELLS
    monkeypatch.setattr(HEARTBEAT, "_cells", cells)
    with fetched("s3://films/large.mp4", tmp_path) as copy:
        assert copy.stat().st_size == 1 << 20
    assert cells[0] >= 8


def test_what_is_not_there(films, tmp_path):
    assert go(["s3://films/gone.mp4"], tmp_path / "out")[0] == 1
    line = failures(tmp_path / "out")["gone"]
    assert (line["type"], line["stage"]) == ("VideoError", "fetch")
    with pytest.raises(UsageError, match="no videos there"):
        collect(["s3://films/nothing/"])


def test_in_lists(tmp_path):
    (tmp_path / "list.csv").write_text("path,id\ns3://films/sub/b.mp4,\ns3://films/a.mp4,x\n")
    items = collect([str(tmp_path / "list.csv")])
    assert [(i.id, i.path) for i in items] == [
        ("b", "s3://films/sub/b.mp4"), ("x", "s3://films/a.mp4"),
    ]  # fmt: skip


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UsageError, match=r"pip install 'tubelet\[gs\]'"):
        collect(["gs://bucket/videos/"])


@pytest.mark.parametrize("text", ["s4://a", "http://a", "s3:a", "a/s3://b", "s3"])
def test_what_is_no_object(text):
    assert object_scheme(text) == ""
