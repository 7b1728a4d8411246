"""Clips per second of the networks: eager, fast, bfloat16, PyTorchVideo's; shares of the ceiling.

    python benchmarks/models.py [MODEL ...] [--rounds 9] [--threads 2] [--again]

Each subject runs in a process of its own, and they take turns, together with the machine's matrix
products (see tubelet.bench.timing). A ratio is the median of the ratios within rounds; the spread
is that of the quartiles. Operations are counted on the readable network, two per multiply-add.

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
import platform
import sys
import types
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import torch

from tubelet.bench.ceilings import copy, copy_gb_s, product, product_gflops
from tubelet.bench.chart import bars_svg
from tubelet.bench.networks import operations
from tubelet.bench.timing import Call, Spread, Subject, cores, interleaved, speedup
from tubelet.models.registry import create_model

HERE = Path(__file__).parent
TARGET = HERE / "models.json"
BATCHES = (1, 2, 4)
PRODUCTS = 8  # matrix products per repetition: as long as a forward pass

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


class Stub(types.ModuleType):
    """A module in which every name exists and nothing works."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def peer(function: str, model: str) -> Call:
    """PyTorchVideo's network on the clip of ours."""
    stubbed = ("torchvision", "torchvision.ops", "torchvision.transforms")
    sys.modules.update({name: Stub(name) for name in stubbed})
    warnings.simplefilter("ignore")
    network = getattr(importlib.import_module("pytorchvideo.models.hub"), function)
    theirs = network(pretrained=False).eval()
    clip = pixels(model)
    given = [clip[:, :, ::4].contiguous(), clip] if "slowfast" in function else clip

    @torch.inference_mode()
    def call(size: int) -> None:
        theirs(given)

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


def subjects(model: str, threads: int) -> dict[str, Subject]:
    function = MODELS[model][0]
    found: dict[str, Subject] = {}
    if function is not None:
        found["peer"] = Subject(peer, function, model, keeps_memory=False, threads=threads)
    found["reference"] = Subject(
        ours, model, "reference", "fp32", keeps_memory=False, threads=threads
    )
    for precision in ("fp32", "bf16"):
        found[precision] = Subject(
            ours, model, "fast", precision, keeps_memory=True, threads=threads
        )
    return found


def measure(
    model: str, *, rounds: int, threads: int, machine: dict[str, Subject]
) -> dict[str, Any]:
    """One row."""
    found = subjects(model, threads)
    try:
        best = {}
        peaks = {}
        for precision in ("fp32", "bf16"):
            per_clip = {}
            for size in BATCHES:
                found[precision].run(size)
                per_clip[size] = min(found[precision].run(size) for _ in range(2)) / size
                peaks.setdefault(precision, found[precision].peak_mb)
            best[precision] = min(per_clip, key=lambda size: per_clip[size])
        runs = {name: (lambda s=subject: s.run(1)) for name, subject in found.items()}
        for precision, size in best.items():
            if size > 1:
                runs[f"{precision} best"] = lambda p=precision, n=size: found[p].run(n) / n
        runs |= {name: (lambda s=subject: s.run(PRODUCTS)) for name, subject in machine.items()}
        seconds = interleaved(runs, rounds=rounds, warmups=1)
        peaks |= {name: found[name].peak_mb for name in found if name not in peaks}
    finally:
        for subject in found.values():
            subject.close()
    return row(model, seconds, best=best, peaks=peaks)


def row(
    model: str, seconds: dict[str, list[float]], *, best: dict[str, int], peaks: dict[str, float]
) -> dict[str, Any]:
    flops = operations(lambda: create_model(model, weights=None), shape(model))
    base = "peer" if "peer" in seconds else "reference"
    ceilings = {
        precision: [
            product_gflops(min(pair), PRODUCTS)
            for pair in zip(
                seconds[f"{precision} product"], seconds[f"{precision} packed"], strict=True
            )
        ]
        for precision in ("fp32", "bf16")
    }
    made: dict[str, Any] = {
        "gflop": round(flops / 1e9, 2),
        "base": base,
        "ceiling_gflops": {k: Spread.of(v).plain() for k, v in ceilings.items()},
        "subjects": {},
    }
    for name, times in seconds.items():
        if name.endswith(("product", "packed")):
            continue
        precision = name.split()[0] if name.split()[0] in ceilings else "fp32"
        rates = [flops / t / 1e9 for t in times]
        share = [r / c for r, c in zip(rates, ceilings[precision], strict=True)]
        made["subjects"][name] = {
            "batch": best[precision] if name.endswith("best") else 1,
            "seconds_per_clip": Spread.of(times).plain(),
            "clips_per_s": round(1 / Spread.of(times).median, 2),
            "gflops": round(Spread.of(rates).median, 1),
            "share_of_ceiling": Spread.of(share).plain(3),
            "ratio": speedup(seconds[base], times).plain(3),
            "ratio_to_reference": speedup(seconds["reference"], times).plain(3),
            "peak_mb": round(peaks[name]) if name in peaks else None,
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
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    return {
        "cpu": f"{cpu}, {cores()} cores",
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
    parser.add_argument("--again", action="store_true", help="measure what has been measured too")
    args = parser.parse_args()
    data = json.loads(TARGET.read_text()) if TARGET.exists() else {"models": {}}
    todo = [m for m in args.models or MODELS if args.again or m not in data["models"]]
    if not todo:
        return save(data)
    data["machine"] = data.get("machine", {}) | machine_facts(args.threads, args.rounds)
    copier = Subject(copy, keeps_memory=True, threads=args.threads)
    data["machine"]["copy_gb_s"] = copy_gb_s(min(copier.run(1) for _ in range(9)))
    copier.close()
    machine = {
        f"{precision} {kind}": Subject(
            product, precision, kind == "packed", keeps_memory=True, threads=args.threads
        )
        for precision in ("fp32", "bf16")
        for kind in ("product", "packed")
    }
    for model in todo:
        data["models"][model] = measure(
            model, rounds=args.rounds, threads=args.threads, machine=machine
        )
        save(data)
        kinds = data["models"][model]["subjects"]
        shown = ", ".join(f"{k} {v['ratio'][0]:.2f}x" for k, v in kinds.items())
        print(f"{model}: {shown}", flush=True)
    for subject in machine.values():
        subject.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
