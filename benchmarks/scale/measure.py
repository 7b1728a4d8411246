"""Stage times, the cost of the Ray engine and its speed-up, on this machine.

    python benchmarks/scale/measure.py        writes benchmarks/scale/measured.json

Videos: minutes of H.264 640x360, encoded here. Network: X3D-M with random weights (time does not
depend on them), one thread a process. Every run is made with half of the videos and with all of
them: what the others took is the time per video, without whatever a run costs once (starting
workers, loading the network). Runs take turns; medians with all repeats. Ray is started before the
clock: a cluster runs anyway.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
# ruff: noqa: E402

import numpy as np
import torch

from tests_support import Heard
from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import collect
from tubelet.models.registry import create_model
from tubelet.run.job import Job
from tubelet.run.run import run
from tubelet.store.folder import open_folder

FPS, SIZE = 25, (640, 360)


def movie(path, seconds, seed):
    """Smooth moving noise: compresses like video, not like a test card."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 20, 3), dtype=np.uint8)
    big = np.kron(small, np.ones((36, 36, 1), np.uint8))[: SIZE[1], : SIZE[0]]
    frames = (np.roll(big, (i, 2 * i), (0, 1)) for i in range(round(seconds * FPS)))
    encode(frames, path, encoding=Encoding("h264", gop=50))


def stages(extractor, path, folder):
    """Seconds per decoded frame, per row, per stored video, one process and thread."""
    start = time.perf_counter()
    with open_video(str(path)) as reader:
        frames = sum(1 for _ in reader.frames())
    decode = (time.perf_counter() - start) / frames
    start = time.perf_counter()
    features = extractor(str(path))
    row = (time.perf_counter() - start - decode * frames) / len(features.values)
    store = open_folder(folder, recipe={}, run={}, fmt="npy", overwrite=True)
    start = time.perf_counter()
    for k in range(20):
        store.write(f"v{k}", features)
    put = (time.perf_counter() - start) / 20
    return {"decode_s_per_frame": decode, "row_s": row, "store_s_per_video": put,
            "rows_per_hour": len(features.values) / frames * FPS * 3600}  # fmt: skip


def timed(items, out, extractor, engine, **job):
    start = time.perf_counter()
    failed = run(Job(items, out, **job), [extractor], Heard(), engine)
    assert failed == 0
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=8, help="An even number.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--machine", default=platform.machine(), help="What the report calls it.")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    import ray

    from tubelet.run.ray import Cluster, run_ray

    work = Path(tempfile.mkdtemp(prefix="tubelet-scale-"))
    (work / "in").mkdir()
    for k in range(asked.videos):
        movie(work / f"in/v{k}.mp4", asked.seconds, k)
    extractor = Extractor(create_model("x3d_m", weights=None), name="x3d_m", device="cpu")
    items = collect([str(work / "in")])
    facts = stages(extractor, work / "in/v0.mp4", work / "store")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
             object_store_memory=200 << 20)  # fmt: skip
    ways = {
        "local": (None, 1),
        "ray, 1 worker": (partial(run_ray, cluster=Cluster()), 1),
        "ray, 2 workers": (partial(run_ray, cluster=Cluster()), 2),
    }
    few = {name: [] for name in ways}
    every = {name: [] for name in ways}
    for repeat in range(asked.repeats):
        for name, (engine, workers) in ways.items():
            out = work / f"out-{repeat}-{workers}-{engine is None}"
            half = items[: len(items) // 2]
            few[name].append(timed(half, out, extractor, engine, workers=workers))
            more = out.with_name(out.name + "-all")
            every[name].append(timed(items, more, extractor, engine, workers=workers))
    each = {
        name: [
            (b - a) / (len(items) - len(half)) for a, b in zip(few[name], every[name], strict=True)
        ]
        for name in ways
    }
    ray.shutdown()
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{asked.machine}, {os.cpu_count()} cores",
        "load_before": round(load, 2),
        "python": platform.python_version(),
        "videos": asked.videos,
        "seconds_each": asked.seconds,
        "stages": facts,
        "half_s": few,
        "all_s": every,
        "per_video_s": {k: {"median": statistics.median(v), "all": v} for k, v in each.items()},
        "times_local": {
            k: statistics.median(a / b for a, b in zip(v, each["local"], strict=True))
            for k, v in each.items()
        },
    }
    (Path(__file__).parent / "measured.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
