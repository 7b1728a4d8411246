"""Golden cases of the encoders: which network, which clip, which independent implementation.

A case's numbers lie in tests/data/encoders/NAME.npz, with the names and shapes of the weights as
the other implementation has them; `numbers.py` reads and writes them, `peers.py` runs the others.
Weights and clips are drawn by tubelet/bench/filled.py from those names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """model: our id or network; changes: fields of its configuration that differ, as in zoo.json.

    shape: of the clip [B, C, T, H, W]. peer: a function of `peers.py` and its arguments. wrapper:
    the key under which the released files have their weights. full: of the released widths and
    depths, and so for the slow tests.
    """

    model: str
    shape: tuple[int, ...]
    peer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    wrapper: str | None = None
    full: bool = False


SMALL = (1, 3, 8, 64, 64)
SWIN = {"width": 24, "depths": [2, 2, 4, 2], "heads": [3, 6, 12, 24]}
OUR_SWIN = {name: SWIN[name] for name in SWIN}
SHORT = {"size": 64, "width": 96, "depth": 3, "heads": 4}
OUR_SHORT = {"clip.frames": 4, "clip.crop": 64, "width": 96, "depth": 3, "heads": 4}
PRISM = {"size": 72, "frames": 4, "width": 96, "heads": 4, "spatial": 2, "temporal": 2}
OUR_PRISM = {
    "clip.frames": 4, "clip.crop": 72, "width": 96, "heads": 4, "spatial": 2, "temporal": 2,
}  # fmt: skip

CASES: dict[str, Case] = {
    # R3D, MC3, R(2+1)D: torchvision, and TSP's network built from its parts.
    "r3d_18": Case("r3d_18", SMALL, "torchvision_video", {"name": "r3d_18"}, full=True),
    "mc3_18": Case("mc3_18", (1, 3, 5, 50, 66), "torchvision_video", {"name": "mc3_18"}),
    "r2plus1d_18": Case("r2plus1d_18", SMALL, "torchvision_video", {"name": "r2plus1d_18"}),
    "r2plus1d_34_tsp": Case(
        "r2plus1d_34", (1, 3, 16, 112, 112), "tsp", {"blocks": [3, 4, 6, 3]},
        {"num_classes": 0}, wrapper="model", full=True,
    ),
    "r2plus1d_tsp_short": Case(
        "r2plus1d_34", SMALL, "tsp", {"blocks": [1, 1, 1, 1]},
        {"num_classes": 0, "blocks": [1, 1, 1, 1]}, wrapper="model",
    ),
    "r2plus1d_34_mm": Case(
        "r2plus1d_34_mm_8x8", SMALL, "mmaction2_r2plus1d", {"depth": 34}, wrapper="state_dict",
        full=True,
    ),
    # CSN: mmaction2 and PyTorchVideo.
    "ir_csn_r50": Case(
        "ir_csn_r50_32x2", SMALL, "mmaction2_csn", {"depth": 50, "mode": "ir"}, wrapper="state_dict"
    ),
    "ip_csn_r50": Case(
        "ip_csn_r152_32x2", (1, 3, 9, 70, 58), "mmaction2_csn", {"depth": 50, "mode": "ip"},
        {"blocks": [3, 4, 6, 3]}, wrapper="state_dict",
    ),
    "ir_csn_r152": Case(
        "ir_csn_r152_32x2", SMALL, "mmaction2_csn", {"depth": 152, "mode": "ir"},
        wrapper="state_dict", full=True,
    ),
    "ip_csn_r152": Case(
        "ip_csn_r152_32x2", SMALL, "mmaction2_csn", {"depth": 152, "mode": "ip"},
        wrapper="state_dict", full=True,
    ),
    "ir_csn_r101_ptv": Case(
        "ir_csn_r101_32x2", (1, 3, 32, 256, 256), "pytorchvideo_csn", wrapper="model_state",
        full=True,
    ),
    # S3D: torchvision, and MIL-NCE's authors.
    "s3d": Case("s3d", (1, 3, 14, 224, 224), "torchvision_video", {"name": "s3d"}),
    "s3d_long": Case(
        "s3d", (1, 3, 32, 256, 256), "torchvision_video", {"name": "s3d"}, full=True
    ),
    "s3d_milnce": Case("s3d_milnce", (1, 3, 8, 64, 96), "milnce"),
    "s3d_milnce_odd": Case("s3d_milnce", (1, 3, 10, 74, 90), "milnce"),
    # Video Swin: torchvision and mmaction2, at sizes that pad, shrink and shift.
    "swin3d_tv": Case("swin3d_t_32x2", (1, 3, 18, 70, 66), "torchvision_swin", SWIN, OUR_SWIN),
    "swin3d_mm": Case(
        "swin3d_t_32x2", (1, 3, 5, 64, 100), "mmaction2_swin", SWIN, OUR_SWIN, wrapper="state_dict"
    ),
    "swin3d_ssv2": Case(
        "swin3d_b_32x2_ssv2", (1, 3, 34, 64, 64), "torchvision_swin",
        {**SWIN, "window": [16, 7, 7]}, {**OUR_SWIN, "num_classes": 400},
    ),
    "swin3d_t": Case(
        "swin3d_t_32x2", (1, 3, 16, 64, 64), "torchvision_swin",
        {"width": 96, "depths": [2, 2, 6, 2], "heads": [3, 6, 12, 24]}, full=True,
    ),
    # Hiera: its authors' package.
    "hiera_short": Case(
        "hiera_b_16x4", (1, 3, 4, 64, 64), "hiera_video",
        {"size": [4, 64, 64], "width": 32, "heads": 1, "depths": [2, 2, 3, 2]},
        {"clip.frames": 4, "clip.crop": 64, "width": 32, "heads": 1, "depths": [2, 2, 3, 2]},
        wrapper="model_state",
    ),
    "hiera_b": Case(
        "hiera_b_16x4", (1, 3, 4, 64, 64), "hiera_video",
        {"size": [4, 64, 64], "width": 96, "heads": 1, "depths": [2, 3, 16, 3]},
        {"clip.frames": 4, "clip.crop": 64}, wrapper="model_state", full=True,
    ),
    # TimeSformer, ViViT, VideoPrism: transformers.
    "timesformer_short": Case(
        "timesformer_b_8x32", (1, 3, 4, 64, 64), "timesformer", {**SHORT, "frames": 4}, OUR_SHORT
    ),
    "timesformer_resized": Case(
        "timesformer_b_8x32", (1, 3, 4, 96, 64), "timesformer", {**SHORT, "frames": 4}, OUR_SHORT
    ),
    "vivit_short": Case(
        "vivit_b_32x2", (1, 3, 8, 64, 64), "vivit", {**SHORT, "frames": 8},
        {**OUR_SHORT, "clip.frames": 8},
    ),
    "vivit_b": Case(
        "vivit_b_32x2", (1, 3, 8, 64, 64), "vivit",
        {"size": 64, "frames": 8, "width": 768, "depth": 12, "heads": 12},
        {"clip.frames": 8, "clip.crop": 64}, full=True,
    ),
    "videoprism_short": Case(
        "videoprism_b_16", (1, 3, 4, 72, 72), "videoprism", PRISM, OUR_PRISM
    ),
    "videoprism_resized": Case(
        "videoprism_b_16", (1, 3, 6, 108, 54), "videoprism", {**PRISM, "resize": True}, OUR_PRISM
    ),
    "videoprism_lvt_short": Case(
        "videoprism_lvt_b_16", (1, 3, 4, 72, 72), "videoprism", {**PRISM, "text": True}, OUR_PRISM
    ),
}  # fmt: skip
