"""Everything around the model: decoding, preparing, overlap, neighbours, dense windows, memory.

    python benchmarks/pipeline.py [PART ...]

Every part visits its subjects in turn and reports medians of the ratios within rounds. Results
are kept in benchmarks/pipeline.json part by part; benchmarks/report.py makes the tables of them.

    decode      decode-only against decoding and preparing, CPU seconds per frame, 1080p H.264
    overlap     a run against the longest of decode alone, model alone, and CPU seconds / cores
    neighbours  the same run beside one and two busy processes
    layout      eight videos by processes x threads, whole processes, wall clock
    dense       CPU seconds per row: stride = span, stride = span / 4, the same without shared maps
    loop        the straightforward loop (decode everything, float transform of full frames, eager
                model, np.save) against `tubelet extract`, whole processes, wall clock and peak;
                720p. folder: the same for videos of several sizes
    memory      peak of SlowFast 8x8 on 1080p at default settings
    start       start-up of the command line against a Python process that imports numpy

Weights are random: they do not change the cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from end_to_end import against_loop, whole
from runs import (
    HERE,
    NORM,
    SIZES,
    VIDEOS,
    bikes,
    cpu,
    drain,
    extractor,
    only_decode,
    ratios,
    rows_of,
    run_all,
    video,
    wall,
)  # fmt: skip

from tubelet.bench.rounds import Spread, cores, interleaved, machine_name

TARGET = HERE / "pipeline.json"


def part_decode(folder: str) -> dict[str, Any]:
    from tubelet.clips.transform import ViewConfig

    frames = 150
    path = video(folder, width=1920, height=1080, frames=frames)
    views = {kind: ViewConfig(256, 256, *NORM, resize=kind) for kind in ("float", "uint8")}
    subjects = {"decode only": lambda: cpu(lambda: drain(path))}
    subjects |= {kind: (lambda v=view: cpu(lambda: drain(path, v))) for kind, view in views.items()}
    seconds = interleaved(subjects, rounds=11, warmups=1)
    return {
        "frames": frames,
        "mbit_s": round(Path(path).stat().st_size * 8 / (frames / 30) / 1e6, 1),
        "ms_per_frame": {
            k: Spread.of([s / frames * 1e3 for s in v]).plain() for k, v in seconds.items()
        },
        "ratio": {k: ratios(seconds[k], seconds["decode only"]) for k in views},
    }


def part_overlap(folder: str) -> dict[str, Any]:
    path = video(folder, width=1280, height=720, frames=1800)
    found = {}
    for model in ("x3d_m", "slowfast_r50_8x8"):
        made = extractor(model)
        rows = rows_of(path, made)
        used: dict[str, list[float]] = {"decode": [], "model": []}

        def alone(name: str, work: Callable[[], object], used: Any = used) -> float:
            start = time.process_time()
            seconds = wall(work)
            used[name].append(time.process_time() - start)
            return seconds

        seconds = interleaved(
            {
                "decode": lambda m=made, a=alone: a("decode", lambda: only_decode(path, m)),
                "model": lambda m=made, r=rows, a=alone: a(
                    "model", lambda: [m.forward([x]) for x in r]
                ),
                "run": lambda m=made: wall(lambda: run_all(path, m)),
            },
            rounds=3,
            warmups=1,
        )
        both = [a + b for a, b in zip(used["decode"][1:], used["model"][1:], strict=True)]
        bound = [
            max(d, m, c / cores())
            for d, m, c in zip(seconds["decode"], seconds["model"], both, strict=True)
        ]
        found[model] = {
            "rows": len(rows),
            "seconds": {k: Spread.of(v).plain() for k, v in seconds.items()},
            "cpu_seconds": {k: Spread.of(v[1:]).plain() for k, v in used.items()},
            "bound": Spread.of(bound).plain(),
            "ratio": ratios(seconds["run"], bound),
        }
    return found


BUSY = "import time\nend = time.time() + 3600\nwhile time.time() < end:\n    sum(range(10000))\n"


def part_neighbours(folder: str) -> dict[str, Any]:
    """Share left: of `cores` cores, each of n neighbours takes one, or its fair share of them."""
    path = video(folder, width=640, height=360, frames=1024)
    found: dict[str, Any] = {}
    for model in ("slow_r50_8x8", "x3d_s"):
        made = extractor(model)

        def beside(count: int, m: Any = made) -> float:
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
            try:
                time.sleep(0.3)
                return wall(lambda: run_all(path, m))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()

        seconds = interleaved(
            {str(n): (lambda n=n: beside(n)) for n in (0, 1, 2)}, rounds=3, warmups=1
        )
        n = cores()
        left = {k: min(n, max(n - k, n * n / (n + k))) / n for k in (1, 2)}
        found[model] = {
            "seconds": {k: Spread.of(v).plain() for k, v in seconds.items()},
            "share_left": {str(k): round(v, 3) for k, v in left.items()},
            "times_the_share": {
                str(k): Spread.of(
                    [x * left[k] / y for x, y in zip(seconds[str(k)], seconds["0"], strict=True)]
                ).plain(3)
                for k in left
            },
        }
    return found


def part_dense(folder: str) -> dict[str, Any]:
    path = video(folder, width=640, height=360, frames=256)
    found: dict[str, Any] = {}
    for model in ("slow_r50_8x8", "c2d_r50_8x8"):
        apart, dense, plain = (extractor(model, stride=s) for s in (64, 16, 16))
        plain.maps = None
        count: dict[str, int] = {}

        def per_row(name: str, made: Any, count: dict[str, int] = count) -> float:
            seconds = cpu(lambda: count.__setitem__(name, run_all(path, made)))
            return seconds / count[name]

        subjects = {"apart": apart, "dense": dense, "dense, whole clips": plain}
        seconds = interleaved(
            {k: (lambda k=k, v=v, f=per_row: f(k, v)) for k, v in subjects.items()},
            rounds=2,
            warmups=0,
        )
        found[model] = {
            "rows": count,
            "maps": [dense.maps.stage, dense.maps.group],
            "cpu_seconds_per_row": {k: Spread.of(v).plain() for k, v in seconds.items()},
            "ratio": {k: ratios(v, seconds["apart"]) for k, v in seconds.items() if k != "apart"},
        }
    return found


LAYOUTS = ("1x2", "1x1", "2x1", "2x2")


def part_layout(folder: str) -> dict[str, Any]:
    """Processes x threads of each."""
    paths = [
        *[video(folder, width=640, height=360, frames=f) for f in (1024, 1000, 976, 952)],
        *[video(folder, width=1280, height=720, frames=f) for f in (720, 700, 680, 660)],
    ]
    found: dict[str, Any] = {}
    for model in ("x3d_m", "slow_r50_8x8"):
        seconds = interleaved(
            {
                kind: (lambda k=kind, m=model: whole(f"fp32 {k} {m}", paths)["seconds"])
                for kind in LAYOUTS
            },
            rounds=3,
            warmups=0,
        )
        found[model] = {
            "videos": len(paths),
            "seconds": {k: Spread.of(v).plain() for k, v in seconds.items()},
            "speedup": {k: ratios(seconds["1x2"], v) for k, v in seconds.items()},
        }
    return found


def part_loop(folder: str) -> dict[str, Any]:
    return against_loop([video(folder, width=1280, height=720, frames=1350)], rounds=3)


def part_folder(folder: str) -> dict[str, Any]:
    mixed = [
        str(bikes()),
        video(folder, width=640, height=360, frames=3600),
        video(folder, width=1280, height=720, frames=600),
        video(folder, width=1920, height=1080, frames=300),
    ]
    return against_loop(mixed, rounds=2)


def part_memory(folder: str) -> dict[str, Any]:
    found = {}
    for frames in (128, 384):
        path = video(folder, width=1920, height=1080, frames=frames)
        found[f"{frames} frames"] = {
            kind: round(whole(kind, [path])["peak_mb"]) for kind in ("fp32", "bf16")
        }
    return found


def part_start(folder: str) -> dict[str, Any]:
    path = video(folder, width=320, height=240, frames=60)
    tubelet = [sys.executable, "-c", "from tubelet.cli import main; main()"]
    commands = {
        "python, numpy": [sys.executable, "-c", "import numpy"],
        "import tubelet": [sys.executable, "-c", "import tubelet"],
        "tubelet --help": [*tubelet, "--help"],
        "tubelet models": [*tubelet, "models"],
        "tubelet plan": [*tubelet, "plan", path],
    }

    def start(command: list[str]) -> float:
        return wall(lambda: subprocess.run(command, check=True, capture_output=True))

    seconds = interleaved(
        {k: (lambda c=c: start(c)) for k, c in commands.items()}, rounds=11, warmups=2
    )
    base = seconds["python, numpy"]
    return {
        k: {"seconds": Spread.of(v).plain(3), "ratio": ratios(v, base)} for k, v in seconds.items()
    }


PARTS = {
    name.removeprefix("part_"): value
    for name, value in globals().items()
    if name.startswith("part_")
}


def main() -> None:
    from tubelet.machine.process import configure_process

    configure_process()
    VIDEOS.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["videos"]:
        for width, height, frames in SIZES:
            video(str(VIDEOS), width=width, height=height, frames=frames)
        return
    for name in sys.argv[1:] or PARTS:
        found = PARTS[name](str(VIDEOS))
        import torch

        data = json.loads(TARGET.read_text()) if TARGET.exists() else {}
        data[name] = {
            "machine": machine_name(),
            "torch": torch.__version__,
            "date": date.today().isoformat(),
            "result": found,
        }
        TARGET.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
