"""1 to 1000 workers on paper: which of decode, model, store or driver is the limit.

    python benchmarks/scale/simulate.py       measured.json -> simulated.md, simulated.svg

Assumptions, all of them: video lengths are log-normal (mean 5 minutes, sigma 1); a worker decodes
and runs its network at the same time on cores of its own, so a video takes it the longer of both;
stage times are those of `measure.py`, on one core, whatever the number of workers (no shared caches
or memory bandwidth); the shared disk gives READ_BYTES_S in all and takes WRITES_S videos a second,
first come first served; the driver hands out one unit after another, DRIVER_S each; longest
first, videos of two parts or more are cut as `--part-seconds 300` cuts them; nothing dies. "GPU" is
not measured: it is a network GPU_FACTOR times as fast as this core, to see what becomes the limit.
"""

import heapq
import json
import math
import random
import statistics
from pathlib import Path

HERE = Path(__file__).parent
WORKERS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
HOURS, MEAN_S, PART_S, FPS = 1000, 300.0, 300.0, 25
READ_BYTES_S, WRITES_S, DRIVER_S, BIT_RATE = 2e9, 500.0, 0.003, 1e6
GPU_FACTOR = 100


def lengths(seed=0):
    """Seconds of each video, together HOURS."""
    chance, left, found = random.Random(seed), HOURS * 3600.0, []
    while left > 0:
        found.append(min(left, chance.lognormvariate(math.log(MEAN_S) - 0.5, 1.0)))
        left -= found[-1]
    return found


def units(seconds):
    """Lengths of what is handed out, longest first."""
    cut = []
    for length in seconds:
        parts = max(1, math.floor(length / PART_S))
        cut += [length / parts] * parts
    return sorted(cut, reverse=True)


def simulate(workers, decode, model, seconds):
    """decode, model: seconds per second of video. (makespan, {stage: share of it busy})."""
    free = [0.0] * workers
    disk = store = driver = 0.0
    busy = dict.fromkeys(("driver", "read", "decode", "model", "write"), 0.0)
    for length in units(seconds):
        begin = max(heapq.heappop(free), driver)
        driver = begin + DRIVER_S if begin == driver else driver + DRIVER_S
        reading = length * BIT_RATE / 8 / READ_BYTES_S
        disk = max(disk, begin) + reading
        worked = max(disk, begin + max(decode, model) * length)
        store = max(store, worked) + 1 / WRITES_S
        heapq.heappush(free, store)
        for name, spent in (
            ("driver", DRIVER_S), ("read", reading), ("write", 1 / WRITES_S),
            ("decode", decode * length / workers), ("model", model * length / workers),
        ):  # fmt: skip
            busy[name] += spent
    end = max(free)
    return end, {name: spent / end for name, spent in busy.items()}


def picture(curves):
    """Speed-up against workers, both logarithmic."""
    x = lambda n: 60 + 460 * math.log10(n) / 3  # noqa: E731
    y = lambda s: 330 - 300 * math.log10(max(s, 1)) / 3  # noqa: E731
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="560" height="380" font-family="sans-serif" '
           'font-size="12"><rect width="560" height="380" fill="white"/>']  # fmt: skip
    for n in (1, 10, 100, 1000):
        out.append(f'<text x="{x(n)}" y="350" text-anchor="middle">{n}</text>'
                   f'<text x="52" y="{y(n) + 4}" text-anchor="end">{n}</text>'
                   f'<path d="M{x(n)} 30V330M60 {y(n)}H520" stroke="#ddd"/>')  # fmt: skip
    out.append(f'<path d="M{x(1)} {y(1)}L{x(1000)} {y(1000)}" stroke="#999" stroke-dasharray="4"/>')
    for (name, points), colour in zip(curves.items(), ("#1b6ca8", "#c0392b"), strict=True):
        line = " ".join(f"{x(n):.1f},{y(s):.1f}" for n, s in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        n, s = points[-1]
        out.append(
            f'<text x="{x(n)}" y="{y(s) + 16}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    out.append('<text x="290" y="372" text-anchor="middle">workers</text>'
               '<text x="62" y="20">speed-up over one worker (dashed: perfect)</text></svg>')  # fmt: skip
    return "\n".join(out) + "\n"


def main():
    measured = json.loads((HERE / "measured.json").read_text())
    stage, seconds = measured["stages"], lengths()
    decode = stage["decode_s_per_frame"] * FPS
    model = stage["row_s"] * stage["rows_per_hour"] / 3600
    kinds = {"CPU core": model, f"network {GPU_FACTOR} x faster": model / GPU_FACTOR}
    each, times = measured["per_video_s"], measured["times_local"]
    once = {
        k: statistics.median(
            a - v["median"] * measured["videos"] / 2 for a in measured["half_s"][k]
        )
        for k, v in each.items()
    }
    spread = lambda found: ", ".join(f"{t:.2f}" for t in sorted(found))  # noqa: E731
    lines = [
        "# Scale", "",
        f"`python benchmarks/scale/measure.py && python benchmarks/scale/simulate.py`, "
        f"{measured['date']}, {measured['machine']}; load {measured['load_before']} before.", "",
        "## Measured", "",
        f"{measured['videos']} videos of {measured['seconds_each']:g} s, 640x360 H.264, X3D-M, float32, one thread a worker; "
        f"{len(each['local']['all'])} repeats that take turns, each with half of the videos and with all of them. Per video: the "
        "difference. Once: what is left of a run.", "",
        "| run | s per video (all repeats) | against local | once, s |",
        "|---|---|--:|--:|",
        *(
            f"| {k} | {v['median']:.2f} ({spread(v['all'])}) | {times[k]:.2f} | {once[k]:.1f} |"
            for k, v in each.items()
        ), "",
        f"One worker of Ray against the local engine: {times['ray, 1 worker'] - 1:+.1%} per video (target: 5 % at most). "
        f"From one worker to two: {each['ray, 1 worker']['median'] / each['ray, 2 workers']['median']:.2f}x on two cores, which a worker's "
        "decoder and network share with the other's.", "",
        f"Stages on one core: decode {1 / stage['decode_s_per_frame']:.0f} frames/s, network "
        f"{stage['row_s'] * 1e3:.0f} ms a row ({stage['rows_per_hour']:.0f} rows an hour of video), "
        f"store {stage['store_s_per_video'] * 1e3:.1f} ms a video.", "",
        "## Cost of 1000 hours", "",
        "core hours = 1000 x (decode s/frame x fps + s/row x rows/hour / 3600):", "",
        f"1000 x ({stage['decode_s_per_frame']:.5f} x {FPS} + {stage['row_s']:.4f} x "
        f"{stage['rows_per_hour']:.0f} / 3600) = {1000 * (decode + model):.0f} core hours; "
        "times the price of a core hour.", "",
        "## Simulated: 1000 hours of video", "",
    ]  # fmt: skip
    curves = {}
    for name, cost in kinds.items():
        lines += [f"### {name}", "", "| workers | hours | speed-up | busy: decode | model | read | write | driver |",
                  "|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
        one, points = simulate(1, decode, cost, seconds)[0], []
        for n in WORKERS:
            end, busy = simulate(n, decode, cost, seconds)
            points.append((n, one / end))
            shares = " | ".join(
                f"{busy[k]:.0%}" for k in ("decode", "model", "read", "write", "driver")
            )
            lines.append(f"| {n} | {end / 3600:.2f} | {one / end:.1f} | {shares} |")
        curves[name] = points
        lines.append("")
    lines += ["![Speed-up](simulated.svg)", "", *(__doc__.split("\n\n")[2].splitlines())]
    (HERE / "simulated.md").write_text("\n".join(lines).rstrip() + "\n")
    (HERE / "simulated.svg").write_text(picture(curves))


if __name__ == "__main__":
    main()
