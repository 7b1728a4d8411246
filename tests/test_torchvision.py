"""torchvision's MViT and RAFT, where it is installed for this torch, with the same weights."""

import numpy as np
import pytest
import torch

import tubelet
from tubelet.flow.base import create_method, flow_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vision():
    return pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError)).models


@pytest.mark.parametrize(
    ("name", "zoo_id"),
    [("mvit_v1_b", "mvit_v1_b_16x4_k400_tv"), ("mvit_v2_s", "mvit_v2_s_16x4_k400_tv")],
)
@pytest.mark.filterwarnings("ignore")
def test_torchvisions_mvit(vision, tmp_path, name, zoo_id):
    torch.manual_seed(0)
    theirs = getattr(vision.video, name)().eval()
    for key, value in theirs.named_parameters():
        if value.ndim == 1 or "pos" in key:
            value.data.normal_("norm" in key and key.endswith("weight"), 0.1)
    path = tmp_path / "x.pth"
    torch.save(theirs.state_dict(), path)
    ours = tubelet.create_model(zoo_id, weights=path)
    clip = torch.randn(1, 3, 16, 224, 224)
    with torch.inference_mode():
        want, got = theirs(clip), ours(clip)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.filterwarnings("ignore")
def test_torchvisions_raft(vision, tmp_path, size):
    network = getattr(vision.optical_flow, f"raft_{size}")().eval()
    path = tmp_path / "raft.pth"
    torch.save(network.state_dict(), path)
    method = create_method(flow_config(f"raft:weights={path},size={size}"))
    first = np.random.default_rng(0).integers(0, 255, (160, 200, 3), np.uint8)
    second = np.roll(first, 3, axis=1)

    def picture(image):
        return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.inference_mode():
        want = network(picture(first), picture(second), num_flow_updates=12)[-1][0]
    error = np.abs(method(first, second) - want.permute(1, 2, 0).numpy()).max()
    assert error < 1e-4  # pixels, of flows of some ten
