"""Pairs of frames per second: tubelet's flow against bare OpenCV calls, and from a video file.

    python benchmarks/flow.py [--side 256] [--seconds 8] [--methods tvl1 dis farneback] [-o FILE.md]

Three rates per method, on the same grey pictures of 256 x 341 (a moving texture):

bare      the faster of two: OpenCV's own threads on one call after the other, or one call per
          thread with OpenCV's threads off. No truncation, nothing but the calls.
tubelet   FlowPool.pairs: RGB frames in, grey conversion, truncation, order kept.
video     decode, resize, grey, flow, truncation of a 1280 x 720 H.264 file.

They run in turn, several times, and what is compared is compared within one turn: the share is the
median over the turns, with the lowest and highest, of tubelet's rate by the better bare one. Rates
are medians. CPU is processor time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from tubelet.clips.modality import FlowSource, each_pair, select
from tubelet.clips.transform import ViewConfig
from tubelet.decode.base import open_video
from tubelet.decode.encode import encode
from tubelet.flow.base import FlowConfig, create_method, flow_config
from tubelet.flow.pool import FlowPool, available_processors

ROUNDS = 6
METHODS = ["tvl1", "dis", "dis:preset=fast", "farneback"]


def texture(height: int, width: int) -> np.ndarray:
    """Grey noise of several sizes, [H, W] uint8."""
    rng = np.random.default_rng(0)
    layers = [cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), s) * s for s in (2, 6)]
    total = np.sum(layers, axis=0)
    return np.clip(128 + 45 * total / total.std(), 0, 255).astype(np.uint8)


def moving_frames(count: int, *, height: int, width: int) -> list[np.ndarray]:
    """RGB frames of a texture that turns and drifts."""
    base = texture(2 * height, 2 * width)
    frames = []
    for i in range(count):
        turn = cv2.getRotationMatrix2D((width, height), 0.8 * i, 1 + 0.002 * i)
        turn[:, 2] += (-width / 2 + 1.5 * i, -height / 2 + i)
        view = cv2.warpAffine(base, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        frames.append(np.repeat(view[..., None], 3, axis=2))
    return frames


@dataclass
class Rate:
    """Of every run: pairs per second, and processor seconds per pair."""

    runs: list[float] = field(default_factory=list[float])
    cpu_runs: list[float] = field(default_factory=list[float])

    def run(self, work: Callable[[], int]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        pairs = work()
        self.runs.append(pairs / (time.perf_counter() - start))
        self.cpu_runs.append((time.process_time() - cpu) / pairs)

    @property
    def per_second(self) -> float:
        return median(self.runs)

    @property
    def cpu_s(self) -> float:
        return median(self.cpu_runs)


def bare_serial(config: FlowConfig, greys: list[np.ndarray]) -> int:
    """One call after the other; OpenCV's own threads."""
    compute = create_method(config)
    cv2.setNumThreads(available_processors())
    for a, b in itertools.pairwise(greys):
        compute(a, b)
    cv2.setNumThreads(1)
    return len(greys) - 1


def bare_parallel(config: FlowConfig, greys: list[np.ndarray], workers: int) -> int:
    """One thread per processor, each with its own object and share of the pairs."""
    pairs = list(itertools.pairwise(greys))

    def share(k: int) -> None:
        compute = create_method(config)
        for a, b in pairs[k::workers]:
            compute(a, b)

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(share, range(workers)))
    return len(pairs)


def ours(pool: FlowPool, frames: list[np.ndarray]) -> int:
    return sum(1 for _ in pool.pairs(frames))


def from_video(pool: FlowPool, path: str, view: ViewConfig) -> int:
    with open_video(path) as reader:
        source = FlowSource(pool, path=path)
        return sum(1 for _ in each_pair(select(reader.frames()), source, view=view))


def measure(method: str, *, side: int, seconds: float, folder: Path) -> dict[str, Rate]:
    """The rates of one method."""
    config, workers = flow_config(method), available_processors()
    width = side * 4 // 3
    sample = moving_frames(3, height=side, width=width)
    pool = FlowPool(config)
    list(pool.pairs(sample))
    first = Rate()
    first.run(lambda: ours(pool, sample))
    guess = first.per_second
    count = int(np.clip(guess * seconds, 4 * workers, 2000)) // workers * workers + 1
    loop = moving_frames(min(count, 60), height=side, width=width)
    there_and_back = itertools.cycle([*loop, *loop[-2:0:-1]])
    frames = [next(there_and_back) for _ in range(count)]
    greys = [np.ascontiguousarray(frame[..., 0]) for frame in frames]
    path = str(folder / "clip.mp4")
    large = moving_frames(min(count, 60), height=720, width=1280)
    encode(itertools.islice(itertools.cycle([*large, *large[-2:0:-1]]), min(count, 300)), path)
    view = ViewConfig(side, 1, (), ())
    works: dict[str, Callable[[], int]] = {
        "serial": lambda: bare_serial(config, greys),
        "parallel": lambda: bare_parallel(config, greys, workers),
        "tubelet": lambda: ours(pool, frames),
        "video": lambda: from_video(pool, path, view),
    }
    rates = {name: Rate() for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            rates[name].run(work)
    pool.close()
    return rates


def shares(rates: dict[str, Rate]) -> list[float]:
    """tubelet's rate by the better bare one, turn by turn."""
    turns = zip(*(rates[name].runs for name in ("tubelet", "serial", "parallel")), strict=True)
    return sorted(ours / max(one, other) for ours, one, other in turns)


def machine() -> str:
    name, facts = platform.machine(), Path("/proc/cpuinfo")
    for line in facts.read_text().splitlines() if facts.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {available_processors()} processors, OpenCV {cv2.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run, about")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    lines = [
        f"# Optical flow: pairs per second at {args.side} x {args.side * 4 // 3}",
        "",
        f"{machine()}. {datetime.date.today().isoformat()}, load {os.getloadavg()[0]:.1f} at the "
        f"start. `python benchmarks/flow.py {' '.join(sys.argv[1:])}`",
        "",
        "| method | bare, OpenCV's threads | bare, a call per thread | tubelet | of the better, "
        "median (range) | CPU per pair: bare, tubelet | from a 720p file |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for method in args.methods:
        with tempfile.TemporaryDirectory() as folder:
            best = measure(method, side=args.side, seconds=args.seconds, folder=Path(folder))
        share = shares(best)
        cpu = min(best["serial"].cpu_s, best["parallel"].cpu_s)
        lines.append(
            f"| {method} | {best['serial'].per_second:.2f} | {best['parallel'].per_second:.2f} "
            f"| {best['tubelet'].per_second:.2f} "
            f"| {median(share):.1%} ({share[0]:.0%} - {share[-1]:.0%}) "
            f"| {cpu * 1e3:.1f} ms, {best['tubelet'].cpu_s * 1e3:.1f} ms "
            f"| {best['video'].per_second:.2f} |"
        )
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
