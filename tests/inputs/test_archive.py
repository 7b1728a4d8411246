"""A tar of videos: nothing leaves it, nothing of it decides a path."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

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


def paxed(path, *members):
    """(name, size in the header, data, pax headers) of each member."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data, headers in members:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), headers
            archive.addfile(info, io.BytesIO(data))
    return path


def sparse(real):
    return {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(real),
        "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,512",
    }  # fmt: skip


@pytest.mark.parametrize("real", [64 << 20, 32 << 40])
def test_a_member_of_holes_is_refused(tmp_path, real):
    """Copying it wrote 32 TiB of zeros; the other members of the tar are extracted."""
    good = video(tmp_path / "good.mp4").read_bytes()
    holes = ("holes.mp4", b"x" * 512, sparse(real))
    archive = paxed(tmp_path / "a.tar", holes, ("good.mp4", good, {}))
    failed, heard = go([archive], tmp_path / "out")
    assert (failed, heard.kinds()) == (1, {"holes": "failed", "good": "extracted"})
    assert "holes.mp4: " in heard.outcomes[0].text
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_sparse_member_with_few_holes_is_read(tmp_path):
    """A recorder that reserves space leaves some."""
    data = video(tmp_path / "good.mp4").read_bytes()
    headers = sparse(len(data) + 1000) | {"GNU.sparse.map": f"0,{len(data)}"}
    archive = paxed(tmp_path / "a.tar", ("good.mp4", data, headers))
    with on_disk(Input("good", str(archive), member="good.mp4")) as path:
        assert Path(path).read_bytes() == data + bytes(1000)


@pytest.mark.parametrize("mtime", ["nan", "inf", "-1e400"])
def test_times_that_are_none(tmp_path, mtime):
    good = video(tmp_path / "good.mp4").read_bytes()
    archive = paxed(tmp_path / "a.tar", ("good.mp4", good, {"mtime": mtime}))
    failed, heard = go([archive], tmp_path / "out")
    assert (failed, heard.kinds()) == (0, {"good": "extracted"})


@pytest.mark.parametrize("size", ["9" * 25, "-512", "-1", "soon"])
def test_sizes_that_are_none(tmp_path, size):
    """Refused, or the member fails; a size that leads back was read for ever."""
    archive = paxed(tmp_path / "a.tar", ("a.mp4", b"x" * 600, {"size": size}))
    try:
        items = collect([str(archive)])
    except UsageError:
        return
    failed, _ = go(items, tmp_path / "out")
    assert failed == 1


def test_a_header_of_any_length(tmp_path):
    """A megabyte of gzip may say that the name has gigabytes."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf() + bytes(1 << 20))
    with pytest.raises(UsageError, match="a header of 1073741824 bytes"):
        collect([str(tmp_path / "a.tar.gz")])


def test_a_member_above_the_limit(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar", "w", {"a.mp4": bytes(1000)})
    monkeypatch.setenv("TUBELET_MAX_DOWNLOAD", "999")
    with (
        pytest.raises(VideoError, match="1000 bytes, the limit is 999"),
        on_disk(Input("a", str(archive), member="a.mp4")),
    ):
        pass
