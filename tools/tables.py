"""Write the tables of README.md, docs/features.md and docs/models.md from the packaged table.

    python -m tools.tables

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what is there is replaced.
Published numbers are those of src/tubelet/models/weights/zoo.json, counted and measured ones those
of benchmarks/cost.json, shapes those of the networks. A test holds the documents to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from tools.figures.shapes import alike, maps

from tubelet.models import zoo
from tubelet.models.registry import config_of
from tubelet.models.zoo import ZooEntry

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/features.md", "docs/models.md")
FPS = 30

SYSTEMS = {
    "i3d": (
        "i3d_inception_rgb_scratch.k400_jax", "i3d_inception_rgb_imagenet.k400_tf",
        "i3d_inception_flow_scratch.k400_tf", "i3d_inception_flow_imagenet.k400_tf",
        "i3d_inception_rgb.charades_piergiaj",
    ),
    "two_stream": (
        "i3d_inception_two_stream.imagenet_k400_tf", "i3d_inception_two_stream.scratch_k400_tf",
        "i3d_inception_two_stream.imagenet_k400_piergiaj",
        "i3d_inception_two_stream.imagenet_k400_hassony2",
        "i3d_inception_two_stream.charades_piergiaj",
    ),
    "c2d": (
        "c2d_nopool_r50_8x8.k400", "c2d_r50_8x8.k400_ptv", "c2d_r50_8x8_inpre_400k.k400_nlnet",
        "i3d_r50_8x8.k400", "i3d_r50_8x8.k400_ptv", "i3d_r50_32x4_i3dpre_400k.k400_nlnet",
        "i3d_imagenet_pretrained_r50_heavy_8xb8_32x2x1_100e.kinetics400_rgb_mm1",
    ),
    "nonlocal": (
        "c2d_nln_r50_8x8_inpre_400k.k400_nlnet", "i3d_nln_r50_8x8.k400",
        "i3d_nln_r50_32x4_i3dpre_400k.k400_nlnet",
        "slowonly_r50_in1k_pre_nl_embedded_gaussian_8xb16_8x8x1_steplr_150e.kinetics400_rgb_mm1",
        "slowfast_r101_nln_16x8.ava22",
    ),
    "multigrid": (
        "slowfast_r50_8x8_stepwise.k400", "slowfast_r50_8x8_stepwise_multigrid.k400",
        "slowfast_r50_16x8.ssv2", "slowfast_r50_16x8_multigrid.ssv2",
        "slowfast_r50_16x8.charades", "slowfast_r50_16x8_multigrid.charades",
    ),
    "slowfast": (
        "slow_r50_4x16.k400", "slow_r50_8x8.k400", "slowfast_r50_4x16.k400",
        "slowfast_r50_8x8.k400", "slowfast_r101_8x8.k400_ptv", "slowfast_r101_50_50_16x8.k400_ptv",
        "slowfast_r50_8x8.ssv2_ptv", "slowfast_r50_8x8.charades_ptv",
    ),
    "mvit_v1": (
        "mvit_v1_b_16x4.k400_tv", "mvit_v1_b_16x4.k400_ptv", "mvit_v1_b_32x3.k400_ptv",
        "mvit_v1_b_32x3.k400", "mvit_v1_b_32x3.k600",
    ),
    "mvit_v2": (
        "mvit_v2_s_16x4.k400", "mvit_v2_s_16x4.k400_tv", "mvit_v2_b_32x3.k400",
        "mvit_v2_l_40x3.k400", "mvit_v2_s_16x4.ssv2", "mvit_v2_b_32x3.ssv2", "mvit_v2_l_40x3.ssv2",
    ),
    "rev_mvit": ("rev_mvit_b_16x4.k400", "rev_mvit_b.in1k", "rev_vit_s.in1k", "rev_vit_b.in1k"),
    "x3d": ("x3d_xs.k400", "x3d_s.k400", "x3d_m.k400", "x3d_l.k400"),
    "r2plus1d": (
        "r3d_18.k400_tv", "mc3_18.k400_tv", "r2plus1d_18.k400_tv", "r2plus1d_34.activitynet_tsp",
        "r2plus1d_34.thumos14_tsp", "r2plus1d_34.kinetics_tac", "r2plus1d_34_mm_32x2.k400_mm1",
    ),
    "csn": (
        "ir_csn_r50_32x2.k400_ig65m_bnfrozen_mm1", "ir_csn_r152_32x2.k400_ig65m_mm1",
        "ip_csn_r152_32x2.k400_ig65m_mm1", "ir_csn_r101_32x2.k400_ptv",
    ),
    "s3d": ("s3d.k400_tv", "s3d_milnce.howto100m"),
    "internvideo2": (
        "internvideo2_s_8.k400", "internvideo2_b_8.k400", "internvideo2_l_8.k400",
        "internvideo2_1b_8.k400", "internvideo2_1b_16.k400", "internvideo2_1b_8.pt",
    ),
    "vjepa2": (
        "vjepa2_l_256.vm22m", "vjepa2_h_256.vm22m", "vjepa2_g_256.vm22m", "vjepa2_g_384.vm22m",
        "vjepa2_l_256.ssv2_hf", "vjepa2_1_b_384.vm22m", "vjepa2_1_l_384.vm22m",
        "vjepa2_1_g_384.vm22m", "vjepa2_1_gigantic_384.vm22m",
    ),
    "videomae": (
        "videomae_b_16x4.k400", "videomae_l_16x4.k400", "videomae_b_16x4.ssv2",
        "videomae_v2_s_16x4.k710", "videomae_v2_b_16x4.k710", "videomae_v2_g_16x4.k710",
    ),
    "swin": (
        "swin3d_t_32x2.k400_tv", "swin3d_s_32x2.k400_tv", "swin3d_b_32x2.k400_in22k_tv",
        "swin3d_t_32x2.k400_mm1", "swin3d_l_32x2.k400_mm1",
    ),
    "hiera": (
        "hiera_b_16x4.k400_mae", "hiera_bplus_16x4.k400_mae", "hiera_l_16x4.k400_mae",
        "hiera_h_16x4.k400_mae", "hiera_b_16x4_mae.k400",
    ),
    "timesformer": (
        "timesformer_b_8x32.k400_hub", "timesformer_hr_16x16.k400_hub",
        "timesformer_b_8x32.ssv2_hub",
    ),
    "vivit": ("vivit_b_32x2.k400_hub",),
    "videoprism": ("videoprism_b_16.hub", "videoprism_l_8.hub", "videoprism_lvt_b_16.hub"),
}  # fmt: skip

MAIN = (
    "x3d_xs.k400", "x3d_s.k400", "x3d_m.k400", "x3d_l.k400",
    "i3d_inception_rgb_scratch.k400_jax", "i3d_inception_rgb_imagenet.k400_tf",
    "c2d_r50_8x8.k400_ptv", "i3d_r50_8x8.k400_ptv", "i3d_nln_r50_8x8.k400",
    "slow_r50_8x8.k400", "slowfast_r50_4x16.k400", "slowfast_r50_8x8.k400",
    "slowfast_r101_8x8.k400_ptv", "slowfast_r101_50_50_16x8.k400_ptv",
    "mvit_v1_b_16x4.k400_tv", "rev_mvit_b_16x4.k400", "mvit_v2_s_16x4.k400",
    "mvit_v2_b_32x3.k400", "mvit_v2_l_40x3.k400",
)  # fmt: skip
"""The ids of the README, cheap families first."""

NONE = "–"


@cache
def costs() -> Mapping[str, Mapping[str, Any]]:
    """id -> its "gmac" and "ratio" of benchmarks/cost.json; two streams have the sum.

    Networks that were not measured yet have no "ratio".
    """
    data = json.loads((ROOT / "benchmarks" / "cost.json").read_text("utf-8"))
    found = {name: row for row in data["networks"].values() for name in row["ids"]}
    for entry in zoo.table().entries.values():
        if entry.source["kind"] == "streams":
            rgb, flow = found[entry.source["rgb"]], found[entry.source["flow"]]
            found[entry.id] = {name: rgb[name] + flow[name] for name in ("gmac", "ratio")}
        elif entry.id not in found:  # joined the table after the last measurement
            found[entry.id] = {"gmac": entry.facts["gmacs"]}
    return found


def number(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def plain(value: float | None) -> str:
    """As the source writes it."""
    return NONE if value is None else str(value)


def clip(entry: ZooEntry) -> str:
    return f"{entry.clip.frames} × {entry.clip.interval}"


def seconds(entry: ZooEntry) -> str:
    return (
        number(entry.clip.frames * entry.clip.interval / FPS, 1) if entry.clip.frames > 1 else NONE
    )


def views(entry: ZooEntry) -> str:
    """Crops × clips of the published test."""
    found = re.fullmatch(r"(\d+) crops x (\d+) clips", entry.facts.get("protocol", ""))
    return f"{found[1]} × {found[2]}" if found else NONE


def accuracy(entry: ZooEntry) -> str:
    facts = entry.facts
    if facts.get("map") is not None:
        return f"{facts['map']} mAP"
    return plain(facts.get("top1"))


def cost(entry: ZooEntry) -> str:
    ratio = costs()[entry.id].get("ratio")
    return "not measured" if ratio is None else f"{ratio:#.2g}".removesuffix(".")


def averaged(entry: ZooEntry) -> str:
    """What "pool" is the mean of."""
    _, config = config_of(entry.arch, entry)
    if entry.arch.startswith(("timesformer", "vivit")):
        return "class token"
    if getattr(config, "class_token", False) and not getattr(config, "mean_pooling", False):
        return "class token"
    name = alike(entry.id)
    cells = maps(name)["grid"]
    if hasattr(config, "lin5"):
        before = maps(name)["conv5"][1:]
        return f"{before[0]}×{before[1]}×{before[2]}, then a layer"
    if hasattr(config, "lateral_kernel"):
        slow, fast = (maps(name)[f"res5_{end}"] for end in ("slow", "fast"))
        return f"{slow[1]}×{slow[2]}×{slow[3]} and {fast[1]}×{fast[2]}×{fast[3]}"
    return f"{cells[1]}×{cells[2]}×{cells[3]}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *map(list, rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def system(name: str) -> list[str]:
    """One table of docs/features.md."""
    head = ("id", "frames × interval", "seconds", "crop", "width", "pool: mean of", "trained on",
            "top-1 or mAP", "crops × clips", "GFLOPs", "counted", "cost", "M params")  # fmt: skip
    rows = []
    for entry in map(zoo.entry_for, SYSTEMS[name]):
        facts = entry.facts
        rows.append(
            (f"`{entry.id}`", clip(entry), seconds(entry), str(entry.clip.crop), str(entry.width),
             averaged(entry), entry.dataset or NONE, accuracy(entry), views(entry),
             plain(facts.get("gflops")), number(costs()[entry.id]["gmac"]), cost(entry),
             number(facts.get("params_m")))
        )  # fmt: skip
    return table(head, rows)


def main_models() -> list[str]:
    """The table of the README."""
    head = ("model", "row spans", "width", "top-1", "crops × clips", "cost per clip", "M params")
    rows = []
    for entry in map(zoo.entry_for, MAIN):
        span = f"{seconds(entry)} s"
        measured = costs()[entry.id].get("ratio")
        relative = (
            cost(entry) if measured else f"{plain(entry.facts.get('gflops'))} GFLOPs, not measured"
        )
        rows.append(
            (f"`{entry.id}`", span, str(entry.width), number(entry.facts["top1"]),
             views(entry), relative,
             number(entry.facts.get("params_m")))
        )  # fmt: skip
    return table(head, rows)


def every_model(family: str) -> list[str]:
    """One table of docs/models.md."""
    head = ("id", "frames × interval", "crop", "width", "trained on", "top-1 or mAP", "top-5",
            "crops × clips", "GFLOPs", "counted", "cost", "M params", "weights")  # fmt: skip
    rows = []
    for entry in zoo.table().entries.values():
        if entry.family != family:
            continue
        facts = entry.facts
        rows.append(
            (f"`{entry.id}`", clip(entry), str(entry.clip.crop), str(entry.width),
             entry.dataset or NONE, accuracy(entry), plain(facts.get("top5")), views(entry),
             plain(facts.get("gflops")), number(costs()[entry.id]["gmac"]), cost(entry),
             number(facts.get("params_m")), weights(entry))
        )  # fmt: skip
    return table(head, rows)


def weights(entry: ZooEntry) -> str:
    words = {
        "pypi": "PyPI",
        "url": "download",
        "files": "download",
        "own": "bring your own",
        "streams": "those of both streams",
    }
    kind = words[entry.source["kind"]]
    found = entry.facts.get("availability", "")
    if "dead" in found or "corrupt" in found:
        kind += ", reported " + ("dead" if "dead" in found else "corrupt")
    return kind


def families() -> list[str]:
    return list(dict.fromkeys(entry.family for entry in zoo.table().entries.values()))


def all_models() -> list[str]:
    lines: list[str] = []
    for family in families():
        lines += [f"### {family}", "", *every_model(family), ""]
    return lines[:-1]


def spread(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Median over the networks of (largest - least) / middle of their visits' ratios."""
    found: list[float] = []
    for row in rows:
        ratios = [visit["cpu_s"] / visit["reference_cpu_s"] for visit in row["visits"]]
        if len(ratios) > 1:
            found.append((max(ratios) - min(ratios)) / median(ratios))
    return median(found) if found else None


def measurement() -> list[str]:
    """How the costs were measured, in words."""
    data = json.loads((ROOT / "benchmarks" / "cost.json").read_text("utf-8"))
    measured = [row for row in data["networks"].values() if row["visits"]]
    visits = sorted({len(row["visits"]) for row in measured})
    count = " to ".join(str(n) for n in dict.fromkeys((visits[0], visits[-1])))
    reference = zoo.entry_for(f"{data['reference']}.k400")
    commands = ", ".join(f"`{command}`" for command in data["commands"])
    apart = spread(measured)
    assert apart is not None
    return [
        f"Cost is CPU time of one clip (batch 1, float32) relative to `{data['reference']}` "
        f"({clip(reference)} frames, crop {reference.clip.crop}), which was measured in turn with "
        f"the others: {len(measured)} networks, median of {count} visits, "
        f"{data['threads']} thread, {data['machine']}, torch {data['torch']}, {data['date']}: "
        f"{commands}. The machine was busy: where a network was visited more than once, its "
        f"ratios lie {apart:.0%} apart in the median. Read them as such; no absolute time is given."
    ]


TABLES: dict[str, Callable[[], list[str]]] = {
    **{name: partial(system, name) for name in SYSTEMS},
    "main": main_models,
    "all": all_models,
    "measurement": measurement,
}


def rewritten(text: str) -> str:
    """A document with its tables made anew."""

    def fill(found: re.Match[str]) -> str:
        lines = "\n".join(TABLES[found[1]]())
        return f"<!-- table: {found[1]} -->\n{lines}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(rewritten(path.read_text("utf-8")), encoding="utf-8")
