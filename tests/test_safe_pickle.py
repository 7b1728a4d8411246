"""Checkpoint files of strangers: read without running them, or refused by what they are."""

import contextlib
import io
import operator
import os
import pickle
import struct
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tubelet.errors import UnsafeFile, WeightsError
from tubelet.models.weights.files import safe_pickle, torch_file
from tubelet.models.weights.files.checkpoint import load_checkpoint


class Reduces:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call

    def __call__(self):
        raise AssertionError("a chain of calls: pickle only asks whether this is callable")


def in_pickle(data):
    return data


def in_torch_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def in_legacy_torch(data):
    numbers = (torch_file.LEGACY_MAGIC, torch_file.LEGACY_PROTOCOL, {"little_endian": True})
    head = b"".join(pickle.dumps(n, 2) for n in numbers)
    return head + data + pickle.dumps([], 2)


CONTAINERS = [in_pickle, in_torch_zip, in_legacy_torch]


def written(tmp_path, data):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    return path


HOSTILE = {
    "(posix|nt).system": lambda mark: Reduces(os.system, f"touch {mark}"),
    "(builtins|__builtin__).eval": lambda mark: Reduces(eval, f"open({str(mark)!r}, 'w')"),
    "(builtins|__builtin__).exec": lambda mark: Reduces(exec, f"open({str(mark)!r}, 'w')"),
    "(builtins|__builtin__).(getattr|__import__)": lambda mark: Reduces(
        Reduces(getattr, Reduces(__import__, "os"), "system"), f"touch {mark}"
    ),
    "operator.attrgetter": lambda mark: Reduces(
        Reduces(operator.attrgetter, "system"), Reduces(__import__, "os")
    ),
    "io.open": lambda mark: Reduces(open, str(mark), "w"),
    "(subprocess|commands).Popen": lambda mark: Reduces(subprocess.Popen, ["touch", str(mark)]),
    "torch.serialization.load": lambda mark: Reduces(torch.load, str(mark)),
    "numpy.*.load": lambda mark: Reduces(np.load, str(mark)),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_call_is_refused_by_its_name_and_never_made(tmp_path, container, protocol, name):
    mark = tmp_path / "mark"
    state = {"model_state": {"a": HOSTILE[name](mark)}}
    path = written(tmp_path, container(pickle.dumps(state, protocol)))
    with pytest.raises(UnsafeFile, match=name) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_old_protocol_calls(tmp_path, container):
    mark = tmp_path / "mark"
    for text in (f"cos\nsystem\n(S'touch {mark}'\ntR.", f"(S'touch {mark}'\nios\nsystem\n."):
        path = written(tmp_path, container(text.encode()))
        with pytest.raises(UnsafeFile, match=r"os.system"):
            load_checkpoint(path)
    assert not mark.exists()


BOMBS = {
    "memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "memo index in text": b"(dp2000000000\n.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "long bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "long text": b"\x80\x02X" + struct.pack("<I", 0xFFFFFFF0) + b"x.",
    "negative string": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
    "long frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"}.",
    "long number": b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"x.",
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_allocate(tmp_path, container, name):
    path = written(tmp_path, container(BOMBS[name]))
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"bomb|truncated"):
        load_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_copies_of_one_string_are_refused(tmp_path):
    """One megabyte, memoised, made into an array again and again."""
    data = b"\x80\x02]q\x00(X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x01"
    data += (b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R") * 1000 + b"e."
    with pytest.raises(UnsafeFile, match="memo bomb"):
        load_checkpoint(written(tmp_path, data))


def test_dicts_nested_in_each_other_are_refused(tmp_path):
    tree = {"w": np.zeros(1)}
    for _ in range(60):
        tree = {"a": tree, "b": tree}
    with pytest.raises(UnsafeFile, match="nested"):
        load_checkpoint(written(tmp_path, pickle.dumps({"params": tree})))
    loop = {}
    loop["again"] = loop
    with pytest.raises(UnsafeFile, match="nested"):
        load_checkpoint(written(tmp_path, pickle.dumps(loop)))


def test_an_array_larger_than_its_data_is_refused(tmp_path):
    for shape, data in (((1 << 40,), b"1234"), ((-1, 4), b"1234"), ((2,), b"1234567890")):
        state = (1, shape, np.dtype("f4"), False, data)
        array = Reduces(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b")
        array.call = (*array.call, state)
        with pytest.raises(UnsafeFile, match="shape"):
            load_checkpoint(written(tmp_path, pickle.dumps({"a": array}, 2)))


@pytest.mark.parametrize("dtype", [object, "S4", "U3", "M8[s]", [("a", "f4")], "c16"])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, dtype):
    with pytest.raises(UnsafeFile, match=r"numbers|type|text"):
        load_checkpoint(written(tmp_path, pickle.dumps({"a": np.zeros(2, dtype)}, 4)))


@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", "<f2", "<i8", ">i4", "u1", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements={"allow_nan": False},
    ),
    protocol=st.integers(0, 5),
    fortran=st.booleans(),
)
def test_arrays_survive_every_protocol(array, protocol, fortran):
    array = np.asarray(array, order="F" if fortran else "C")
    found, _ = safe_pickle.load(pickle.dumps({"a": array, "b": array}, protocol))
    value = found["a"].value
    assert value.shape == array.shape
    np.testing.assert_array_equal(value, array)
    assert value.dtype.isnative


@given(st.sampled_from(["<f4", ">i2", "<f8"]), st.integers(0, 5))
def test_scalars_survive_every_protocol(dtype, protocol):
    scalar = np.array(3, dtype)[()]
    found, _ = safe_pickle.load(pickle.dumps({"lr": scalar}, protocol))
    assert found["lr"].value == 3


VALID = pickle.dumps({"blobs": {"conv1_w": np.arange(12, dtype="f4"), "lr": np.float32(1)}}, 2)


@given(st.data())
def test_damaged_pickles_raise_nothing_but_our_errors(data):
    damaged = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    with contextlib.suppress(WeightsError):
        safe_pickle.load(bytes(damaged[:cut]))


@given(st.integers(1, len(VALID) - 1))
def test_truncated_pickles_are_refused(cut):
    with pytest.raises(WeightsError):
        safe_pickle.load(VALID[:cut])


def test_python_2_pickles_are_read_as_latin1(tmp_path):
    """What Python 2 wrote: byte strings, the old module names, protocols 0 and 2."""
    numbers = np.array([1.5, -2.25e-30, 3e20], "<f4")
    raw = numbers.tobytes()
    quoted = "".join(f"\\x{byte:02x}" if byte > 126 or byte < 32 else chr(byte) for byte in raw)
    dtype = (
        b"cnumpy\ndtype\np3\n(S'f4'\np4\nI0\nI1\ntp5\nRp6\n(I3\nS'<'\np7\nNNNI-1\nI-1\nI0\ntp8\nb"
    )
    text = (
        b"(dp1\nS'blobs'\np2\n(dp9\nS'conv1_w'\np10\n"
        b"cnumpy.core.multiarray\n_reconstruct\np11\n(cnumpy\nndarray\np12\n(I0\ntp13\nS'b'\np14\n"
        b"tp15\nRp16\n(I1\n(I3\ntp17\n"
        + dtype
        + b"I00\nS'"
        + quoted.encode()
        + b"'\np18\ntp19\nbss."
    )
    tensors = load_checkpoint(written(tmp_path, text)).tensors
    assert torch.equal(tensors["conv1_w"], torch.from_numpy(numbers))
    binary = text.replace(b"S'" + quoted.encode() + b"'\n", b"U\x0c" + raw)
    assert torch.equal(
        load_checkpoint(written(tmp_path, binary)).tensors["conv1_w"], torch.from_numpy(numbers)
    )


def full_checkpoint():
    """What training writes: weights, optimizer, schedule, numbers, text."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    return {
        "epoch": 196,
        "model_state": net.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "cfg": "MODEL:\n  ARCH: slowfast\n",
        "best": np.float64(77.5),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "seen": {1, 2},
        "device": torch.device("cpu"),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_like_torch_reads_them(tmp_path, zipped):
    path = tmp_path / "x.pyth"
    saved = full_checkpoint()
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(path)
    assert found.container == ("torch zip" if zipped else "legacy torch")
    assert "optimizer_state" in found.ignored
    assert "cfg" in found.ignored
    assert list(found.tensors) == list(saved["model_state"])
    for key, value in saved["model_state"].items():
        assert torch.equal(found.tensors[key], value)


@pytest.mark.parametrize("zipped", [True, False])
def test_views_types_and_parameters(tmp_path, zipped):
    base = torch.arange(24.0)
    state = {
        "slice": base[4:10],
        "transposed": base.reshape(4, 6).t(),
        "shared": base,
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(t): torch.ones(3).to(t) for t in torch_file.STORAGES.values()},
    }
    path = tmp_path / "x.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(path).tensors
    assert set(found) == set(state)
    for key, value in state.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value.detach())


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_files(tmp_path, zipped):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.randn(1000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for cut in (20, 200, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"truncated|damaged|end at"):
            load_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_refused_by_its_class(tmp_path, zipped):
    path = tmp_path / "x.pt"
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFile, match=r"Linear|module"):
        load_checkpoint(path)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    with pytest.raises(UnsafeFile, match="storage"):
        load_checkpoint(path)


def test_zip_bombs_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", b"\0" * 10_000_000)
    with pytest.raises(UnsafeFile, match="compressed"):
        load_checkpoint(path)


REFUSED = {
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 50,
    "HTML": b"\n <!DOCTYPE html><html><body>403</body></html>",
    "empty": b"",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "starts with": b'{"message": "Not Found"}',
    "tar archive": b"x" + b"\0" * 256 + b"ustar\0",
    "damaged": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_are_no_checkpoints(tmp_path, what):
    with pytest.raises(WeightsError, match=what):
        load_checkpoint(written(tmp_path, REFUSED[what]))


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/code/__torch__.py", b"")
        archive.writestr("x/data.pkl", b"")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_checkpoint(path)


def test_absent_and_folder(tmp_path):
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            load_checkpoint(path)
