"""A folder from a stranger: what its files name is never touched outside of it."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from tests.folders import features, make_folder

import tubelet
from tubelet.cli import group
from tubelet.errors import StoreError
from tubelet.rows.collection import load_collection


def merge(*arguments):
    words = ["merge", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(group, words, standalone_mode=False).return_value


def edit(sidecar, **changes):
    record = json.loads(sidecar.read_text("utf-8"))
    sidecar.write_text(json.dumps({**record, **changes}), "utf-8")


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "theirs", {"a": features(2), "b": features(3, seed=1)})
    return tmp_path / "theirs"


NAMES = ["../../victim", "/{home}/victim", "taps/../../../victim", "a/../../../victim", "b.npy"]


@pytest.mark.parametrize("name", NAMES)
def test_merge_writes_nothing_outside_of_its_folder(name, folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    name = name.format(home=str(tmp_path).strip("/"))
    digest = json.loads((folder / "a.json").read_text())["sha256"]
    edit(folder / "a.json", files={name: digest})
    before = (folder / "b.npy").read_bytes()
    assert merge(folder, "-o", tmp_path / "deep" / "er" / "out") == 1
    assert victim.read_text() == "mine"
    assert not (tmp_path / "deep" / "victim").exists()
    assert (folder / "b.npy").read_bytes() == before
    with pytest.raises(StoreError, match=r"outside of its folder|not of 'a'"):
        tubelet.load(folder / "a.json")


def test_a_link_that_leads_out_is_not_followed(folder, tmp_path):
    secret = tmp_path / "secret.npy"
    np.save(secret, np.ones((2, 4), np.float32))
    (folder / "a.npy").unlink()
    (folder / "a.npy").symlink_to(secret)
    with pytest.raises(StoreError, match="leads out of its folder"):
        tubelet.load(folder / "a.json")
    assert merge(folder, "-o", tmp_path / "out") == 1
    assert not (tmp_path / "out" / "a.npy").exists()


def test_a_cache_behind_a_link_is_left_alone(folder, tmp_path):
    mine = tmp_path / "photos"
    mine.mkdir()
    (mine / "holiday.jpg").write_text("mine")
    (folder / ".tubelet").mkdir()
    (folder / ".tubelet" / "rows").symlink_to(mine)
    with pytest.raises(StoreError, match="a link"):
        load_collection(folder)
    assert [path.name for path in mine.iterdir()] == ["holiday.jpg"]


def test_only_files_of_our_own_names_leave_the_cache(folder):
    load_collection(folder)
    place = folder / ".tubelet" / "rows"
    (place / "notes.txt").write_text("mine")
    (place / ("0" * 16 + ".f32")).write_bytes(b"old")
    edit(folder / "a.json", duration_s=1.0)
    load_collection(folder)
    names = {path.name for path in place.iterdir()}
    assert "notes.txt" in names
    assert "0" * 16 + ".f32" not in names


def external(file, secret: Path):
    file.create_dataset("pool", (2, 4), "f4", external=[(str(secret), 0, 32)])


def virtual(file, secret: Path):
    layout = h5py.VirtualLayout((2, 4), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "pool", (2, 4))
    file.create_virtual_dataset("pool", layout)


def soft_link(file, secret: Path):
    file["pool"] = h5py.ExternalLink(str(secret), "pool")


def huge(file, secret: Path):
    file.create_dataset("pool", (1 << 20, 1 << 18), "f4", chunks=(1, 1024))


@pytest.mark.parametrize("spoil", [external, virtual, soft_link, huge])
def test_hdf5_reads_no_other_file(spoil, tmp_path):
    make_folder(tmp_path / "out", {"a": features(2)}, fmt="hdf5")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    path = tmp_path / "out" / "a.hdf5"
    with h5py.File(path, "r+") as file:
        del file["pool"]
        spoil(file, secret)
    with pytest.raises(StoreError, match=r"another file|link|not in the file"):
        tubelet.load(path, verify=False)
