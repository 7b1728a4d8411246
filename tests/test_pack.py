"""pack and merge: what the consumers' own readers see, refusals, nothing half-written."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from folders import fail, features, make_folder
from tubelet.cli import group
from tubelet.errors import RecipeMismatch, StoreError, UnknownName, UsageError
from tubelet.store.export.layouts import LAYOUTS, Packing, pack
from tubelet.store.folder import load
from tubelet.store.listing import read_folder
from tubelet.store.merge import merge

A, B = features(5, seed=1), features(3, seed=2, logits=7)


@pytest.fixture
def out(tmp_path):
    return make_folder(tmp_path / "out", {"a.v2": A, "deep/b": B})


def packed(out, dest, layout, **choices):
    return pack(read_folder(out), dest, Packing(layout, **choices))


def test_actionformer(out, tmp_path):
    done = packed(out, tmp_path / "to", "actionformer")
    assert done.rows == {"a.v2": 5, "deep/b": 3}
    with np.load(tmp_path / "to" / "a.v2.npz") as data:
        assert list(data) == ["feats"]
        np.testing.assert_array_equal(data["feats"], A.values)


def test_qvhighlights(out, tmp_path):
    packed(out, tmp_path / "to", "qvhighlights")
    with np.load(tmp_path / "to" / "deep" / "b.npz") as data:
        assert data["features"].dtype == np.float16
        np.testing.assert_array_equal(data["features"], B.values.astype(np.float16))


def test_opentad_lists_what_is_missing(out, tmp_path):
    fail(out, "c", "a.v2")
    with pytest.raises(UsageError, match="1 videos are missing, such as c"):
        packed(out, tmp_path / "to", "opentad")
    done = packed(out, tmp_path / "to", "opentad", allow_missing=True, prefix="v_")
    assert list(done.missing) == ["c"]
    assert (tmp_path / "to" / "missing_files.txt").read_text() == "v_c\n"
    np.testing.assert_array_equal(np.load(tmp_path / "to" / "deep" / "v_b.npy"), B.values)


def test_ego4d(out, tmp_path):
    torch = pytest.importorskip("torch")
    packed(out, tmp_path / "to", "ego4d")
    tensor = torch.load(tmp_path / "to" / "a.v2.pt", weights_only=True)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), A.values)


def test_ms_tcn_is_transposed_and_vslnet_counts(out, tmp_path):
    packed(out, tmp_path / "m", "ms-tcn")
    np.testing.assert_array_equal(np.load(tmp_path / "m" / "a.v2.npy"), A.values.T)
    packed(out, tmp_path / "v", "vslnet")
    shapes = json.loads((tmp_path / "v" / "feature_shapes.json").read_text())
    assert shapes == {"a.v2": 5, "deep/b": 3}


def test_mmaction2_as_its_consumers_read_it(out, tmp_path):
    packed(out, tmp_path / "to", "mmaction2")
    rows = np.loadtxt(tmp_path / "to" / "a.v2.csv", np.float32, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows, A.values)


def test_hdf5(out, tmp_path):
    h5py = pytest.importorskip("h5py")
    packed(out, tmp_path / "to.hdf5", "hdf5")
    with h5py.File(tmp_path / "to.hdf5") as file:
        np.testing.assert_array_equal(file["a.v2"][:], A.values)
        np.testing.assert_array_equal(file["times/deep/b/center_s"][:], B.center_s)
        assert file.attrs["recipe"] == read_folder(out).recipe_hash


def test_parquet(out, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    packed(out, tmp_path / "to.parquet", "parquet")
    table = pq.read_table(tmp_path / "to.parquet")
    assert table.column("id").to_pylist() == ["a.v2"] * 5 + ["deep/b"] * 3
    assert table.column("row").to_pylist() == [0, 1, 2, 3, 4, 0, 1, 2]
    rows = np.array(table.column("feature").to_pylist(), np.float32)
    np.testing.assert_array_equal(rows, np.concatenate([A.values, B.values]))
    np.testing.assert_array_equal(table.column("start_s"), np.concatenate([A.start_s, B.start_s]))


def test_safetensors(out, tmp_path):
    reader = pytest.importorskip("safetensors.numpy")
    packed(out, tmp_path / "to.safetensors", "safetensors")
    tensors = reader.load_file(tmp_path / "to.safetensors")
    assert set(tensors) == {"a.v2", "a.v2/times_s", "deep/b", "deep/b/times_s"}
    np.testing.assert_array_equal(tensors["deep/b"], B.values)
    times = np.stack([A.start_s, A.end_s, A.center_s], axis=1)
    np.testing.assert_array_equal(tensors["a.v2/times_s"], times)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_with_time_become_more_rows(layout, tmp_path):
    """[N, T', D] -> [N * T', D], in time order, for every layout; and no leftovers."""
    for name in ("h5py", "pyarrow") if layout in ("hdf5", "parquet") else ():
        pytest.importorskip(name)
    rows = features(3, (2, 4))
    out = make_folder(tmp_path / "out", {"v": rows, "empty": features(0, (2, 4))})
    done = packed(out, tmp_path / "to", layout)
    assert done.rows == {"empty": 0, "v": 6}
    if layout in ("npy", "opentad", "vslnet"):
        np.testing.assert_array_equal(np.load(tmp_path / "to" / "v.npy"), rows.values.reshape(6, 4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "to"]


def test_other_arrays(tmp_path):
    out = make_folder(tmp_path / "out", {"b": B})
    packed(out, tmp_path / "to", "npy", tap="logits")
    np.testing.assert_array_equal(np.load(tmp_path / "to" / "b.npy"), B.logits)
    with pytest.raises(UsageError, match="there are pool, logits"):
        packed(out, tmp_path / "other", "npy", tap="res4")


def test_refusals_leave_nothing_behind(out, tmp_path):
    with pytest.raises(UnknownName, match="actionformer"):
        packed(out, tmp_path / "to", "actionforme")
    with pytest.raises(UsageError, match="own folder"):
        packed(out, out / "inside", "npy")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        packed(out, kept, "npy")
    with pytest.raises(UsageError, match="did not make"):
        packed(out, kept, "npy", overwrite=True)
    assert (kept / "thesis.tex").read_text() == "mine"
    huge = features(2)
    huge.values[:] = 1e6
    big = make_folder(tmp_path / "big", {"v": huge})
    with pytest.raises(StoreError, match="float16"):
        packed(big, tmp_path / "to", "qvhighlights")
    wide = make_folder(tmp_path / "wide", {"v": features(2, (1, 1, 1, 4))})
    with pytest.raises(UsageError, match="--keep"):
        packed(wide, tmp_path / "to", "npy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "kept", "out", "wide"]


def test_a_second_pack_replaces_the_first_whole(out, tmp_path):
    packed(out, tmp_path / "to", "npy", prefix="v_")
    packed(out, tmp_path / "to", "npy", overwrite=True)
    assert not list((tmp_path / "to").rglob("v_*"))
    assert (tmp_path / "to" / "a.v2.npy").exists()


def test_damaged_rows_are_not_packed(out, tmp_path):
    (out / "a.v2.npy").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"a\.v2.*sha256"):
        packed(out, tmp_path / "to", "npy")
    done = packed(out, tmp_path / "to", "npy", allow_missing=True)
    assert done.rows == {"deep/b": 3}


NOT_UTF8 = "na\udcffme"


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if LAYOUTS[name].whole])
def test_names_inside_of_a_file_must_be_utf8(layout, tmp_path):
    out = make_folder(tmp_path / "out", {NOT_UTF8: A})
    with pytest.raises(UsageError, match="is not UTF-8, as names in"):
        packed(out, tmp_path / "to", layout)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not LAYOUTS[name].whole])
def test_names_that_are_not_utf8(layout, tmp_path):
    """Packed, and told as JSON that programs can read."""
    out = make_folder(tmp_path / "out", {NOT_UTF8: A})
    fail(out, f"{NOT_UTF8}2", "other")
    arguments = ["pack", out, "--layout", layout, "-o", tmp_path / "to", "--allow-missing"]
    done = CliRunner().invoke(group, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout_bytes.decode())["rows"] == {NOT_UTF8: 5}
    listed = tmp_path / "to" / "missing_files.txt"
    assert not listed.exists() or f"{NOT_UTF8}2\n".encode("utf-8", "surrogateescape") in (
        listed.read_bytes().splitlines(keepends=True)
    )


def test_names_that_are_not_utf8_are_merged(tmp_path):
    one = make_folder(tmp_path / "one", {NOT_UTF8: A})
    fail(one, f"{NOT_UTF8}2")
    assert merge([one], tmp_path / "all").copied == [NOT_UTF8]
    for line in (tmp_path / "all" / "failures.jsonl").read_text("utf-8").splitlines():
        assert json.loads(line)["id"] == f"{NOT_UTF8}2"


def test_merge_joins_what_pack_and_load_then_see(tmp_path):
    one = make_folder(tmp_path / "one", {"a": A, "both": B})
    two = make_folder(tmp_path / "two", {"deep/b": B, "both": B})
    fail(one, "deep/b", "lost")
    done = merge([one, two], tmp_path / "all")
    assert sorted(done.copied) == ["a", "both", "deep/b"]
    joined = read_folder(tmp_path / "all")
    assert joined.ids == ("a", "both", "deep/b")
    assert joined.failed == ("lost",)
    got = load(tmp_path / "all" / "deep" / "b.json")
    np.testing.assert_array_equal(got.values, B.values)
    np.testing.assert_array_equal(got.logits, B.logits)
    again = merge([one, two], tmp_path / "all")
    assert (again.copied, len(again.same)) == ([], 3)


def test_merge_refuses_other_recipes_and_other_bytes(tmp_path):
    one = make_folder(tmp_path / "one", {"a": A})
    other = make_folder(tmp_path / "other", {"b": B}, recipe={"model": "another"})
    with pytest.raises(RecipeMismatch, match="'made up' -> 'another'"):
        merge([one, other], tmp_path / "all")
    clash = make_folder(tmp_path / "clash", {"a": B})
    with pytest.raises(UsageError, match="different features of that id"):
        merge([one, clash], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_merge_copies_no_damage(tmp_path):
    one = make_folder(tmp_path / "one", {"a": A, "b": B})
    (one / "a.npy").write_bytes(b"damaged")
    done = merge([one], tmp_path / "all")
    assert list(done.damaged) == ["a"]
    assert done.copied == ["b"]
    assert not (tmp_path / "all" / "a.npy").exists()
    assert not (tmp_path / "all" / "a.json").exists()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="OUT of an extract"):
        read_folder(tmp_path / "nowhere")
    make_folder(tmp_path / "out" / "model_a", {"a": A})
    with pytest.raises(UsageError, match="name one: model_a"):
        read_folder(tmp_path / "out")
