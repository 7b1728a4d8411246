"""Clips per second of the networks: eager, fast, bfloat16, PyTorchVideo's; shares of the ceiling.

    python benchmarks/models.py [MODEL ... [--only]] [--rounds 9] [--threads 2] [--again]

Measures every network that has no result yet, the named ones first.

Each subject runs in a process of its own, and they take turns, together with the machine's matrix
products (see tubelet.bench.rounds). A ratio is the median of the ratios within rounds; the spread
is that of the quartiles. A share of the ceiling is to the matrix products right before and behind
the forward pass. Operations are counted on the readable network, two per multiply-add.

    peer        PyTorchVideo's network, eager, float32, contiguous (`pip install --no-deps
                pytorchvideo==0.1.5 fvcore iopath`; its torchvision imports are stubbed)
    reference   tubelet's readable network, eager, float32, contiguous
    fp32, bf16  what `tubelet extract` runs, at batch 1, and at the best of 1, 2 and 4 clips

peer and reference run as people run them; fp32 and bf16 keep memory as the command line does.
Results are kept in benchmarks/models.json after each network: a run that was stopped goes on.
The table is benchmarks/models.md, the pictures benchmarks/models_*.svg.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from stub import Stub

from tubelet.bench.bars import bars_svg
from tubelet.bench.ceilings import copy, copy_gb_s, product, product_gflops
from tubelet.bench.cost import operations
from tubelet.bench.rounds import Call, Spread, Timed, cores, interleaved, machine_name, speedup
from tubelet.models.registry import create_model

HERE = Path(__file__).parent
TARGET = HERE / "models.json"
BATCHES = (1, 2, 4)
PRODUCTS = 4  # matrix products per repetition

MODELS = {  # our id -> PyTorchVideo's function, target ratio in float32 and in bfloat16
    "c2d_r50_8x8.k400_ptv": ("c2d_r50", 1.5, 6),
    "i3d_inception_rgb_scratch.k400_jax": (None, 1.5, 6),
    "i3d_r50_8x8.k400_ptv": ("i3d_r50", 1.5, 6),
    "i3d_nln_r50_8x8.k400": (None, 1.5, 6),
    "slow_r50_8x8.k400_ptv": ("slow_r50", 1.5, 6),
    "slowfast_r50_8x8.k400_ptv": ("slowfast_r50", 1.5, 6),
    "x3d_s.k400_ptv": ("x3d_s", 3, 8),
    "x3d_m.k400_ptv": ("x3d_m", 3, 8),
    "x3d_l.k400_ptv": ("x3d_l", 3, 8),
    "mvit_v1_b_16x4.k400_ptv": ("mvit_base_16x4", 2, 5),
    "mvit_v2_s_16x4.k400": (None, 2, 5),
    "rev_mvit_b_16x4.k400": (None, 2, 5),
}
FAMILIES = {
    "r50": ("c2d", "i3d", "slow"),
    "x3d": ("x3d",),
    "mvit": ("mvit", "rev"),
}


def peer(function: str, model: str) -> Call:
    """PyTorchVideo's network on the clip of ours."""
    stubbed = ("torchvision", "torchvision.ops", "torchvision.transforms")
    sys.modules.update({name: Stub(name) for name in stubbed})
    warnings.simplefilter("ignore")
    network = getattr(importlib.import_module("pytorchvideo.models.hub"), function)
    theirs = network(pretrained=False).eval()
    clip = pixels(model)
    slow = clip[:, :, ::4].contiguous()

    @torch.inference_mode()
    def call(size: int) -> None:
        theirs([slow, clip] if "slowfast" in function else clip)  # it writes into the list

    return call


def ours(model: str, runtime: str, precision: str) -> Call:
    """`features` of our network."""
    from tubelet.models.device import resolve_runtime

    torch.manual_seed(0)
    readable = create_model(model, weights=None)
    network, kind = resolve_runtime(readable, runtime, device="cpu", precision=precision)
    assert kind == runtime, f"{model} has no {runtime} network"
    del readable
    clips = {size: pixels(model, size) for size in BATCHES}

    @torch.inference_mode()
    def call(size: int) -> None:
        network.features(clips[size])

    return call


def pixels(model: str, batch: int = 1) -> torch.Tensor:
    return torch.randn(shape(model, batch))


def shape(model: str, batch: int = 1) -> tuple[int, ...]:
    from tubelet.models import zoo

    clip = zoo.entry_for(model).clip
    return (batch, clip.channels, clip.frames, clip.crop, clip.crop)


def subjects(model: str, threads: int) -> dict[str, Timed]:
    function = MODELS[model][0]
    found: dict[str, Timed] = {}
    if function is not None:
        found["peer"] = Timed(peer, function, model, keeps_memory=False, threads=threads)
    found["reference"] = Timed(
        ours, model, "reference", "fp32", keeps_memory=False, threads=threads
    )
    for precision in ("fp32", "bf16"):
        found[precision] = Timed(ours, model, "fast", precision, keeps_memory=True, threads=threads)
    return found


def measure(model: str, *, rounds: int, threads: int, products: dict[str, Timed]) -> dict[str, Any]:
    """One row."""
    found = subjects(model, threads)
    try:
        sizes, peaks = dict.fromkeys(found, 1), {}
        for precision in products:
            sizes[precision + " best"] = best_batch(found[precision], peaks, precision)
            found[precision + " best"] = found[precision]
        if sizes["fp32 best"] == 1:
            del sizes["fp32 best"]
        if sizes["bf16 best"] == 1:
            del sizes["bf16 best"]
        for name, size in sizes.items():
            found[name].run(size)
        seconds: dict[str, list[float]] = {name: [] for name in sizes}
        ceilings: dict[str, list[float]] = {name: [] for name in sizes}
        for _ in range(rounds):
            for name, size in sizes.items():
                product_of = products[precision_of(name)]
                around = [product_of.run(PRODUCTS)]
                seconds[name].append(found[name].run(size) / size)
                around.append(product_of.run(PRODUCTS))
                ceilings[name].append(product_gflops(mean(around), PRODUCTS))
        peaks |= {name: s.peak_mb for name, s in found.items() if name not in peaks}
    finally:
        for subject in found.values():
            subject.close()
    return row(model, seconds, ceilings, sizes=sizes, peaks=peaks)


def best_batch(subject: Timed, peaks: dict[str, float], name: str) -> int:
    """The batch with the most clips per second; notes the peak memory at batch 1 on the way."""
    per_clip: dict[int, float] = {}
    for size in BATCHES:
        subject.run(size)
        per_clip[size] = min(subject.run(size) for _ in range(2)) / size
        peaks.setdefault(name, subject.peak_mb)
    return min(per_clip, key=lambda size: per_clip[size])


def precision_of(name: str) -> str:
    return "bf16" if name.startswith("bf16") else "fp32"


def row(
    model: str,
    seconds: dict[str, list[float]],
    ceilings: dict[str, list[float]],
    *,
    sizes: dict[str, int],
    peaks: dict[str, float],
) -> dict[str, Any]:
    flops = operations(lambda: create_model(model, weights=None), shape(model))
    base = "peer" if "peer" in seconds else "reference"
    made: dict[str, Any] = {
        "gflop": round(flops / 1e9, 2),
        "base": base,
        "ceiling_gflops": {
            precision: Spread.of(
                [c for name, found in ceilings.items() if precision_of(name) == precision
                 for c in found]
            ).plain()
            for precision in ("fp32", "bf16")
        },
        "subjects": {},
    }  # fmt: skip
    for name, times in seconds.items():
        rates = [flops / t / 1e9 for t in times]
        share = [r / c for r, c in zip(rates, ceilings[name], strict=True)]
        made["subjects"][name] = {
            "batch": sizes[name],
            "seconds_per_clip": Spread.of(times).plain(),
            "clips_per_s": round(1 / Spread.of(times).median, 2),
            "gflops": round(Spread.of(rates).median, 1),
            "share_of_ceiling": Spread.of(share).plain(3),
            "ratio": speedup(seconds[base], times).plain(3),
            "ratio_to_reference": speedup(seconds["reference"], times).plain(3),
            "peak_mb": None if name.endswith("best") else round(peaks[name]),
        }
    return made


def table(data: dict[str, Any]) -> str:
    """benchmarks/models.md."""
    facts = data["machine"]
    lines = [
        "# Networks",
        "",
        f"{facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}; "
        f"`python benchmarks/models.py`, {facts['rounds']} rounds. Ceilings: float32 "
        f"{facts['fp32_gflops']:.0f} and bfloat16 {facts['bf16_gflops']:.0f} GFLOP/s (matrix "
        f"products of side 2048), memory copies {facts['copy_gb_s']:.1f} GB/s. Ratio: to "
        "PyTorchVideo's eager network, or to the readable one where it has none (*); in brackets "
        "the quartiles, then the target. Peak: of the process, with torch.",
        "",
        "| network | GFLOP | subject | clips/s | GFLOP/s | share of ceiling | ratio | peak MB |",
        "|---|--:|---|--:|--:|--:|---|--:|",
    ]
    for model, found in data["models"].items():
        for name, value in found["subjects"].items():
            ratio, low, high = value["ratio"]
            target = {"fp32": MODELS[model][1], "bf16": MODELS[model][2]}.get(name)
            goal = f", target {target}" if target else ""
            star = "*" if found["base"] == "reference" else ""
            label = f"{name.split()[0]}, batch {value['batch']}" if "best" in name else name
            lines.append(
                f"| {model} | {found['gflop']:.1f} | {label} | {value['clips_per_s']:.2f} | "
                f"{value['gflops']:.0f} | {value['share_of_ceiling'][0]:.0%} | "
                f"{ratio:.2f}{star} ({low:.2f} to {high:.2f}{goal}) | {value['peak_mb'] or ''} |"
            )
    return "\n".join(lines) + "\n"


def pictures(data: dict[str, Any]) -> None:
    for family, prefixes in FAMILIES.items():
        rows = {m: r for m, r in data["models"].items() if m.startswith(prefixes)}
        groups = {
            model.split(".")[0]: {
                kind: value["share_of_ceiling"][0] * 100
                for kind, value in found["subjects"].items()
                if "best" not in kind
            }
            for model, found in rows.items()
        }
        if not groups:
            continue
        marks = ((65, "target fp32"), (45, "target bf16")) if family == "r50" else ()
        svg = bars_svg(
            groups, title="Share of the ceiling of the precision, batch 1", unit=" %", marks=marks
        )
        (HERE / f"models_{family}.svg").write_text(svg, encoding="utf-8")


def machine_facts(threads: int, rounds: int) -> dict[str, Any]:
    return {
        "cpu": machine_name(),
        "threads": threads,
        "rounds": rounds,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def save(data: dict[str, Any]) -> None:
    data["models"] = {m: data["models"][m] for m in MODELS if m in data["models"]}
    rows = data["models"].values()
    for precision in ("fp32", "bf16"):
        found = [r["ceiling_gflops"][precision][0] for r in rows]
        data["machine"][f"{precision}_gflops"] = Spread.of(found).median
    TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (HERE / "models.md").write_text(table(data), encoding="utf-8")
    pictures(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", choices=[[], *MODELS], metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--only", action="store_true", help="nothing but the named networks")
    parser.add_argument("--again", action="store_true", help="measure what has been measured too")
    args = parser.parse_args()
    data = json.loads(TARGET.read_text()) if TARGET.exists() else {"models": {}}
    wanted = args.models if args.only else dict.fromkeys([*args.models, *MODELS])
    todo = [m for m in wanted if args.again or m not in data["models"]]
    if not todo:
        return save(data)
    data["machine"] = data.get("machine", {}) | machine_facts(args.threads, args.rounds)
    copier = Timed(copy, keeps_memory=True, threads=args.threads)
    data["machine"]["copy_gb_s"] = copy_gb_s(min(copier.run(1) for _ in range(9)))
    copier.close()
    products = {precision: best_product(precision, args.threads) for precision in ("fp32", "bf16")}
    for model in todo:
        data["models"][model] = measure(
            model, rounds=args.rounds, threads=args.threads, products=products
        )
        save(data)
        kinds = data["models"][model]["subjects"]
        shown = ", ".join(f"{k} {v['ratio'][0]:.2f}x" for k, v in kinds.items())
        print(f"{model}: {shown}", flush=True)
    for subject in products.values():
        subject.close()


def best_product(precision: str, threads: int) -> Timed:
    """The faster one of the two matrix products."""
    both = [
        Timed(product, precision, packed, keeps_memory=True, threads=threads)
        for packed in (False, True)
    ]
    times = interleaved({str(i): lambda s=s: s.run(PRODUCTS) for i, s in enumerate(both)}, rounds=5)
    slower, faster = sorted(range(2), key=lambda i: -min(times[str(i)]))
    both[slower].close()
    return both[faster]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
