"""benchmarks/README.md and the end-to-end picture, from the committed results.

    python benchmarks/report.py

Measures nothing: reads models.json (models.py) and pipeline.json (pipeline.py). What is missing is
said to be missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tubelet.bench.bars import bars_svg

HERE = Path(__file__).parent
TEXT = HERE / "README.template.md"
MISSING = "not measured"


def load(name: str) -> dict[str, Any]:
    path = HERE / name
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def spread(values: list[float], unit: str = "x") -> str:
    middle, low, high = values
    return f"{middle:.2f}{unit} ({low:.2f} to {high:.2f})"


class Results:
    """What was measured, as cells of the tables."""

    def __init__(self) -> None:
        self.models = load("models.json").get("models", {})
        self.parts = load("pipeline.json")
        self.precision = load("precision.json").get("networks", {})

    def ratio(self, prefixes: tuple[str, ...], subject: str) -> str:
        """The speedups of the networks whose ids begin so, smallest to largest."""
        found = {
            model.split(".")[0]: row["subjects"][subject]["ratio"]
            for model, row in self.models.items()
            if model.startswith(prefixes) and subject in row["subjects"]
        }
        cells = [
            f"{name} {spread(value)}" for name, value in sorted(found.items(), key=lambda p: p[1])
        ]
        return ", ".join(cells) or MISSING

    def share(self, subject: str) -> str:
        found = {
            model.split(".")[0]: row["subjects"][subject]["share_of_ceiling"]
            for model, row in self.models.items()
            if model.startswith(("i3d_r50", "slow")) and subject in row["subjects"]
        }
        cells = [
            f"{name} {middle:.0%} ({low:.0%} to {high:.0%})"
            for name, (middle, low, high) in found.items()
        ]
        return ", ".join(cells) or MISSING

    def cosine(self) -> str:
        """Of the network whose bfloat16 rows are farthest from its float32 rows."""
        found = {name: row["bf16"] for name, row in self.precision.items()}
        if not found:
            return MISSING
        name = min(found, key=lambda name: found[name]["least_cosine"])
        worst = max(row["largest_error"] for row in found.values())
        return (
            f"at least {found[name]['least_cosine']:.5f} ({name}, {len(found)} networks), largest "
            f"error {worst:.1%} ([precision.md](precision.md))"
        )

    def part(self, name: str, *keys: str) -> Any:
        value = self.parts.get(name, {}).get("result")
        for key in keys:
            value = None if value is None else value.get(key)
        return value

    def cell(self, name: str, *keys: str) -> str:
        value = self.part(name, *keys)
        return MISSING if value is None else spread(value)


def targets(r: Results) -> list[tuple[str, str, str]]:
    """(what, target, reached), in the order of the issue that set them."""
    return [*of_networks(r), *of_runs(r), *around(r)]


def of_networks(r: Results) -> list[tuple[str, str, str]]:
    convolutional = ("c2d", "i3d", "slow")
    return [
        ("float32 against the eager peer, R50 family", "1.5x", r.ratio(convolutional, "fp32")),
        ("float32, X3D", "3x", r.ratio(("x3d",), "fp32")),
        ("float32, MViT", "2x", r.ratio(("mvit", "rev"), "fp32")),
        ("bfloat16 against the eager peer, R50 family", "6x (AMX)", r.ratio(convolutional, "bf16")),
        ("bfloat16, X3D", "8x (AMX)", r.ratio(("x3d",), "bf16")),
        ("bfloat16, MViT", "5x (AMX)", r.ratio(("mvit", "rev"), "bf16")),
        ("bfloat16 rows against float32 rows", "cosine 0.999 each", r.cosine()),
        ("share of the float32 ceiling", "65 %", r.share("fp32")),
        ("share of the bfloat16 ceiling", "45 %", r.share("bf16")),
    ]


def of_runs(r: Results) -> list[tuple[str, str, str]]:
    loop = r.part("loop")
    return [
        (
            "a run against max(decoding, model, CPU seconds / cores)",
            "1.15x at most",
            "; ".join(f"{m} {r.cell('overlap', m, 'ratio')}" for m in r.part("overlap") or {})
            or MISSING,
        ),
        (
            "end to end against the loop, SlowFast 8x8, 720p, float32",
            "2x",
            r.cell("loop", "speedup", "fp32"),
        ),
        ("the same, bfloat16", "5x", r.cell("loop", "speedup", "bf16")),
        (
            "its peak memory",
            "1/4 of the loop's",
            ", ".join(f"{k} {v} MB" for k, v in loop["peak_mb"].items()) if loop else MISSING,
        ),
        ("decode and transform, 1080p, float", "1.25x", r.cell("decode", "ratio", "float")),
        ("decode and transform, 1080p, uint8", "1.12x", r.cell("decode", "ratio", "uint8")),
    ]


def around(r: Results) -> list[tuple[str, str, str]]:
    """Dense windows, neighbours, start-up, memory."""
    peaks = r.part("memory") or {}
    dense = r.part("dense") or {}
    starts = r.part("start") or {}
    beside = r.part("neighbours") or {}
    return [
        (
            "a row at stride = span / 4 against one at stride = span",
            "frame-wise stages once per frame",
            "; ".join(
                f"{m} {spread(v['ratio']['dense'])}, without shared maps "
                f"{spread(v['ratio']['dense, whole clips'])}"
                for m, v in dense.items()
            )
            or MISSING,
        ),
        (
            "beside 1 and 2 busy processes, times the share of CPU that is left",
            "1.3x at most",
            "; ".join(
                f"{m} " + ", ".join(spread(x) for x in v["times_the_share"].values())
                for m, v in beside.items()
            )
            or MISSING,
        ),
        (
            "start-up against Python with numpy",
            "5x at most, no torch",
            ", ".join(f"{k} {v['ratio'][0]:.1f}x" for k, v in starts.items() if "python" not in k)
            or MISSING,
        ),
        (
            "peak memory, SlowFast 8x8 on 1080p, defaults",
            "1.5 GB, flat",
            "; ".join(f"{k}: {v['fp32']} MB (bfloat16 {v['bf16']})" for k, v in peaks.items())
            or MISSING,
        ),
    ]


def table(r: Results) -> str:
    rows = [f"| {what} | {goal} | {reached} |" for what, goal, reached in targets(r)]
    return "\n".join(["| what | target | reached |", "|---|---|---|", *rows])


def layouts(r: Results) -> str:
    """Processes x threads, as speedups over one process with two threads."""
    found = r.part("layout")
    if not found:
        return MISSING
    kinds = list(next(iter(found.values()))["speedup"])
    lines = [
        f"| processes x threads | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for model, value in found.items():
        cells = [spread(value["speedup"][kind]) for kind in kinds]
        lines.append(f"| {model} ({value['videos']} videos) | {' | '.join(cells)} |")
    return "\n".join(lines)


def end_to_end(r: Results) -> dict[str, Any]:
    found = {"720p": r.part("loop"), "folder": r.part("folder")}
    return {name: value for name, value in found.items() if value is not None}


def breakdown(r: Results) -> str:
    """Stages of the end-to-end runs, in seconds."""
    lines = [
        "| videos | | wall clock s | CPU s | peak MB | stages alone, s |",
        "|---|---|---|--:|--:|---|",
    ]
    for name, found in end_to_end(r).items():
        for kind, seconds in found["seconds"].items():
            stages = found["stages_s"].get(kind, {})
            shown = ", ".join(f"{stage} {s:.1f}" for stage, s in stages.items())
            lines.append(
                f"| {name} ({found['rows']} rows) | {kind} | {spread(seconds, '')} | "
                f"{found['cpu_seconds'][kind]} | {found['peak_mb'][kind]} | {shown} |"
            )
    return "\n".join(lines) if len(lines) > 2 else MISSING


def picture(r: Results) -> None:
    found = end_to_end(r)
    if not found:
        return
    groups = {
        f"{name}, {kind}": {**value["stages_s"].get(kind, {}), "whole run": seconds[0]}
        for name, value in found.items()
        for kind, seconds in value["seconds"].items()
    }
    svg = bars_svg(groups, title="End to end, SlowFast 8x8: stages alone, and the run", unit=" s")
    (HERE / "end_to_end.svg").write_text(svg, encoding="utf-8")


def shown(*names: str) -> str:
    """The pictures that exist."""
    found = [name for name in names if (HERE / f"{name}.svg").exists()]
    return "\n".join(f"![{name}]({name}.svg)" for name in found) or "No picture yet."


def machines(r: Results) -> str:
    found = dict.fromkeys(
        f"{part['machine']}, torch {part['torch']}, {part['date']}" for part in r.parts.values()
    )
    return "; ".join(found) or MISSING


def main() -> None:
    r = Results()
    picture(r)
    text = TEXT.read_text("utf-8")
    for name, made in {
        "targets": table(r),
        "breakdown": breakdown(r),
        "layouts": layouts(r),
        "machines": machines(r),
        "end": shown("end_to_end"),
        "pictures": shown("models_r50", "models_x3d", "models_mvit"),
    }.items():
        text = text.replace(f"<!-- {name} -->", made)
    (HERE / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
