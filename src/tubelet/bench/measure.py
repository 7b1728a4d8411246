"""`tubelet bench`: the machine's ceilings, a video's stages, and networks, in turns.

Every network is timed beside the matrix products of its precision, each in a process of its own,
and its share of the ceiling is the median of the shares within rounds. Weights are random, because
they do not change the cost: nothing is fetched.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tubelet.bench import machine
from tubelet.bench.ceilings import copy, copy_gb_s, product, product_gflops
from tubelet.bench.rounds import Call, Spread, Timed, cores, interleaved
from tubelet.clips.transform import prepare_frame, view_config
from tubelet.decode.base import open_video
from tubelet.errors import UsageError
from tubelet.models import zoo
from tubelet.types import ClipSpec, Image

PRODUCTS = 4
"""Matrix products per repetition: about as long as a forward pass."""


@dataclass(frozen=True)
class Ask:
    """What to measure. video: None for one made on the spot. threads: of each process."""

    models: Sequence[str]
    precisions: Sequence[str] = ("fp32", "bf16")
    batches: Sequence[int] = (1, 4)
    rounds: int = 5
    threads: int | None = None
    video: str | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", *(("threads",) if self.threads is not None else ())):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"batches {list(self.batches)}: each must be at least 1")
        if self.video is not None and Path(self.video).is_dir():
            raise UsageError(f"{self.video} is a folder; name one video file whose stages to time")


def measure(ask: Ask, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything as plain data; `say` hears what is measured now. UsageError for unknown names."""
    clips = {model: clip_of(model) for model in ask.models}
    threads = ask.threads or cores()
    say("decoding and preparing")  # first: a file that is no video is told at once
    video = video_stages(ask.video, ask.rounds)
    say("the machine")
    products = {
        (precision, packed): Timed(product, precision, packed, keeps_memory=True, threads=threads)
        for precision in ask.precisions
        for packed in (False, True)
    }
    try:
        result: dict[str, Any] = {
            "machine": machine.facts(),
            "threads": threads,
            "rounds": ask.rounds,
            "ceilings": ceilings(products, ask, threads),
            "video": video,
            "models": {},
        }
        for model, clip in clips.items():
            say(model)
            result["models"][model] = of_model(model, clip, ask, threads, products)
    finally:
        for subject in products.values():
            subject.close()
    result["recommended"] = [recommend(m, v, result) for m, v in result["models"].items()]
    return result


def clip_of(model: str) -> ClipSpec:
    """The clip of a network. UnknownName for none."""
    entry = zoo.find(model)
    if entry is not None:
        return entry.clip
    from tubelet.models.registry import create_model

    return create_model(model, weights=None).clip


def ceilings(
    products: dict[tuple[str, bool], Timed], ask: Ask, threads: int
) -> dict[str, list[float]]:
    """Matrix products in GFLOP/s and copies in GB/s: [median, lower, upper quartile]."""
    copier = Timed(copy, keeps_memory=True, threads=threads)
    runs = {f"{p} {k}": (lambda s=s: s.run(PRODUCTS)) for (p, k), s in products.items()}
    seconds = interleaved({**runs, "copy": lambda: copier.run(1)}, rounds=ask.rounds)
    copier.close()
    found = {f"{p}_gflops": Spread.of(best_product(seconds, p)).plain() for p in ask.precisions}
    return {**found, "copy_gb_s": Spread.of([copy_gb_s(s) for s in seconds["copy"]]).plain()}


def best_product(seconds: dict[str, list[float]], precision: str) -> list[float]:
    """GFLOP/s per round: of the plain product or the packed one, whichever is faster."""
    pairs = zip(seconds[f"{precision} False"], seconds[f"{precision} True"], strict=True)
    return [product_gflops(min(pair), PRODUCTS) for pair in pairs]


def network(model: str, precision: str) -> Call:
    """In the child: what `extract` runs of a model."""
    import torch

    from tubelet.models.device import arithmetic, resolve_runtime
    from tubelet.models.registry import create_model

    torch.manual_seed(0)
    readable = create_model(model, weights=None)
    clip = readable.clip
    shape = (clip.channels, clip.frames, clip.crop, clip.crop)
    run, runtime = resolve_runtime(readable, "fast", device="cpu", precision=precision)
    del readable
    clips: dict[int, torch.Tensor] = {}

    def call(size: int) -> None:
        if size not in clips:
            clips[size] = torch.randn(size, *shape)
        with torch.inference_mode(), arithmetic("cpu", precision, runtime):
            run.features(clips[size])

    return call


def of_model(
    model: str,
    clip: ClipSpec,
    ask: Ask,
    threads: int,
    products: dict[tuple[str, bool], Timed],
) -> dict[str, Any]:
    """One network in every precision and batch size, beside the products."""
    from tubelet.bench.cost import operations
    from tubelet.models.registry import create_model

    shape = (1, clip.channels, clip.frames, clip.crop, clip.crop)
    gflop = operations(lambda: create_model(model, weights=None), shape) / 1e9
    subjects = {
        p: Timed(network, model, p, keeps_memory=True, threads=threads) for p in ask.precisions
    }
    try:
        peaks = {}
        for precision, subject in subjects.items():
            for size in sorted(ask.batches):  # peaks only grow: the small batch first
                subject.run(size)
                peaks[precision, size] = subject.peak_mb
        runs = {
            f"{p} batch {b}": (lambda s=s, b=b: s.run(b) / b)
            for p, s in subjects.items()
            for b in ask.batches
        }
        runs |= {f"{p} {k}": (lambda s=s: s.run(PRODUCTS)) for (p, k), s in products.items()}
        seconds = interleaved(runs, rounds=ask.rounds, warmups=1)
    finally:
        for subject in subjects.values():
            subject.close()
    found: dict[str, Any] = {"gflop": round(gflop, 2), "precisions": {}}
    for precision in ask.precisions:
        best = best_product(seconds, precision)
        batches = {}
        for size in ask.batches:
            times = seconds[f"{precision} batch {size}"]
            shares = [gflop / t / c for t, c in zip(times, best, strict=True)]
            batches[str(size)] = {
                "seconds_per_clip": Spread.of(times).plain(),
                "clips_per_s": round(1 / Spread.of(times).median, 3),
                "gflops": round(gflop / Spread.of(times).median, 1),
                "share_of_ceiling": Spread.of(shares).plain(3),
                "peak_mb": round(peaks[precision, size]),
            }
        found["precisions"][precision] = {"batches": batches}
    return found


def made_video(folder: Path) -> str:
    """Moving pictures, 1280 x 720, H.264, 3 seconds."""
    from tubelet.decode.encode import Encoding, encode

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (50, 100, 3), np.uint8).repeat(16, 0).repeat(16, 1)

    def pictures() -> Any:
        for k in range(90):
            picture: Image = coarse[k % 80 : k % 80 + 720, 2 * k : 2 * k + 1280]
            yield picture

    return str(encode(pictures(), folder / "made.mp4", encoding=Encoding(fps=Fraction(30))))


def video_stages(path: str | None, rounds: int) -> dict[str, Any]:
    """CPU seconds per frame of decoding, and of preparing each frame for a 256 crop."""
    with tempfile.TemporaryDirectory() as folder:
        source = path or made_video(Path(folder))
        view = view_config(ClipSpec(1, 1, 256, 256))
        with open_video(source) as reader:
            size, fps = (reader.info.width, reader.info.height), float(reader.info.fps)

        def cpu(prepared: bool) -> float:
            count, start = 0, time.process_time()
            with open_video(source) as reader:
                for frame in reader.frames():
                    count += 1
                    if prepared:
                        prepare_frame(frame, view)
            return (time.process_time() - start) / count

        seconds = interleaved(
            {"decode": lambda: cpu(False), "prepare": lambda: cpu(True)}, rounds=rounds, warmups=1
        )
    both = zip(seconds["prepare"], seconds["decode"], strict=True)
    return {
        "source": path or "made on the spot",
        "size": list(size),
        "fps": round(fps, 3),
        "decode_frames_per_s": round(1 / Spread.of(seconds["decode"]).median, 1),
        "decode_ms": [round(s * 1e3, 3) for s in Spread.of(seconds["decode"]).plain()],
        "prepare_ms": [round(s * 1e3, 3) for s in Spread.of([b - a for b, a in both]).plain()],
    }


def recommend(model: str, found: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """What to run, and how long a minute of such a video then takes.

    A larger batch or a lower precision must be worth 10 %: the first costs memory and the last
    bits' independence of their neighbours, the second accuracy.
    """
    clip, video = clip_of(model), result["video"]
    frames = 60 * video["fps"]
    rows = frames / (clip.frames * clip.interval)
    wanted = frames / clip.interval
    decoding = (frames * video["decode_ms"][0] + wanted * video["prepare_ms"][0]) / 1e3

    def minute(precision: str, size: str) -> float:
        batches = found["precisions"][precision]["batches"]
        running = rows * batches[size]["seconds_per_clip"][0]
        # Both stages run at once and share the cores.
        return max(decoding, running + decoding / result["machine"]["cores"])

    choice, best = ("", ""), float("inf")
    for precision, kinds in found["precisions"].items():
        for size in kinds["batches"]:
            if minute(precision, size) < 0.9 * best:
                choice, best = (precision, size), minute(precision, size)
    options = ["-m", model]
    options += ["--precision", choice[0]] if choice[0] != "fp32" else []
    options += ["--batch-size", choice[1]] if choice[1] != "1" else []
    at = found["precisions"][choice[0]]["batches"][choice[1]]
    return {
        "model": model,
        "options": " ".join(options),
        "seconds_per_minute_of_video": round(best, 2),
        "decoding_cpu_s": round(decoding, 2),
        "network_s": round(rows * at["seconds_per_clip"][0], 2),
        "peak_mb": at["peak_mb"],
    }
