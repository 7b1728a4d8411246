"""Make src/tubelet/models/weights/zoo.json from the list of released checkpoints.

    python tools/make_zoo.py [path/to/zoo.json]

The list says what was released and how it was tested; here every checkpoint is matched with the
network of ours that runs it, and with what differs from that network's defaults. Without it, what
came of it stays as it is. The files of tools/zoo/ name network and differences themselves.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tubelet.models.registry import changed
from tubelet.types import ClipSpec

TARGET = Path(__file__).parents[1] / "src" / "tubelet" / "models" / "weights" / "zoo.json"
OWN = Path(__file__).parent / "zoo"
FAMILIES = (
    "i3d", "resnet3d", "slowfast", "x3d", "mvit", "revmvit", "two_stream", "r2plus1d", "csn", "s3d",
    "videomae", "vjepa2", "internvideo2", "swin3d", "hiera", "timesformer", "vivit", "videoprism",
)  # fmt: skip
DATASET_TOKENS = {
    "kinetics400": "kinetics400|k400",
    "kinetics400 (no labels)": "k400",
    "kinetics600": "kinetics600|k600",
    "kinetics700": "kinetics700|k700",
    "kinetics710": "kinetics710",
    "somethingv2": "sthv2|ssv2",
    "somethingv1": "sthv1",
    "imagenet1k": "in1k",
    "imagenet21k": "in21k",
    "ava2.1": "ava21|ava",
    "ava2.2": "ava22|ava_kinetics",
    "minikinetics200": "minikinetics",
}
NONLOCAL = "trunk.nonlocals."
MM_STEM = {"trunk.stem_stride": 2, "trunk.stem_pool": [1, 2, 1]}
MM_NONLOCAL = {NONLOCAL + "*.pool_last": True, NONLOCAL + "*.out_bias": False}
ALTERNATE = {NONLOCAL + "1.after": [0, 2], NONLOCAL + "2.after": [0, 2, 4]}


def variants() -> dict[str, tuple[str, Any]]:
    """network -> (family file, configuration)"""
    found = {}
    for family in FAMILIES:
        module = importlib.import_module(f"tubelet.models.{family}")
        found |= {arch: (family, config) for arch, config in module.VARIANTS.items()}
    return found


def split_id(row: dict[str, Any]) -> tuple[str, str]:
    """(what stands before the dataset, the rest) of an id."""
    tokens = DATASET_TOKENS.get(row["dataset"], row["dataset"])
    place = [match.start() for match in re.finditer(rf"_({tokens})(?=_|$)", row["id"])][-1]
    return row["id"][:place], row["id"][place + 1 :]


def network(row: dict[str, Any], known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(network, how this checkpoint's differs from it)"""
    prefix, tag = split_id(row)
    if row["layout"] == "mmaction2":
        return mmaction2(row)
    if row["layout"] == "video-nonlocal-caffe2-pkl":
        return video_nonlocal(row)
    if row["id"].startswith("slow_r50_8x8_k400_avapre"):
        return "slow_r50_8x8", {}
    if row["family"] == "I3D-Inception":
        return prefix, {}
    ssl = re.match(r"(slow_r50_\d+x\d+)_(moco|byol|simclr|swav)", row["id"])
    if ssl:
        return ssl[1], {"head": None}
    if row["dataset"] == "imagenet21k":
        return f"{prefix}_cls", {}
    if "maskfeat" in prefix:
        return f"{prefix}_pretrain", {}
    if prefix.startswith("mvit") and row["layout"] == "pytorchvideo":
        arch = "mvit_v1_b16_32x3" if "32x3" in prefix else prefix
        return arch, {"attention.pool_norm_eps": 1e-5}
    for name in (f"{prefix}.{tag}", f"{prefix}.{tag.split('_')[0]}", prefix):
        if name in known:
            return name, {}
    raise KeyError(row["id"])


def video_nonlocal(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """No padding in the stem pool; the long clips halve time twice in the stem."""
    kind = re.match(r"(c2d|i3d)(_nln)?", row["id"])
    assert kind
    changes: dict[str, Any] = {"trunk.stem_pool": [1, 1, 0]}
    if "resnet_video_org" in " ".join(row["notes"]):
        changes = {"trunk.stem_stride": 2, "trunk.stem_pool": [2, 2, 0]}
    shrink = 2 * changes.get("trunk.stem_stride", 1) * changes["trunk.stem_pool"][1]
    return f"{kind[0]}_r50_8x8", {**changes, "head": [row["num_frames"] // shrink, 7, 7]}


def mmaction2(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What mmaction2's networks do otherwise; its heads average the whole grid."""
    name = row["id"]
    r101 = "101" in (row["backbone"] or "")
    changes: dict[str, Any] = {}
    if name.startswith("mvit"):
        size = {"small": "s_16x4", "base": "b_32x3", "large": "l_40x3"}[name.split("_")[1]]
        masked = "maskfeat" in name
        return f"mvit_v2_{size}" + "_maskfeat" * masked, {"mean_pooling": False} if masked else {}
    if name.startswith("x3d"):
        return name[:5], {}
    if row["family"].startswith("SlowFast"):
        lateral = not any("lateral_norm off" in note for note in row["notes"])
        changes = {"lateral_norm": lateral, "slow_frames": "strided", "head": None}
        changes["lateral_kernel"] = row["fusion_kernel"]
        depth = "r50"
        if r101 or "152" in row["backbone"]:
            both = "+" in row["backbone"]
            depth = row["backbone"].split()[0].replace("ResNet", "r") + "_r50" * both
        if is_detection(row):
            changes |= {"slow.strides": [1, 2, 2, 1], "fast.strides": [1, 2, 2, 1]}
        return f"slowfast_{depth}_{'4x16' if row['alpha'] == 8 else '8x8'}", changes
    changes = {"head": None}
    if "imagenet_kinetics400" in name:  # the network for pictures and videos, `OmniHead`
        return "slow_r50_8x8", {**changes, "hidden": 2 * row["num_classes"]}
    if "_sthv1_" in name:
        return "slow_r50_8x8", {**changes, "trunk.stem_pool": None}  # with_pool1=False
    if name.startswith("c2d"):
        arch = "c2d_nopool" if "nopool" in name else "c2d"
        if arch == "c2d":
            changes["trunk.stem_pool"] = [1, 1, 0]
        return f"{arch}_{'r101' if r101 else 'r50'}_8x8", changes
    if name.startswith("i3d"):
        if "heavy" in name:
            return "i3d_r50_heavy_8x8", changes
        changes |= MM_STEM
        if "_nl_" not in name:
            return "i3d_r50_8x8", changes
        form = "dot_product" if "dot_product" in name else "gaussian"
        form = "softmax" if "embedded" in name else form
        changes |= {**MM_NONLOCAL, NONLOCAL + "*.form": form, NONLOCAL + "*.scale": False}
        return "i3d_nln_r50_8x8", changes
    if is_detection(row):
        changes["trunk.strides"] = [1, 2, 2, 1]
    # of the backbone; "lfb_nl" and "nl_head" name other parts of a detector
    if re.search(r"r50_nl_|slowonly_nl_|_nl_embedded", name):
        changes |= {**MM_NONLOCAL, **ALTERNATE, NONLOCAL + "*.form": "softmax"}
        return "slow_nln_r50_8x8", changes
    return "slow_r101_8x8" if r101 else "slow_r50_8x8", changes


def is_detection(row: dict[str, Any]) -> bool:
    return row["task"].startswith("detection")


def clip_of(row: dict[str, Any], default: Any) -> dict[str, Any]:
    """The clip as this checkpoint was trained on it; sizes for one centre crop."""
    clip = dataclasses.asdict(default)
    clip["frames"] = row["num_frames"] or clip["frames"]
    clip["interval"] = row["sampling_rate"] or clip["interval"]
    clip["alpha"] = row["alpha"]
    if row["layout"] in ("mmaction2", "video-nonlocal-caffe2-pkl") and row["family"] != "X3D":
        clip["crop"] = row["test_crop"] or row["short_side"] or clip["crop"]
        clip["short_side"] = row["short_side"] or clip["crop"]
    if row["mean"]:
        scale = 255 if "255" in row["input_range"] else 1
        clip["mean"] = [round(x / scale, 6) for x in row["mean"]]
        clip["std"] = [round(x / scale, 6) for x in row["std"]]
    if row["modality"] == "flow":
        clip["channels"] = 2
        clip["mean"], clip["std"] = clip["mean"][:2], clip["std"][:2]
    if row["frame_sampling"] and row["frame_sampling"].lower().startswith("uniform"):
        clip["sampling"] = "uniform"
    plain = dataclasses.asdict(type(default)(0, 0, 0, 0))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in clip.items() if v != plain[k]}


def source_of(row: dict[str, Any]) -> dict[str, Any]:
    """Where the file is."""
    checksum: dict[str, Any] = row["checksum"] or {}
    urls = row["urls"]
    if row["url_kind"].startswith("python package"):
        member, sizes, sums = row["file_name"], checksum["size"], checksum["value"]
        archive = next(name for name in sums if name.endswith(".tar.gz"))
        package, _, version = urls[0].removeprefix("pypi:").partition("==")
        return {
            "kind": "pypi", "package": package, "version": version, "sha256": sums[archive],
            "member": member, "member_size": sizes[member],
        }  # fmt: skip
    if row["url_kind"].startswith("folder"):
        base = urls[0].replace("/tree/", "/raw/")
        names = ("model.ckpt.index", "model.ckpt.data-00000-of-00001")
        sums = checksum["value"]
        files = {n: {"urls": [f"{base}/{n}"], "git_blob_sha1": sums[n]} for n in names}
        return {"kind": "files", "files": files}
    if row["url_kind"] in ("google-drive", "tensorflow-hub"):
        why = f"it is a {row['url_kind']} link, {urls[0]}"
        if "dead" in (row["availability"] or ""):
            why += "; " + row["availability"]
        return {"kind": "own", "why": why, "urls": urls}
    return {"kind": "url", "urls": urls}


def checksum_of(row: dict[str, Any]) -> dict[str, str]:
    checksum: dict[str, Any] = row["checksum"] or {}
    value: Any = checksum.get("value")
    if checksum.get("algo") == "sha256":
        return {"sha256": value[row["file_name"]]}
    names = {"sha256-prefix8": "sha256_prefix", "git-blob-sha1": "git_blob_sha1", "md5": "md5"}
    if isinstance(value, str):
        return {names[checksum["algo"]]: value}
    return {}


def facts_of(row: dict[str, Any]) -> dict[str, Any]:
    """As the sources state them."""
    protocol = row["protocol"] or {}
    views = None
    if protocol.get("crops") and protocol.get("clips"):
        views = f"{protocol['crops']} crops x {protocol['clips']} clips"
    names = ("task", "variant", "pretrain", "top1", "top5", "map", "other_metrics")
    facts = {name: row[name] for name in names}
    facts |= {"protocol": views, "metric_notes": row["metric_notes"]}
    facts |= {
        "params_m": row["params_m_built"] or row["params_m"],
        "gflops": row["gflops_per_view"],
    }
    facts |= {"frame_sampling": row["frame_sampling"], "fps": row["target_fps"]}
    facts |= {"licence": row["licence"], "source": row["source"], "notes": row["notes"]}
    if row["availability"] != "listed by the source; not checked":
        facts["availability"] = row["availability"]
    return {key: value for key, value in facts.items() if value not in (None, [])}


def refused(row: dict[str, Any]) -> str | None:
    """Why a checkpoint cannot be run."""
    if row["layout"] == "torchscript":
        return "a TorchScript program with int8 weights, not a state dict"
    if "_efficient_" in row["id"]:
        return "key names of its own that no list of ours covers; the same network as x3d_xs, x3d_s"
    return None


MEASURED: dict[str, dict[str, Any]] = {}


def measured(family: str, config: Any) -> dict[str, Any]:
    """Width, millions of parameters and multiply-adds (10^9) of one clip, on the meta device."""
    key = repr(config)
    if key not in MEASURED:
        MEASURED[key] = measure(family, config)
    return MEASURED[key]


def measure(family: str, config: Any) -> dict[str, Any]:
    clip = config.clip
    with torch.device("meta"), torch.no_grad():
        model = importlib.import_module(f"tubelet.models.{family}").build(config).eval()
        model.requires_grad_(False)  # the counter follows gradients of what a module returns
        with FlopCounterMode(display=False) as counter:
            model.features(torch.zeros(1, clip.channels, clip.frames, clip.crop, clip.crop))
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "width": model.width,
        "params_m": round(parameters / 1e6, 3),
        "gmacs": round(counter.get_total_flops() / 2e9, 2),
    }


def entry_of(row: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    arch, changes = network(row, known)
    config = known[arch][1]
    backbone = is_detection(row) and row["layout"] == "mmaction2"
    classes = 0 if backbone or row["num_classes"] is None else row["num_classes"]
    several = row["task"].startswith(("multi", "detection"))
    prefix, tag = split_id(row)
    clip = clip_of(row, config.clip)
    fields: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in clip.items()
    }
    for path, value in {"clip": ClipSpec(**fields), "num_classes": classes, **changes}.items():
        config = changed(config, path.split("."), value)
    size = measured(known[arch][0], config)
    return {
        "id": f"{prefix}.{tag}",
        "zoo_id": row["id"],
        "arch": arch,
        "family": row["family"],
        "clip": clip,
        "width": size["width"],
        "classes": classes,
        "dataset": row["dataset"].removesuffix(" (no labels)"),
        "activation": "sigmoid" if several else "softmax",
        "layout": row["layout"],
        "source": source_of(row),
        "checksum": checksum_of(row),
        "config": changes,
        "facts": {"params_m": size["params_m"], **facts_of(row), "gmacs": size["gmacs"]},
    }


# The table names a configuration that its repository has as slowonly_k400_pretrained_... (0.24.1).
RENAMED = {
    "slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow_mm0": {
        "num_frames": 4, "sampling_rate": 16, "short_side": 256, "test_crop": 256,
        "mean": [128, 128], "std": [128, 128], "input_range": "[0,255] before mean/std",
    },
}  # fmt: skip


def own_entry(row: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """An entry of tools/zoo: `clip` and `config` hold what differs from the network's."""
    arch = row["arch"]
    family, config = known[arch]
    default = dataclasses.asdict(type(config.clip)(0, 0, 0, 0))
    clip = dataclasses.asdict(config.clip) | row["clip"]
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in clip.items()}
    changes = {"clip": ClipSpec(**fields), "num_classes": row["classes"], **row["config"]}
    for path, value in changes.items():
        config = changed(config, path.split("."), value)
    size = measured(family, config)
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in clip.items() if v != default[k]}
    facts = {"params_m": size["params_m"], **row["facts"], "gmacs": size["gmacs"]}
    return {
        "id": row["id"], "zoo_id": row["id"].replace(".", "_"), "arch": arch,
        "family": row["family"], "clip": kept, "width": size["width"], "classes": row["classes"],
        "dataset": row["dataset"], "activation": config.activation, "layout": row["layout"],
        "source": row["source"], "checksum": row["checksum"], "config": row["config"],
        "facts": facts,
    }  # fmt: skip


def listed(path: str, known: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(entries, what cannot be run) of the list of released checkpoints."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["entries"]
    entries: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    for row in ({**row, **RENAMED.get(row["id"], {})} for row in rows):
        why = refused(row)
        if why:
            missing.append({"zoo_id": row["id"], "family": row["family"], "why": why})
        else:
            entries.append(entry_of(row, known))
    return entries, missing


def main(path: str | None = None) -> None:
    known = variants()
    own = [
        row for file in sorted(OWN.glob("*.json")) for row in json.loads(file.read_text("utf-8"))
    ]
    if path is None:
        before = json.loads(TARGET.read_text(encoding="utf-8"))
        ids = {row["id"] for row in own}
        entries = [entry for entry in before["entries"] if entry["id"] not in ids]
        missing = before["not_runnable"]
    else:
        entries, missing = listed(path, known)
    entries += [own_entry(row, known) for row in own]
    entries.sort(key=lambda entry: FAMILIES.index(known[entry["arch"]][0]))
    data = {
        "archs": {arch: family for arch, (family, _) in known.items()},
        "entries": entries,
        "not_runnable": missing,
    }
    ids = [entry["id"] for entry in entries]
    assert len(set(ids)) == len(ids)
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    text = json.dumps({**data, "entries": []}, ensure_ascii=False, indent=1)
    text = text.replace('"entries": []', '"entries": [\n' + ",\n".join(lines) + "\n ]")
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
