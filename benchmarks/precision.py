"""Rows in bfloat16 against rows in float32, on real videos: what `--precision auto` costs.

    python benchmarks/precision.py [VIDEO ...] [--seconds 6] [--only PREFIX]

Networks of every family with the reference data's filled weights (activations of order one, every
branch contributes) and Inception-I3D with its released weights. Each video's first seconds go
through the whole pipeline twice. Per network: the least cosine between a row and its float32 row,
the median and the largest relative error (largest difference over the row's largest value), and
how often the best class is the same. Also float32 through the readable network, against the fast
one. Results: benchmarks/precision.json and precision.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import yaml

from tubelet.bench.rounds import machine_name
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.pipeline import extract_video
from tubelet.machine.process import keep_memory
from tubelet.models.registry import create_model

HERE = Path(__file__).parent
TARGET = HERE / "precision.json"
FILLED = (
    "Kinetics/C2D_8x8_R50",
    "Kinetics/I3D_8x8_R50",
    "Kinetics/I3D_NLN_8x8_R50",
    "Kinetics/SLOW_8x8_R50",
    "Kinetics/SLOWFAST_8x8_R50",
    "Kinetics/X3D_S",
    "Kinetics/X3D_M",
    "Kinetics/MVIT_B_16x4_CONV",
    "Kinetics/MVITv2_S_16x4",
    "Kinetics/REV_MVIT_B_16x4_CONV",
)
RELEASED = ("i3d_inception.k400",)


def network(name: str, golden: Any) -> Any:
    """A network with its released weights, or one of the reference's with filled ones."""
    if name in RELEASED:
        return create_model(name)
    with tempfile.TemporaryDirectory() as folder:
        settings, weights = Path(folder, "settings.yaml"), Path(folder, "weights.pyth")
        settings.write_text(yaml.safe_dump(golden.facts(name)["settings"]))
        filled = {k: torch.from_numpy(v) for k, v in golden.weights(name).items()}
        torch.save({"model_state": filled}, weights)
        return create_model(str(settings), weights=weights)


def rows(name: str, golden: Any, videos: list[str], seconds: float, **kind: str) -> list[Any]:
    """("pool", logits) of all windows; `kind`: precision, runtime."""
    options = Options(precision=kind["precision"], logits=True)  # type: ignore[arg-type]
    extractor = Extractor(
        network(name, golden),
        name=name,
        options=options,
        runtime=kind["runtime"],  # type: ignore
    )
    found = [extract_video(video, [extractor], end_s=seconds)[0] for video in videos]
    pool = np.concatenate([f.values for f in found])
    logits = np.concatenate([f.logits for f in found if f.logits is not None])
    return [pool, logits, extractor.runtime]


def compare(got: list[Any], want: list[Any]) -> dict[str, Any]:
    a, b = (x[0].astype(np.float64) for x in (got, want))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    error = np.abs(a - b).max(1) / np.abs(b).max(1)
    return {
        "rows": len(a),
        "least_cosine": round(float(cosine.min()), 8),
        "median_error": float(f"{np.median(error):.2g}"),
        "largest_error": float(f"{error.max():.2g}"),
        "same_best_class": int((got[1].argmax(1) == want[1].argmax(1)).sum()),
        "runtime": got[2],
    }


def table(data: dict[str, Any]) -> str:
    lines = [
        "# Precision",
        "",
        f"{data['machine']}, torch {data['torch']}, {data['date']}: `{data['command']}`. bfloat16 "
        "rows against float32 rows of the same windows; error: largest difference over the row's "
        "largest value. The bound of `--precision auto` is a cosine of 0.999 per row. Weights: the "
        "reference data's filled ones, the released ones for i3d_inception.k400. Last column: the "
        "fast float32 row against the readable network's.",
        "",
        "| network | rows | least cosine | median error | largest error | same best class "
        "| float32 fast vs readable |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in data["networks"].items():
        low, exact = found["bf16"], found["fp32"]
        lines.append(
            f"| {name} | {low['rows']} | {low['least_cosine']:.6f} | {low['median_error']:.1%} | "
            f"{low['largest_error']:.1%} | {low['same_best_class']} of {low['rows']} | "
            f"{exact['largest_error']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", default="", metavar="PREFIX")
    args = parser.parse_args()
    keep_memory()
    sys.path.insert(0, str(HERE.parent / "tests"))
    from conformance import golden  # type: ignore[import-not-found]
    from real import bikes  # type: ignore[import-not-found]

    videos = args.videos or [str(bikes())]
    data = json.loads(TARGET.read_text()) if TARGET.exists() else {"networks": {}}
    data |= {
        "machine": machine_name(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "command": "python benchmarks/precision.py",
        "videos": [Path(v).name for v in videos],
        "seconds": args.seconds,
    }
    for name in (*RELEASED, *FILLED):
        if not name.startswith(args.only) or (name in data["networks"] and not args.only):
            continue
        made = {
            precision: rows(name, golden, videos, args.seconds, precision=precision, runtime="fast")
            for precision in ("fp32", "bf16")
        }
        plain = rows(name, golden, videos, args.seconds, precision="fp32", runtime="reference")
        data["networks"][name] = {
            "bf16": compare(made["bf16"], made["fp32"]),
            "fp32": compare(made["fp32"], plain),
        }
        order = {n: data["networks"][n] for n in (*RELEASED, *FILLED) if n in data["networks"]}
        data["networks"] = order
        TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (HERE / "precision.md").write_text(table(data), encoding="utf-8")
        print(name, data["networks"][name], flush=True)


if __name__ == "__main__":
    main()
