"""Two PyTorch ports of Inception-v1 I3D against ours with the same weights.

    python benchmarks/inception.py --piergiaj pytorch-i3d/pytorch_i3d.py \\
        --hassony2 kinetics_i3d_pytorch/src/i3dpt.py

The arguments are the files of github.com/piergiaj/pytorch-i3d and
github.com/hassony2/kinetics_i3d_pytorch. Prints the largest difference of logits by the largest.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tubelet

PIERGIAJ = {
    "i3d_inception_rgb_imagenet_k400_piergiaj": (400, 3),
    "i3d_inception_flow_imagenet_k400_piergiaj": (400, 2),
    "i3d_inception_rgb_charades_piergiaj": (157, 3),
    "i3d_inception_flow_charades_piergiaj": (157, 2),
}
HASSONY2 = {
    "i3d_inception_rgb_imagenet_k400_hassony2": "rgb",
    "i3d_inception_flow_imagenet_k400_hassony2": "flow",
}


def module_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shake(model: nn.Module) -> nn.Module:
    """Weights and statistics that no layer has by default."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.normal_(0, 0.05, generator=generator)
        elif isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.05, generator=generator)
    return model.eval()


def difference(theirs: nn.Module, identity: str) -> float:
    """Of logits, by the largest. One of the ports gives them per time step, one with scores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(theirs.state_dict(), path)
        ours: Any = tubelet.create_model(identity, weights=str(path))
    clip = torch.randn(1, ours.clip.channels, 32, 224, 224)
    with torch.inference_mode():
        out = theirs(clip)
        want = out[1] if isinstance(out, tuple) else out.mean(2)
        return float((ours(clip) - want).abs().max() / want.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--piergiaj", type=Path, required=True)
    parser.add_argument("--hassony2", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    first, second = module_of(args.piergiaj), module_of(args.hassony2)
    for identity, (classes, channels) in PIERGIAJ.items():
        theirs = shake(first.InceptionI3d(classes, in_channels=channels))
        print(f"| `{identity}` | {difference(theirs, identity):.1e} |", flush=True)
    for identity, modality in HASSONY2.items():
        theirs = shake(second.I3D(400, modality=modality))
        print(f"| `{identity}` | {difference(theirs, identity):.1e} |", flush=True)


if __name__ == "__main__":
    main()
