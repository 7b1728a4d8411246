"""The committed results as Markdown, written into README.md between the two marks.

python benchmarks/experiments/table.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START, END = "<!-- results -->\n", "<!-- end of results -->\n"


def networks(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['test_videos']} test videos, chance {found['chance']}."
    yield ""
    yield "| network | epochs | top-1, last | first epoch with 0.9 | CPU s | share of decoding |"
    yield "|---|---|--:|--:|--:|--:|"
    for name, one in found["networks"].items():
        last = one["top1"][-1][1] if one["top1"] else float("nan")
        cells = (
            one["epochs"],
            f"{last:.3f}",
            reached(one["top1"]),
            one["cpu_s"],
            one["decode_share"],
        )
        yield f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |"


def reached(curve: list[list[float]], least: float = 0.9) -> str:
    return next((str(int(epoch)) for epoch, value in curve if value >= least), "never")


def multigrid(found: dict[str, Any]) -> Iterator[str]:
    yield "| schedule | epochs | iterations | top-1, last | wall s | CPU s | share of decoding |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name in ("base", "multigrid"):
        one = found[name]
        names = ("epochs", "iterations", "last", "wall_s", "cpu_s", "decode_share")
        yield f"| {name} | " + " | ".join(f"{one[key]:.4g}" for key in names) + " |"
    ratio = found["base_over_multigrid"]
    yield ""
    yield (
        f"The base schedule processed {ratio['clip_volumes']} x the frames x pixels, and took "
        f"{ratio['wall_s']} x the wall-clock and {ratio['cpu_s']} x the CPU time "
        f"({ratio['cpu_s_without_decoding']} x without decoding). The machine did other things and "
        "paused these runs for minutes: CPU time is the fair number, wall-clock is not."
    )


def inflation(found: dict[str, Any]) -> Iterator[str]:
    tasks = {"order (4 classes)": found, "place and order (8 classes)": found["place_and_order"]}
    epochs = [str(int(epoch)) for epoch, _ in found["random"]["top1"]]
    yield "| task | weights | mean top-1 after epoch " + " | ".join(epochs) + " | last, by seed |"
    yield "|---|---|" + "--:|" * len(epochs) + "---|"
    for task, one in tasks.items():
        for name in ("random", "inflated"):
            means = " | ".join(f"{v:.2f}" for _, v in one[name]["top1"])
            each = ", ".join(f"{c[-1][1]:.2f}" for c in one[name]["top1_of_each_seed"])
            yield f"| {task} | {name} | {means} | {each} |"


def memory(found: dict[str, Any]) -> Iterator[str]:
    yield "| MiB kept for the gradient | blocks | plain | recomputed | reversible |"
    yield "|---|--:|--:|--:|--:|"
    for name, curves in found["MiB_by_depth"].items():
        for i, (depth, _) in enumerate(curves["plain"]):
            cells = [f"{curves[kind][i][1]:.1f}" for kind in ("plain", "recomputed", "reversible")]
            yield f"| {name} | {depth} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        "Reversible networks keep the same at every depth. In Rev-MViT what they keep is mostly "
        "the inside of the three stage transitions, which are not reversible."
    )


def nonlocals(found: dict[str, Any]) -> Iterator[str]:
    seeds = found["seeds"].values()
    changes = [c for one in seeds for c in one["largest_change_of_a_logit"].values()]
    yield (
        f"{found['test_videos']} test videos. Largest change of a logit when a block is inserted: "
        f"{max(changes)}. Share of the test videos whose pair of labels is told right, seed by "
        "seed; chance is 0.5:"
    )
    yield ""
    yield (
        "| block in res4 | frames of 16 that a step in time sees | warm, cool turn: lowest | "
        "alike or against | CPU s of a run |"
    )
    yield "|---|--:|--:|---|--:|"
    for name in ("base", *found["map"]):
        local = min(min(one[name]["warm"], one[name]["cool"]) for one in seeds)
        each = ", ".join(f"{one[name]['relation']:.3f}" for one in seeds)
        seen = cpu = ""
        if name != "base":
            counts = [count for one in seeds for count in one[name]["frames_seen"]]
            seen = f"{min(counts)} to {max(counts)}"
            cpu = f"{sum(one[name]['cpu_s'] for one in seeds) / len(seeds):.0f}"
        yield f"| {name} | {seen} | {local:.3f} | {each} | {cpu} |"
    yield ""
    epochs = [str(int(epoch)) for epoch, _ in found["map"]["without"]]
    yield "| mean mAP of all six labels after epoch | " + " | ".join(epochs) + " |"
    yield "|---|" + "--:|" * len(epochs)
    for name, points in found["map"].items():
        yield f"| {name} | " + " | ".join(f"{value:.3f}" for _, value in points) + " |"


PARTS = {
    "a": ("Which networks see order", networks),
    "b": ("Multigrid", multigrid),
    "c": ("Inflation", inflation),
    "d": ("Memory by depth", memory),
    "e": ("Non-local blocks", nonlocals),
}


def text() -> str:
    lines: list[str] = []
    for letter, (title, part) in PARTS.items():
        lines += [f"## {letter}. {title}", ""]
        path = HERE / "results" / f"{letter}.json"
        if path.exists():
            found = json.loads(path.read_text())
            pictures = sorted((HERE / "results").glob(f"{letter}*.svg"))
            lines += list(part(found))
            lines += ["", f"{found['machine']}, {found['written']}.", ""]
            lines += [f"![{picture.stem}](results/{picture.name})" for picture in pictures]
        else:
            lines.append("No committed result yet; the command above makes it.")
        lines.append("")
    return "\n".join(lines)


def update() -> None:
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(START)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{START}\n{text()}\n{END}{after}")


if __name__ == "__main__":
    update()
