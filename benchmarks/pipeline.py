"""Everything around the model: decoding, preparing, overlap, neighbours, dense windows, memory.

    python benchmarks/pipeline.py [PART ...]

Every part visits its subjects in turn and reports medians of the ratios within rounds. Results
are kept in benchmarks/pipeline.json part by part; benchmarks/report.py makes the tables of them.

    decode      decode-only against decoding and preparing, CPU seconds per frame, 1080p H.264
    overlap     a run against the longest of decode alone, model alone, and CPU seconds / cores
    neighbours  the same run beside one and two busy processes
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
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tubelet.bench.timing import Spread, cores, interleaved, machine_name

HERE = Path(__file__).parent
TARGET = HERE / "pipeline.json"
REAL = Path(os.environ.get("TUBELET_SHARED", HERE.parents[1] / "shared")) / "videos"
VIDEOS = Path(tempfile.gettempdir()) / "tubelet-bench"
"""Encoded once and kept."""
NORM = ((0.45,) * 3, (0.225,) * 3)


def video(folder: str, *, width: int, height: int, frames: int) -> str:
    """A real clip (moving people), enlarged, with grain, as x264 makes it at its defaults."""
    import av

    from tubelet.decode.base import open_video
    from tubelet.encode import Encoding, encode

    rng = np.random.default_rng(0)
    grain = [rng.normal(0, 2, (height, width, 1)).astype(np.int16) for _ in range(8)]

    def pictures() -> Any:
        count = 0
        while True:
            with open_video(str(REAL / "arm_wrestling.mp4")) as reader:
                for frame in reader.frames():
                    if count == frames:
                        return
                    small = av.VideoFrame.from_ndarray(frame.rgb(), format="rgb24")
                    large = small.reformat(width=width, height=height).to_ndarray()
                    yield np.clip(large + grain[count % 8], 0, 255).astype(np.uint8)
                    count += 1

    target = f"{folder}/{width}x{height}-{frames}.mp4"
    if Path(target).exists():
        return target
    options = {"preset": "medium", "crf": "23"}
    encode(
        pictures(), target, encoding=Encoding(fps=Fraction(30), gop=60, b_frames=2, options=options)
    )
    return target


SIZES = [
    (1920, 1080, 150), (1280, 720, 384), (640, 360, 256), (640, 360, 512), (1280, 720, 360),
    (640, 360, 600), (1920, 1080, 128), (1920, 1080, 384), (320, 240, 60),
]  # fmt: skip
"""All of them, for `python benchmarks/pipeline.py videos` before the machine must be quiet."""


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drain(path: str, view: Any = None) -> int:
    """Decode everything, prepare every frame where a view is given."""
    from tubelet.decode.base import open_video
    from tubelet.transform import prepare_frame

    count = 0
    with open_video(path) as reader:
        for frame in reader.frames():
            count += 1
            if view is not None:
                prepare_frame(frame, view)
    return count


def part_decode(folder: str) -> dict[str, Any]:
    from tubelet.transform import ViewConfig

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


def ratios(a: list[float], b: list[float]) -> list[float]:
    return Spread.of([x / y for x, y in zip(a, b, strict=True)]).plain(3)


def extractor(
    model: str, *, precision: str = "fp32", stride: int | None = None, **options: Any
) -> Any:
    from dataclasses import replace

    from tubelet.models.registry import create_model
    from tubelet.pipeline import Extractor, Options

    made = Extractor(
        create_model(model, weights=None),
        device="cpu",
        options=Options(precision=precision),
        **options,
    )
    if stride is None:
        return made
    window = replace(made.window, stride=stride)
    return Extractor(
        create_model(model, weights=None), device="cpu", options=Options(precision=precision),
        window=window, **options,
    )  # fmt: skip


def run_all(path: str, made: Any) -> int:
    """A run without a disk: rows of one video, decoding beside the model. The number of rows."""
    from tubelet.batches import Batches
    from tubelet.overlap import prefetch
    from tubelet.pipeline import record_video
    from tubelet.recording import Source

    batches = Batches([made])
    recordings = record_video(Source(path), batches, ahead=prefetch)
    batches.flush()
    return len(recordings[0])


def rows_of(path: str, made: Any) -> list[Any]:
    """The windows of a video, prepared, without running the model."""
    from tubelet.decode.base import open_video
    from tubelet.lanes import each_row
    from tubelet.recording import Tally

    with open_video(path) as reader:
        return [row for _, row in each_row(reader, [made.lane], None, None, Tally())]


def only_decode(path: str, made: Any) -> None:
    from tubelet.decode.base import open_video
    from tubelet.lanes import each_row
    from tubelet.recording import Tally

    with open_video(path) as reader:
        for _ in each_row(reader, [made.lane], None, None, Tally()):
            pass


def part_overlap(folder: str) -> dict[str, Any]:
    path = video(folder, width=1280, height=720, frames=384)
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
    path = video(folder, width=640, height=360, frames=256)
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


def ours(paths: list[str], out: str, precision: str) -> None:
    """What `tubelet extract` does, with random weights."""
    import torch

    from tubelet.inputs import collect
    from tubelet.scale.job import Job
    from tubelet.scale.local import run

    class Silent:
        def expect(self, *args: Any) -> None: ...
        def advance(self, *args: Any) -> None: ...
        def note(self, text: str) -> None: ...
        def done(self, outcome: Any) -> None:
            assert outcome.kind == "extracted", outcome

    torch.manual_seed(0)
    made = extractor("slowfast_r50_8x8", precision=precision)
    assert run(Job(collect(paths), Path(out)), [made], Silent()) == 0


def whole(kind: str, paths: list[str]) -> dict[str, Any]:
    """A process of its own: wall clock, CPU seconds, peak memory, all from its start."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "child", kind, out, *paths]
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
        from tubelet.process import settle

        settle()
        shown["stages"] = stages(paths, kind.split()[1])
    else:
        from tubelet.process import settle

        settle()
        ours(paths, out, kind)
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = shown | {"peak_mb": used.ru_maxrss / 1024, "cpu_seconds": used.ru_utime + used.ru_stime}
    sys.stdout.write(json.dumps(facts) + "\n")


def part_loop(folder: str) -> dict[str, Any]:
    return against_loop([video(folder, width=1280, height=720, frames=360)], rounds=3)


def part_folder(folder: str) -> dict[str, Any]:
    mixed = [
        *sorted(map(str, REAL.glob("*.mp4"))),
        video(folder, width=640, height=360, frames=600),
        video(folder, width=1920, height=1080, frames=128),
    ]
    return against_loop(mixed, rounds=1)


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
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    from tubelet.process import settle

    settle()
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
