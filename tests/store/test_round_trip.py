"""Every format gives back what was put in, bit for bit."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tubelet
from tubelet.errors import StoreError, UsageError
from tubelet.store.folder import CODECS, codec_of, load, open_folder, sha256_of
from tubelet.store.formats.rows import PIECE_BYTES, Rows
from tubelet.types import Features

FORMATS = sorted(CODECS)
SHAPES = {"clip": (8,), "time": (2, 8), "space-time": (2, 3, 3, 8), "views": (3, 8)}


def make(n, *, shape=(8,), dtype="float32", taps=(), logits=False, seed=0):
    rng = np.random.default_rng(seed)
    start = np.sort(rng.uniform(0, 1000, n))

    def array(*row):
        return rng.standard_normal((n, *row)).astype(dtype)

    return Features(
        values=array(*shape),
        start_s=start,
        end_s=start + 2.56,
        center_s=start + 1.28,
        provenance={"source": "a.mp4", "warnings": [], "fps": 25.0},
        taps={tap: array(5) for tap in taps},
        logits=array(3) if logits else None,
    )


def folder_at(path, fmt, recipe=None):
    return open_folder(path, recipe=recipe or {"model": "m"}, run={}, fmt=fmt, overwrite=False)


def assert_equal(a, b):
    assert a.values.dtype == b.values.dtype
    np.testing.assert_array_equal(a.values, b.values)
    for name in ("start_s", "end_s", "center_s"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert sorted(a.taps) == sorted(b.taps)
    for tap in a.taps:
        assert a.taps[tap].dtype == b.taps[tap].dtype
        np.testing.assert_array_equal(a.taps[tap], b.taps[tap])
    assert (a.logits is None) == (b.logits is None)
    if a.logits is not None:
        np.testing.assert_array_equal(a.logits, b.logits)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("keep", SHAPES)
def test_round_trip(tmp_path, fmt, dtype, keep):
    features = make(7, shape=SHAPES[keep], dtype=dtype, taps=("res4", "grid"), logits=True)
    folder = folder_at(tmp_path, fmt)
    folder.write("some/video.v2", features)
    assert folder.is_done("some/video.v2")
    assert_equal(load(tmp_path / "some/video.v2.json"), features)
    assert_equal(load(tmp_path / f"some/video.v2.{fmt}"), features)


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_rows(tmp_path, fmt):
    features = make(0, taps=("res4",), logits=True)
    folder_at(tmp_path, fmt).write("v", features)
    assert load(tmp_path / "v.json").values.shape == (0, 8)
    assert_equal(load(tmp_path / "v.json"), features)


@settings(max_examples=25, deadline=None)
@given(
    fmt=st.sampled_from(FORMATS),
    dtype=st.sampled_from(["float32", "float16"]),
    n=st.integers(0, 40),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_shape_round_trips(tmp_path_factory, fmt, dtype, n, shape, seed):
    out = tmp_path_factory.mktemp("out")
    features = make(n, shape=tuple(shape), dtype=dtype, taps=("res5",), seed=seed)
    folder_at(out, fmt).write("v", features)
    assert_equal(load(out / "v"), features)


def test_npy_is_what_numpy_writes(tmp_path):
    features = make(5, taps=("res4",), logits=True)
    folder_at(tmp_path, "npy").write("a/b", features)
    np.save(tmp_path / "plain.npy", features.values)
    assert (tmp_path / "a/b.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "taps/res4/a/b.npy"), features.taps["res4"])
    np.testing.assert_array_equal(np.load(tmp_path / "logits/a/b.npy"), features.logits)
    record = json.loads((tmp_path / "a/b.json").read_text())
    assert record["sha256"] == sha256_of(tmp_path / "a/b.npy")
    assert set(record["files"]) == {"a/b.npy", "taps/res4/a/b.npy", "logits/a/b.npy"}
    for anywhere in ("taps/res4/a/b.npy", "logits/a/b.npy", "a/b.npy", "a/b.json", "a/b"):
        assert_equal(load(tmp_path / anywhere), features)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f != "npy"])
def test_other_formats_are_one_file_per_video(tmp_path, fmt):
    folder_at(tmp_path, fmt).write("v", make(4, taps=("res4",), logits=True))
    names = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")}
    assert names == {"tubelet.json", "v.json", f"v.{fmt}"}


def test_npz_is_plain_numpy(tmp_path):
    features = make(4, taps=("res4",))
    folder_at(tmp_path, "npz").write("v", features)
    with np.load(tmp_path / "v.npz") as archive:
        assert sorted(archive.files) == ["center_s", "end_s", "pool", "res4", "start_s"]
        np.testing.assert_array_equal(archive["pool"], features.values)


@pytest.mark.parametrize("fmt", FORMATS)
def test_equal_rows_give_equal_bytes(tmp_path, fmt):
    for name in ("a", "b"):
        folder_at(tmp_path / name, fmt).write("v", make(6, taps=("res4",), logits=True))
    assert (tmp_path / f"a/v.{fmt}").read_bytes() == (tmp_path / f"b/v.{fmt}").read_bytes()
    assert (tmp_path / "a/v.json").read_bytes() == (tmp_path / "b/v.json").read_bytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_rows_beyond_memory_are_the_same_file(tmp_path, fmt):
    """Rows that waited on disk, written piece by piece."""
    n, width = 3 * PIECE_BYTES // (4 * 65536) + 5, 65536
    spooled, row = Rows(tmp_path), np.arange(width, dtype=np.float32)
    for k in range(n):
        spooled.append(row + k)
    values = spooled.array()
    assert values.shape == (n, width)
    assert (values[:, 0] == np.arange(n)).all()
    times = {name: np.arange(n, dtype=np.float64) for name in ("start_s", "end_s", "center_s")}
    folder_at(tmp_path / "a", fmt).put("v", {"pool": spooled}, times, {})
    folder_at(tmp_path / "b", fmt).put("v", {"pool": Rows.of(values)}, times, {})
    assert (tmp_path / f"a/v.{fmt}").read_bytes() == (tmp_path / f"b/v.{fmt}").read_bytes()
    np.testing.assert_array_equal(load(tmp_path / "a/v.json").values, values)
    spooled.close()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".tubelet-tmp", "tmp"))]


def test_rows_must_agree():
    rows = Rows()
    rows.append(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="after"):
        rows.append(np.zeros(4, np.float32))


@pytest.mark.parametrize("fmt", FORMATS)
def test_damage_is_noticed(tmp_path, fmt):
    folder = folder_at(tmp_path, fmt)
    folder.write("v", make(9))
    path = tmp_path / f"v.{fmt}"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert not folder.is_done("v")
    with pytest.raises(StoreError, match=r"damaged.*extract it again"):
        load(path)
    path.unlink()
    assert not folder.is_done("v")
    with pytest.raises(StoreError, match="missing"):
        load(tmp_path / "v.json")


def test_load_says_what_is_not_a_feature_file(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}')
    np.save(tmp_path / "lonely.npy", np.zeros(3))
    for name in ("x.json", "lonely.npy", "absent.npy"):
        with pytest.raises(StoreError, match="is this a feature file"):
            load(tmp_path / name)


def test_unknown_format(tmp_path):
    with pytest.raises(UsageError, match=r"'hdf6' is unknown.*did you mean 'hdf5'"):
        folder_at(tmp_path, "hdf6")


@pytest.mark.parametrize(("fmt", "library"), [("hdf5", "h5py"), ("parquet", "pyarrow")])
def test_a_missing_extra_is_named(fmt, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, CODECS[fmt], raising=False)
    with pytest.raises(UsageError, match=rf"needs {library}.*pip install 'tubelet\[{fmt}\]'"):
        codec_of(fmt)


def test_dataset(tmp_path):
    import torch

    for fmt in FORMATS:
        out = tmp_path / fmt
        for name in ("b", "sub/a"):
            folder_at(out, fmt).write(name, make(3, taps=("res4",), logits=True))
        data = tubelet.FeatureDataset(out)
        assert data.ids == ("b", "sub/a")
        items = list(torch.utils.data.DataLoader(data, batch_size=None))
        assert items[1]["id"] == "sub/a"
        assert items[1]["values"].shape == (3, 8)
        assert {"start_s", "end_s", "center_s", "res4", "logits"} < set(items[1])
    with pytest.raises(UsageError, match="holds several models; name one: hdf5, npy, npz, parquet"):
        tubelet.FeatureDataset(tmp_path)


def test_public_names_are_light():
    code = (
        "import sys, tubelet; from tubelet import load, plan_windows, open_video, FeatureDataset\n"
        "assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules\n"
        "for name in tubelet.__all__: getattr(tubelet, name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
