"""Inception-I3D: shapes, limits and the padding rule (its numbers: test_i3d_golden.py)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tubelet.errors import ClipError, UnknownName
from tubelet.models import i3d
from tubelet.types import ClipSpec


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return i3d.build(i3d.Config(num_classes=7)).eval()


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_gives_ceil_outputs_and_pads_the_end_first(size, kernel, stride):
    before, after = i3d.same_padding([size], [kernel], [stride])
    assert after - before in (0, 1)
    padded = size + before + after
    if kernel >= stride:
        assert (padded - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize(("frames", "side"), [(8, 32), (9, 33), (17, 97), (24, 250)])
def test_pool_is_the_mean_of_the_clipped_head_pool(model, frames, side):
    with torch.no_grad():
        out = model.features(torch.randn(1, 3, frames, side, side), model.taps)
    assert tuple(out) == model.taps
    top = out["mixed5c"]
    time, space = -(-frames // 8), -(-side // 32)
    assert top.shape == (1, 1024, time, space, space)
    grid = out["grid"]
    assert grid.shape[2:] == (max(time - 1, 1), max(space - 6, 1), max(space - 6, 1))
    corner = top[0, :, : min(time, 2), : min(space, 7), : min(space, 7)]
    torch.testing.assert_close(grid[0, :, 0, 0, 0], corner.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(out["pool"], grid.mean(dim=(2, 3, 4)))
    assert out["dense_logits"].shape == (1, *grid.shape[2:], 7)


def test_forward_and_predict(model):
    clip = torch.randn(2, 3, 16, 64, 64)
    with torch.no_grad():
        dense = model.features(clip, ["dense_logits"])["dense_logits"]
        logits, scores = model(clip), model.predict(clip)
    torch.testing.assert_close(logits, dense.mean(dim=(1, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, logits.softmax(-1))


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (torch.zeros(1, 3, 7, 64, 64), "8 frames"),
        (torch.zeros(1, 3, 8, 31, 64), "32 x 32"),
        (torch.zeros(1, 2, 8, 32, 32), r"\[batch, 3"),
        (torch.zeros(3, 8, 32, 32), r"\[batch, 3"),
        (torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8), "normalised"),
        (torch.zeros(0, 3, 8, 32, 32), "no clip"),
    ],
)
def test_clips_it_cannot_take(model, clip, words):
    with pytest.raises(ClipError, match=words):
        model.features(clip)


def test_unknown_tap(model):
    clip = torch.zeros(1, 3, 8, 32, 32)
    with pytest.raises(UnknownName, match="did you mean 'mixed4f'"):
        model.features(clip, ["mixed4g"])
    with pytest.raises(UnknownName, match="sequence"):
        model.features(clip, "pool")


def test_channels_of_the_clip_spec_decide_the_input():
    flow = i3d.build(i3d.Config(clip=ClipSpec(64, 1, 256, 224, channels=2))).eval()
    assert flow.stem.conv.weight.shape == (64, 2, 7, 7, 7)
    with torch.no_grad():
        assert flow(torch.zeros(1, 2, 8, 32, 32)).shape == (1, 400)
