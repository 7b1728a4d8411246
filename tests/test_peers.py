"""Outputs of other packages' networks, where they are installed, against ours with their weights.

PyTorchVideo:

    pip install --no-deps pytorchvideo==0.1.5 fvcore iopath; pip install portalocker yacs termcolor
        tabulate tqdm networkx parameterized

Its imports of torchvision (RoIAlign and transforms, which these networks do not use) are stubbed.
torchvision's MViT and RAFT need the torchvision that belongs to the installed torch.
`benchmarks/mmaction2.py` does the same for mmaction2.
"""

import importlib
import sys
import types
import warnings

import numpy as np
import pytest
import torch

import tubelet
from tubelet.flow.base import create_method, flow_config

pytestmark = pytest.mark.slow

# X3D's function gives class scores, the others logits.
PEERS = {  # their function -> our entry, clip [T, side]
    "slow_r50": ("slow_r50_8x8_k400_ptv", 8, 224),
    "c2d_r50": ("c2d_r50_8x8_k400_ptv", 8, 224),
    "i3d_r50": ("i3d_r50_8x8_k400_ptv", 8, 224),
    "slowfast_r50": ("slowfast_r50_8x8_k400_ptv", 32, 224),
    "x3d_s": ("x3d_s_k400_ptv", 13, 160),
    "mvit_base_16x4": ("mvit_v1_b_16x4_k400_ptv", 16, 224),
}


class Stub(types.ModuleType):
    """A module in which every name exists and nothing works."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="module")
def hub():
    pytest.importorskip("pytorchvideo", exc_type=ImportError)
    stubbed = ("torchvision", "torchvision.ops", "torchvision.transforms")
    before = {name: sys.modules.get(name) for name in stubbed}
    sys.modules.update({name: Stub(name) for name in stubbed})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield importlib.import_module("pytorchvideo.models.hub")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def shake(model):
    """Weights and statistics that no layer has by default."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.05)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model.eval()


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_same_weights_same_logits(hub, tmp_path, name):
    zoo_id, frames, side = PEERS[name]
    theirs = shake(getattr(hub, name)(pretrained=False))
    path = tmp_path / "x.pyth"
    torch.save({"model_state": theirs.state_dict()}, path)
    ours = tubelet.create_model(zoo_id, weights=path)
    clip = torch.randn(1, 3, frames, side, side)
    given = clip
    if "slowfast" in name:
        slow = torch.linspace(0, frames - 1, frames // 4).long()
        given = [clip[:, :, slow], clip]
    with torch.inference_mode():
        want = theirs(given)
        got = ours.predict(clip) if "x3d" in name else ours(clip)
    error = (got - want).abs().max() / want.abs().max()
    assert error < 1e-5, error


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
