"""Whole processes end to end: the straightforward loop against what `tubelet extract` does.

    python benchmarks/end_to_end.py KIND OUT VIDEO ...    KIND: loop, "fp32 [2x1 [MODEL]]"
    (processes x threads), bf16 likewise, "stages PRECISION"

is one of them; its last line tells the seconds of its stages where it has any, its CPU seconds and
its peak memory. pipeline.py starts them with `against_loop` and `whole`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from runs import NORM, extractor, only_decode, ratios, rows_of, wall

from tubelet.bench.rounds import Spread, peak_mb


def loop(paths: list[str], out: str) -> dict[str, float]:
    """What people write: every frame decoded, windows in float at full size, an eager network.

    Transforms are made window by window: of a whole video of minutes they would not fit in memory.
    Seconds of each stage.
    """
    import av
    import torch
    from torch.nn.functional import interpolate

    from tubelet.models.registry import create_model

    torch.manual_seed(0)
    model = create_model("slowfast_r50_8x8", weights=None).eval()
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in NORM)
    used = {"decode": 0.0, "transform": 0.0, "model": 0.0}
    clock = time.perf_counter()

    def spent(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        used[stage] += now - clock
        clock = now

    for path in paths:
        clock = time.perf_counter()
        with av.open(path) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        spent("decode")
        rows = []
        for start in range(0, len(frames), 64):
            index = np.minimum(np.arange(start, start + 64, 2), len(frames) - 1)
            clip = torch.from_numpy(frames[index]).permute(3, 0, 1, 2).float() / 255
            clip = (clip - mean) / std
            height, width = clip.shape[2:]
            scale = 256 / min(height, width)
            size = (int(height * scale), int(width * scale))
            clip = interpolate(clip, size=size, mode="bilinear", align_corners=False)
            top, left = (size[0] - 256) // 2, (size[1] - 256) // 2
            clip = clip[:, :, top : top + 256, left : left + 256].contiguous()
            spent("transform")
            with torch.inference_mode():
                rows.append(model.features(clip[None])["pool"][0].numpy())
            spent("model")
        np.save(f"{out}/{Path(path).stem}.npy", np.stack(rows))
    return used


def stages(paths: list[str], precision: str) -> dict[str, float]:
    """The stages of `ours`, one after the other."""
    made = extractor("slowfast_r50_8x8", precision=precision)
    used = {"decode and transform": 0.0, "model": 0.0}
    for path in paths:
        used["decode and transform"] += wall(lambda p=path: only_decode(p, made))
        rows = rows_of(path, made)
        made.forward(rows[:1])
        used["model"] += wall(lambda r=rows: [made.forward([row]) for row in r])
    return used


def ours(
    paths: list[str],
    out: str,
    precision: str,
    layout: str = "",
    model: str = "slowfast_r50_8x8",
) -> None:
    """What `tubelet extract` does, with random weights. layout: processes x threads of each."""
    import torch

    from tubelet.inputs import collect
    from tubelet.run.job import Job
    from tubelet.run.run import run

    class Silent:
        def expect(self, *args: Any) -> None: ...
        def advance(self, *args: Any) -> None: ...
        def note(self, text: str) -> None: ...
        def done(self, outcome: Any) -> None:
            assert outcome.kind == "extracted", outcome

    torch.manual_seed(0)
    workers = 1
    if layout:
        workers, threads = map(int, layout.split("x"))
        torch.set_num_threads(threads)
    made = extractor(model, precision=precision)
    assert run(Job(collect(paths), Path(out), workers=workers), [made], Silent()) == 0


def whole(kind: str, paths: list[str]) -> dict[str, Any]:
    """A process of its own: wall clock, CPU seconds, peak memory, all from its start."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, kind, out, *paths]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        facts = json.loads(done.stdout.splitlines()[-1])
        rows = sum(len(np.load(p)) for p in Path(out).glob("*.npy"))
    return {"seconds": seconds, "rows": rows, **facts}


def child(kind: str, out: str, paths: list[str]) -> None:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    shown: dict[str, Any] = {}
    if kind == "loop":
        shown["stages"] = loop(paths, out)
    elif kind.startswith("stages "):
        from tubelet.machine.process import configure_process

        configure_process()
        shown["stages"] = stages(paths, kind.split()[1])
    else:
        from tubelet.machine.process import configure_process

        configure_process()
        ours(paths, out, *kind.split())
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = shown | {"peak_mb": peak_mb(), "cpu_seconds": used.ru_utime + used.ru_stime}
    sys.stdout.write(json.dumps(facts) + "\n")


def against_loop(paths: list[str], *, rounds: int) -> dict[str, Any]:
    facts: dict[str, list[Any]] = {"loop": [], "fp32": [], "bf16": []}
    for _ in range(rounds):
        for kind in facts:
            facts[kind].append(whole(kind, paths))
    seconds = {k: [f["seconds"] for f in v] for k, v in facts.items()}
    assert len({f["rows"] for v in facts.values() for f in v}) == 1
    return {
        "videos": [Path(p).name for p in paths],
        "rounds": rounds,
        "rows": facts["loop"][0]["rows"],
        "seconds": {k: Spread.of(v).plain() for k, v in seconds.items()},
        "cpu_seconds": {k: round(median(f["cpu_seconds"] for f in v), 1) for k, v in facts.items()},
        "peak_mb": {k: round(median(f["peak_mb"] for f in v)) for k, v in facts.items()},
        "stages_s": {
            "loop": facts["loop"][-1]["stages"],
            **{p: whole(f"stages {p}", paths)["stages"] for p in ("fp32", "bf16")},
        },
        "speedup": {k: ratios(seconds["loop"], seconds[k]) for k in ("fp32", "bf16")},
    }


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], sys.argv[3:])
