"""mmaction2's own networks against ours with the same weights, for every entry of the table.

    python benchmarks/mmaction2.py --v1 MMACTION2 --v0 MMACTION2_0X --table ZOO.json [--only TEXT]
        [-o FILE.md]

--v1, --v0: checkouts of the branches 1.x (tag v1.2.0 or later) and 0.x (tag v0.24.1; its
configurations are built with the code of 1.x). Beside tubelet: `pip install mmengine einops decord
"mmcv-lite<2.2"`. Nothing of mmaction2 that these networks do not use is needed: compiled operators
and torchvision are stubbed.

For each entry the network of its configuration is built, given random weights and statistics,
saved as a checkpoint, and read by `tubelet.create_model(id, weights=FILE)`: names, shapes and every
setting of the architecture must agree for the outputs to. Classifiers are compared by logits,
detectors by their last maps. The clip that the configuration samples is printed beside ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from stub import Stub
from torch import Tensor, nn

import tubelet

STUBBED = (
    "mmcv.ops", "mmcv.ops.roi_align", "torchvision", "torchvision.ops", "torchvision.transforms",
    "torchvision.transforms.functional", "torchvision.models",
)  # fmt: skip
BOUND = 1e-5
RENAMED = {
    "slowonly_kinetics_pretrained_r50_4x16x1_120e": "slowonly_k400_pretrained_r50_4x16x1_120e"
}
"""Configurations that the table of the source names and its repository has under another name."""


@dataclass
class Result:
    """error: largest difference by largest number; None where nothing could be compared."""

    id: str
    error: float | None
    theirs: str
    ours: str
    note: str = ""


def shake(model: nn.Module, *, variance: tuple[float, float]) -> nn.Module:
    """Weights and statistics that no layer has by default."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(*variance, generator=generator)
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.normal_(0, 0.05, generator=generator)
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, module.in_features**-0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.05, generator=generator)
        for name, tensor in module._parameters.items():
            if tensor is not None and any(k in name for k in ("rel_pos", "pos_embed", "cls_token")):
                tensor.data.normal_(0, 0.5, generator=generator)
    return model.eval()


def sampled(config: Any) -> str:
    """Frames x interval, short side / crop and mean of the test pipeline, in words."""
    facts: dict[str, Any] = {}
    pipeline = config.get("test_pipeline") or config.get("val_pipeline")
    for step in pipeline or config.data.test.pipeline:
        kind = step["type"]
        if "SampleFrames" in kind or "AVAFrames" in kind:
            facts |= {"frames": step.get("clip_len"), "interval": step.get("frame_interval")}
        elif "Uniform" in kind:
            facts |= {"frames": step.get("clip_len"), "interval": "uniform"}
        elif kind == "Resize":
            facts["short"] = step["scale"][-1]
        elif "Crop" in kind:
            facts["crop"] = step.get("crop_size")
        elif kind == "Normalize":
            facts["mean"] = step["mean"][0]
    if "data_preprocessor" in config.model:
        facts["mean"] = config.model.data_preprocessor.mean[0]
    mean = facts["mean"] / 255 if "mean" in facts else 0
    return (
        f"{facts.get('frames')} x {facts.get('interval')}, {facts.get('short')} / "
        f"{facts.get('crop', '-')}, {mean:.3f}"
    )


def build(config: Any, *, variance: tuple[float, float]) -> nn.Module:
    """Backbone and head of a configuration, with random numbers. No file is fetched."""
    from mmaction.registry import MODELS  # type: ignore[import-not-found]

    backbone = dict(config.model.backbone)
    for part in (backbone, backbone.get("slow_pathway"), backbone.get("fast_pathway")):
        if part and "pretrained" in part:
            part["pretrained"] = None
    backbone.pop("init_cfg", None)
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    if "roi_head" not in config.model:
        head = {k: v for k, v in config.model.cls_head.items() if k != "init_cfg"}
        model.cls_head = MODELS.build({**head, "average_clips": None})
    return shake(model, variance=variance)


def compare(entry: dict[str, Any], config: Any) -> Result:
    """One entry of the table."""
    identity = entry["id"]
    # Sums over all pairs of positions overflow in a network with random weights and unit variance.
    wide = "dot_product" in identity
    theirs: Any = build(config, variance=(20, 30) if wide else (0.5, 1.5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"state_dict": theirs.state_dict(), "meta": {}}, path)
        ours: Any = tubelet.create_model(identity, weights=str(path))
    spec = ours.clip
    fixed = config.model.backbone.type in ("MViT", "X3D")
    side = spec.crop if fixed else min(spec.crop, 96)
    clip = torch.randn(
        1, spec.channels, spec.frames, side, side, generator=torch.Generator().manual_seed(1)
    )
    flat = config.model.backbone.type == "ResNet"
    with torch.inference_mode():
        maps = theirs.backbone(clip[0].transpose(0, 1) if flat else clip)
        if hasattr(theirs, "cls_head"):
            want = [theirs.cls_head(maps, spec.frames) if flat else theirs.cls_head(maps)]
            got = [ours(clip)]
        else:
            want = list(maps) if isinstance(maps, list | tuple) else [maps]
            taps = ("res5",) if len(want) == 1 else ("res5_slow", "res5_fast")
            found = ours.features(clip, taps=taps)
            got = [found[tap] for tap in taps]
    error = max(difference(a, b) for a, b in zip(got, want, strict=True))
    mine = f"{spec.frames} x {spec.interval}, {spec.short_side} / {spec.crop}, {spec.mean[0]:.3f}"
    return Result(identity, error, sampled(config), mine)


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours - theirs).abs().max() / theirs.abs().max())


def load_peer(root: Path) -> None:
    sys.path.insert(0, str(root))
    for name in STUBBED:
        sys.modules[name] = Stub(name)
    warnings.simplefilter("ignore")
    import mmaction.models  # type: ignore[import-not-found] # noqa: F401

    logging.disable(logging.WARNING)


def entries() -> list[dict[str, Any]]:
    table = resources.files("tubelet.models.weights") / "zoo.json"
    found = json.loads(table.read_text(encoding="utf-8"))["entries"]
    return [entry for entry in found if entry["layout"] == "mmaction2"]


def config_path(entry: dict[str, Any], zoo: dict[str, str], args: argparse.Namespace) -> Path:
    root = args.v0 if entry["zoo_id"].endswith("_mm0") else args.v1
    path = zoo[entry["zoo_id"]]
    for old, new in RENAMED.items():
        path = path.replace(old, new)
    return root / path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--v1", type=Path, required=True)
    parser.add_argument("--v0", type=Path, required=True)
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="JSON, {entries: [{id, config: path in the checkout}]}",
    )
    parser.add_argument("--only", default="")
    parser.add_argument("--most", type=float, default=300, help="GFLOPs of a network")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    load_peer(args.v1)
    from mmengine.config import Config  # type: ignore[import-not-found]

    rows = json.loads(args.table.read_text(encoding="utf-8"))["entries"]
    configs = {row["id"]: row["config"] for row in rows}
    results: list[Result] = []
    for entry in entries():
        if args.only not in entry["id"]:
            continue
        if entry["facts"]["gmacs"] > args.most:
            results.append(Result(entry["id"], None, "", "", "left out: too large"))
        else:
            config = Config.fromfile(str(config_path(entry, configs, args)))
            results.append(compare(entry, config))
        last = results[-1]
        print(last.id, last.error, last.theirs, "|", last.ours, last.note, flush=True)
    if args.out:
        args.out.write_text(report(results), encoding="utf-8")
    bad = [r.id for r in results if r.error is not None and not r.error <= BOUND]
    if bad:
        sys.exit(f"beyond {BOUND}: {', '.join(bad)}")


def report(results: list[Result]) -> str:
    compared = [r for r in results if r.error is not None]
    within = sum(r.error <= BOUND for r in compared if r.error is not None)
    lines = [
        "# mmaction2's networks and ours, same weights",
        "",
        f"{within} of {len(compared)} entries agree within {BOUND:g} of the largest output "
        f"({sum(r.error == 0 for r in compared)} of them to the last bit); "
        f"{len(results) - len(compared)} left out. Made by `python benchmarks/mmaction2.py`, torch "
        f"{torch.__version__}, against mmaction2 1.2.0 and the configurations of 0.24.1.",
        "",
        "The last columns are frames x interval, short side / crop, mean of the first channel.",
        "They differ on purpose: detectors take whole pictures there and a centre crop here; X3D",
        "is tested there at other sizes than the weights' own test settings.",
        "",
        "| id | difference | clip there | clip here |",
        "|---|--:|---|---|",
    ]
    for r in results:
        error = r.note if r.error is None else f"{r.error:.1e}"
        lines.append(f"| `{r.id}` | {error} | {r.theirs} | {r.ours} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
