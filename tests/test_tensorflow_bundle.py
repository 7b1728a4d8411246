"""TensorFlow checkpoints, without TensorFlow: files made here by the format's description."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tubelet.errors import WeightsError
from tubelet.models.weights.files import tensorflow_bundle
from tubelet.models.weights.files.checkpoint import load_checkpoint
from tubelet.models.weights.files.crc32c import crc32c, masked_crc32c

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "uint8": 4, "float16": 19}


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def checksum(data):
    return struct.pack("<I", masked_crc32c(np.frombuffer(data, np.uint8)))


def block(entries):
    """A table block whose keys share what they can with the one before."""
    out, last = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(last), len(key)) and last[shared] == key[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    out += struct.pack("<II", 0, 1)
    return out, b"\0" + checksum(out + b"\0")


def written(tensors):
    """(index, data) of a one-shard checkpoint."""
    data, entries = b"", [(b"", field(1, 1) + field(3, field(1, 1)))]
    for name in sorted(tensors):
        value = np.asarray(tensors[name])
        raw = value.astype(value.dtype.newbyteorder("<")).tobytes()
        shape = b"".join(field(2, field(1, n)) for n in value.shape)
        entry = field(1, NUMBERS[value.dtype.name]) + field(2, shape)
        entry += field(4, len(data)) if data else b""
        entry += field(5, len(raw)) + b"\x35" + checksum(raw)
        entries.append((name.encode(), entry))
        data += raw
    body, trailer = block(entries)
    index = body + trailer
    meta_at, (meta, meta_trailer) = len(index), block([])
    index += meta + meta_trailer
    handle = varint(0) + varint(len(body))
    top_at, (top, top_trailer) = len(index), block([(entries[-1][0] + b"~", handle)])
    index += top + top_trailer
    footer = varint(meta_at) + varint(len(meta)) + varint(top_at) + varint(len(top))
    return index + footer.ljust(40, b"\0") + tensorflow_bundle.MAGIC, data


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    tensors = {
        "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w": torch.randn(2, 3, 4).numpy(),
        "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta": torch.randn(700).numpy(),
        "global_step": np.int64(12),
    }
    for name, content in zip(("index", "data-00000-of-00001"), written(tensors), strict=True):
        (tmp_path / f"model.ckpt.{name}").write_bytes(content)
    return tmp_path, tensors


def test_read_by_any_of_its_names(bundle):
    folder, tensors = bundle
    names = ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "model.ckpt", "")
    for name in names:
        found = load_checkpoint(folder / name)
        assert found.container == "tensorflow"
        assert set(found.tensors) == set(tensors)
        for key, value in tensors.items():
            np.testing.assert_array_equal(found.tensors[key], value)


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=6),
        hnp.arrays(st.sampled_from(["f4", "i8", "f2"]), hnp.array_shapes(max_dims=3, max_side=4)),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip(tmp_path_factory, tensors):
    folder = tmp_path_factory.mktemp("tf")
    index, data = written(tensors)
    (folder / "x.index").write_bytes(index)
    (folder / "x.data-00000-of-00001").write_bytes(data)
    found = tensorflow_bundle.read(folder / "x.index")
    assert set(found) == set(tensors)
    for key, value in tensors.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_every_damaged_byte_is_noticed(bundle, part):
    folder, _ = bundle
    path = folder / f"model.ckpt.{part}"
    whole = path.read_bytes()
    padding = set(range(len(whole) - 40, len(whole) - 8)) if part == "index" else set()
    for place in [*range(0, len(whole), 37), len(whole) - 1]:
        if place in padding:
            continue
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        with pytest.raises(WeightsError):
            load_checkpoint(folder / "model.ckpt.index")
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError):
            load_checkpoint(folder / "model.ckpt.index")


def test_a_missing_data_file_is_named(bundle):
    folder, _ = bundle
    (folder / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match="data-00000-of-00001 is missing"):
        load_checkpoint(folder / "model.ckpt")


@given(st.binary(max_size=1500))
def test_crc32c_is_the_bitwise_definition(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(np.frombuffer(data, np.uint8)) == state ^ 0xFFFFFFFF


def test_crc32c_of_the_standard_text():
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283


def test_a_checkpoint_that_tensorflow_wrote():
    """Written by TensorFlow 2.21 with the saver of version 1, as the released files were."""
    folder = Path(__file__).parent / "data" / "tensorflow"
    tensors = load_checkpoint(folder / "model.ckpt.index").tensors
    with np.load(folder / "want.npz") as want:
        assert set(tensors) == {name.replace("|", "/") for name in want.files}
        for name in want.files:
            np.testing.assert_array_equal(tensors[name.replace("|", "/")], want[name])
