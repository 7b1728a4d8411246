"""A tar of videos: nothing leaves it, nothing of it decides a path."""

import io
import json
import os
import tarfile

import numpy as np
import pytest

from tests_support import go, tiny, video
from tubelet.errors import UsageError, VideoError
from tubelet.inputs import Input, collect, on_disk
from tubelet.store.folder import load


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))


def pack(path, mode, members):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".txz", "w:xz")])
def test_members_are_videos_of_their_own(tmp_path, suffix, mode):
    sources = {name: video(tmp_path / name, seed=k) for k, name in enumerate(["a.mp4", "b.mkv"])}
    archive = pack(
        tmp_path / f"set{suffix}",
        mode,
        {
            "./x/a.v1.mp4": sources["a.mp4"].read_bytes(),
            "b.mkv": sources["b.mkv"].read_bytes(),
            "readme.txt": b"no video",
            "broken.mp4": b"no video",
        },
    )
    out = tmp_path / "out"
    failed, heard = go([archive], out)
    assert failed == 1
    assert heard.kinds() == {"x/a.v1": "extracted", "b": "extracted", "broken": "failed"}
    np.testing.assert_array_equal(
        load(out / "x/a.v1.json").values, tiny()(str(sources["a.mp4"])).values
    )
    record = json.loads((out / "b.json").read_text())
    assert record["source"] == f"{archive}!b.mkv"
    assert record["size_bytes"] == sources["b.mkv"].stat().st_size
    assert os.listdir(tmp_path / "cache/members") == []
    _, heard = go([archive], out)
    assert heard.kinds() == {"x/a.v1": "skipped", "b": "skipped", "broken": "failed"}


@pytest.mark.parametrize("name", ["../up.mp4", "/abs.mp4", "a/../../up.mp4", "taps/x.mp4"])
def test_member_paths_that_leave_out_are_refused(tmp_path, name):
    archive = pack(tmp_path / "evil.tar", "w", {name: b"x", "fine.mp4": b"x"})
    with pytest.raises(UsageError, match=r"relative path|collides"):
        go([archive], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "up.mp4").exists()


def test_links_and_devices_are_left_alone(tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "s.mp4"), (tarfile.CHRTYPE, "c.mp4")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(UsageError, match="no videos in this archive"):
        collect([str(path)])


def test_damaged_archives(tmp_path):
    whole = pack(tmp_path / "w.tar", "w", {"a.mp4": bytes(100_000), "b.mp4": bytes(100_000)})
    data = whole.read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:150_000])
    item = Input("b", str(tmp_path / "cut.tar"), member="b.mp4")
    with pytest.raises(VideoError), on_disk(item):
        pass
    for name, content in (("text.tar", b"text" * 1000), ("empty.tar.gz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="not a readable tar"):
            collect([str(tmp_path / name)])
