"""Outputs of PyTorchVideo's own networks, where it is installed, against ours with its weights.

    pip install --no-deps pytorchvideo==0.1.5 fvcore iopath; pip install portalocker yacs termcolor
        tabulate tqdm networkx parameterized

Its imports of torchvision (RoIAlign and transforms, which these networks do not use) are stubbed.
`test_torchvision.py` does the same for torchvision, `benchmarks/mmaction2.py` for mmaction2.
"""

import importlib
import sys
import warnings

import pytest
import torch
from benchmarks.stub import Stub

import tubelet

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
