"""The fast transformers against eager networks in one process that takes turns: ratios only.

python benchmarks/mvit.py [VARIANT ...] [--rounds 5]

eager     PyTorchVideo's MViT-B where it is installed; else the readable network with attention
          written out: scores and relative bias, Nq x Nk for every head, as in PySlowFast
readable  tubelet's readable network; fp32, bf16: what `tubelet extract` runs
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from statistics import median
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import models as peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.models import mvit, revmvit
from tubelet.models.blocks import pooling_attention
from tubelet.models.fast import accelerate

PEER = {"mvit_v1_b_16x4": ("mvit_base_16x4", "mvit_v1_b_16x4.k400_ptv")}
NAMES = ("mvit_v1_b_16x4", "mvit_v2_s_16x4", "rev_mvit_b_16x4", "rev_vit_b")


def shaken(name: str) -> nn.Module:
    """Weights under which every branch counts."""
    torch.manual_seed(0)
    family = revmvit if name in revmvit.VARIANTS else mvit
    model = family.build(family.VARIANTS[name]).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1) @ v


@torch.inference_mode()
def measure(name: str, rounds: int) -> str:
    model = shaken(name)
    clip = torch.randn(1, 3, model.clip.frames, model.clip.crop, model.clip.crop)
    fp32, bf16 = accelerate(model), accelerate(model, precision="bf16")

    def written_out() -> None:
        out = pooling_attention.attend_written_out
        with (
            mock.patch.object(pooling_attention, "attend", out),
            mock.patch.object(F, "scaled_dot_product_attention", plain),
        ):
            model.features(clip)

    theirs, kind = None, "written out"
    if name in PEER and importlib.util.find_spec("pytorchvideo"):
        theirs, kind = peers.peer(*PEER[name]), "PyTorchVideo"

    calls = {
        "eager": (lambda: theirs(1)) if theirs else written_out,
        "readable": lambda: model.features(clip),
        "fp32": lambda: fp32.features(clip),
        "bf16": lambda: bf16.features(clip),
    }
    seconds: dict[str, list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[key].append(time.perf_counter() - start)
    want = model.features(clip)["pool"]
    row = bf16.features(clip)["pool"]
    cosine = torch.cosine_similarity(row, want).item()
    error = ((row - want).abs().max() / want.abs().max()).item()
    cells = [name, kind]
    for key in ("readable", "fp32", "bf16"):
        ratios = [a / b for a, b in zip(seconds["eager"], seconds[key], strict=True)]
        cells.append(f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return "| " + " | ".join([*cells, f"{cosine:.5f}", f"{error:.1e}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| network | eager is | readable | fp32 | bf16 | cosine of bf16 rows | error |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in args.variants:
        print(measure(name, args.rounds), flush=True)


if __name__ == "__main__":
    main()
