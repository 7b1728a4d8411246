"""Training experiments on videos whose class is only in the order of frames (`train/order.py`).

    python benchmarks/experiments/experiments.py            all of them, in order
    python benchmarks/experiments/experiments.py a d        some of them

    a  networks without kernels in time stay at chance, the others learn
    b  multigrid and its base schedule: accuracy, wall-clock, frames x pixels processed
    c  inflated from a network trained on single pictures, and random initialisation
    d  memory of activations by depth: reversible, the same network without, recomputed
    e  a non-local block put into a trained network: unchanged at first, better after fine-tuning
       (on videos whose labels relate two moments, `train/relation.py`)

Runs live in `runs/` (not committed); a stopped one goes on. Results, `results/<letter>.json` and
`.svg`, are committed together with the machine and the time they took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import table  # beside this file
import torch
from activations import memory_by_depth  # beside this file
from relation import ARMS, frames_seen, told_apart  # beside this file

from tubelet.decode.encode import encode
from tubelet.models import revmvit
from tubelet.models.blocks.mvit_schedule import staged
from tubelet.models.registry import create_model
from tubelet.models.weights.layouts.pyslowfast import pyslowfast_name
from tubelet.train.chart import lines_svg
from tubelet.train.config import (
    Data,
    LearningRate,
    Multigrid,
    Network,
    Optim,
    TrainConfig,
)
from tubelet.train.loop import Run
from tubelet.train.order import draw_look, pictures, write_order_set, write_videos
from tubelet.train.recipe_network import build
from tubelet.train.relation import write_relation_set
from tubelet.train.run_folder import train

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
TRAIN_SETS, TEST_SETS, FEW_SETS = 128, 24, 32
EPOCHS = 6
RATES = {"mvit_v2_small": 1e-3, "rev_mvit_small": 2e-3}
SEEDS = (0, 1, 2)
E_BASE_EPOCHS, E_EPOCHS, E_SEEDS = 5, 4, range(5)
# The clip spans the whole video, two turns in 32 frames: (frames, interval).
NETWORKS = {
    "c2d_nopool_small": (8, 4),
    "i3d_small": (8, 4),
    "slowfast_small": (16, 2),
    "x3d_small": (16, 2),
    "mvit_v2_small": (8, 4),
    "rev_mvit_small": (8, 4),
}


def data(listed: str = "list.csv") -> Data:
    """Encodes what is not there; 4 x 128 videos to learn from, 4 x 24 others to test on. few.csv:
    the first 4 x 32 of those to learn from."""
    rows = write_order_set(RUNS / "train", count=TRAIN_SETS, seed=1).read_text().splitlines()
    (RUNS / "train" / "few.csv").write_text("\n".join(rows[: 4 * FEW_SETS]) + "\n")
    write_order_set(RUNS / "test", count=TEST_SETS, seed=2)
    return Data(f"train/{listed}", val="test/list.csv")


def base(
    name: str, *, epochs: int | None = None, seed: int = 0, listed: str = "list.csv"
) -> TrainConfig:
    frames, interval = NETWORKS.get(name, (8, 4))
    epochs = epochs or EPOCHS
    rate = RATES.get(name, 3e-3)
    return TrainConfig(
        network=Network(name, frames=frames, interval=interval),
        data=data(listed),
        rate=LearningRate(rate, epochs, warmup_epochs=1, warmup_start=rate / 10),
        optim=Optim("adamw", decay=0.05),
        batch_size=8,
        jitter=(64, 68),
        evaluate_every=1,
        seed=seed,
    )


def run(config: TrainConfig, name: str) -> Run:
    def tell(record: dict) -> None:
        print(f"{name}  epoch {record['epoch'] + 1}  loss {record['loss']:.3f}", record.get("val"))

    return train(config, RUNS / name, folder=RUNS, on_epoch=tell)


def curve(run: Run, key: str) -> list[tuple[float, float]]:
    found = []
    for record in run.history:
        value = record["loss"] if key == "loss" else record.get("val", {}).get(key)
        if value is not None:
            found.append((record["epoch"] + 1, value))
    return found


def spent(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of training without the evaluations: wall-clock (of a machine that did other things
    too) and of all threads of the process; the share of the wall-clock that decoding took."""
    wall, cpu, decode = (sum(r[k] for r in records) for k in ("seconds", "cpu_s", "decode_wait_s"))
    return {
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "decode_share": round(decode / wall, 3),
    }


def mean_curve(runs: Sequence[Run], key: str) -> list[tuple[float, float]]:
    """The mean of several runs, epoch by epoch."""
    columns = zip(*(curve(run, key) for run in runs), strict=True)
    return [(column[0][0], round(fmean(p[1] for p in column), 4)) for column in columns]


def processor() -> str:
    """The machine's kind, as it calls itself."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = [line.partition(":")[2].strip() for line in lines.splitlines() if "model name" in line]
    return named[0] if named else platform.machine()


def write(letter: str, result: dict, svg: str | None = None) -> None:
    RESULTS.mkdir(exist_ok=True)
    about = {
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
        "torch": torch.__version__,
        "written": time.strftime("%Y-%m-%d"),
    }
    (RESULTS / f"{letter}.json").write_text(json.dumps({**about, **result}, indent=1) + "\n")
    if svg is not None:
        (RESULTS / f"{letter}.svg").write_text(svg)
    table.update()
    print(json.dumps(result, indent=1))


def experiment_a(names: list[str]) -> None:
    for name in names:
        run(base(name), f"a-{name}")
    report_a()


def report_a() -> None:
    """From the logs of all runs there are, finished or not; says how many epochs each has had."""
    accuracies, result = {}, {}
    for name in NETWORKS:
        log = RUNS / f"a-{name}" / "log.jsonl"
        if not log.exists():
            continue
        records = [json.loads(line) for line in log.read_text().splitlines()]
        tested = [(r["epoch"] + 1, r["val"]["top1"]) for r in records if "val" in r]
        accuracies[name] = tested
        result[name] = {
            "epochs": f"{len(records)} of {EPOCHS}",
            "top1": tested,
            "loss": [(r["epoch"] + 1, round(r["loss"], 4)) for r in records],
            **spent(records),
        }
    title = "Order of frames: top-1 (chance 0.25)"
    svg = lines_svg(accuracies, title=title, x="epoch", y="top-1")
    write("a", {"chance": 0.25, "test_videos": 4 * TEST_SETS, "networks": result}, svg)


def experiment_b() -> None:
    """I3D on clips of 16 x 64 x 64; the smallest of both cycles are 8 x 48 and 32 pixels."""
    rate = LearningRate(
        2e-3, 8, policy="steps", steps=(0, 4, 6), factors=(1, 0.3, 0.1),
        warmup_epochs=1, warmup_start=2e-4,
    )  # fmt: skip
    network = Network("i3d_small", frames=16, interval=2)
    plain = replace(base("i3d_small"), network=network, rate=rate)
    multigrid = Multigrid(long_factors=((0.5, 0.75), (0.5, 1.0), (1.0, 1.0)))
    curves: dict[str, list[tuple[float, float]]] = {}
    result: dict[str, Any] = {}
    for name, config in {"base": plain, "multigrid": replace(plain, multigrid=multigrid)}.items():
        done = run(config, f"b-{name}")
        history = done.history
        curves[name] = [
            (spent(history[: i + 1])["cpu_s"], record["val"]["top1"])
            for i, record in enumerate(history)
            if "val" in record
        ]
        result[name] = {
            "top1_by_cpu_s": curves[name],
            "last": curves[name][-1][1],
            "best": done.best,
            "epochs": len(history),
            "iterations": sum(len(record["losses"]) for record in history),
            **spent(history),
            "volume_saving": round(done.plan.volume_saving, 3),
            "bound_by": [record["bound_by"] for record in history],
        }
    one, other = result["base"], result["multigrid"]
    compute = [r["cpu_s"] * (1 - r["decode_share"]) for r in (one, other)]
    result["base_over_multigrid"] = {
        "clip_volumes": other["volume_saving"],
        "wall_s": round(one["wall_s"] / other["wall_s"], 2),
        "cpu_s": round(one["cpu_s"] / other["cpu_s"], 2),
        "cpu_s_without_decoding": round(compute[0] / compute[1], 2),
    }
    title = "Multigrid, I3D: top-1 by seconds of CPU"
    write("b", result, lines_svg(curves, title=title, x="seconds of CPU in training", y="top-1"))


def stills() -> Data:
    """What a picture can tell: eight directions of the sector and two tints are 16 classes."""
    folder, rows = RUNS / "stills", []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(32):
        for eighth in range(8):
            generator = np.random.default_rng([3, index, eighth])
            first = (eighth + generator.uniform(-0.4, 0.4)) * math.pi / 4
            for tint, made in enumerate(pictures(generator, frames=2, size=64, first=first)):
                path = folder / f"{index:03d}-{eighth}-{tint}.mp4"
                if not path.exists():
                    encode([made] * 2, path)
                rows.append(f"{path.name} {eighth * 2 + tint}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return Data("stills/list.csv")


def arcs() -> Data:
    """Half turns: around which of four directions (pictures tell), and which way (order tells)."""
    for name, count, seed in (("train", 16, 6), ("test", 12, 7)):
        made = []
        for index, quarter in itertools.product(range(count), range(4)):
            generator = np.random.default_rng([seed, index, quarter])
            look, tint = draw_look(generator, 64), int(generator.integers(2))
            middle = (quarter + generator.uniform(-0.3, 0.3)) * math.pi / 2
            shown = [look.picture(tint, middle + a) for a in np.linspace(-1, 1, 32) * math.pi / 2]
            for way, order in (("clockwise", shown), ("counter", shown[::-1])):
                made.append((f"{quarter}-{way}-{index:03d}", (f"{quarter}-{way}",), order))
        write_videos(RUNS / f"arcs-{name}", made)
    return Data("arcs-train/list.csv", val="arcs-test/list.csv")


def inflated_and_random(task: str, listed: Data) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inflate in {"random": None, "inflated": "pictures.pth"}.items():
        runs: list[Run] = []
        for seed in SEEDS:
            config = replace(base("i3d_small", epochs=8, seed=seed), data=listed)
            config = replace(config, network=replace(config.network, inflate=inflate))
            runs.append(run(config, f"c-{task}{name}-{seed}"))
        found[name] = {
            "top1": mean_curve(runs, "top1"),
            "top1_of_each_seed": [curve(one, "top1") for one in runs],
            "loss": mean_curve(runs, "loss"),
        }
    return found


def experiment_c() -> None:
    """A 2-D network learns still pictures; I3D starts from its weights or from random ones."""
    still = replace(
        base("c2d_nopool_small"),
        network=Network("c2d_nopool_small", frames=1, interval=1),
        data=stills(),
    )
    first = run(still, "c-pictures")
    weights = {
        pyslowfast_name(key): value
        for key, value in first.model.state_dict().items()
        if "split_" not in key
    }
    torch.save(weights, RUNS / "pictures.pth")
    result: dict[str, Any] = {"loss_of_pictures": curve(first, "loss")[-1][1]}
    result |= inflated_and_random("", data("few.csv"))
    result["place_and_order"] = inflated_and_random("arcs-", arcs())
    ending = f"inflated and random weights, mean of {len(SEEDS)} seeds"
    for suffix, found, what in (
        ("", result, f"order, {4 * FEW_SETS} videos"),
        ("_arcs", result["place_and_order"], "place and order, 128 videos"),
    ):
        curves = {name: found[name]["top1"] for name in ("random", "inflated")}
        svg = lines_svg(curves, title=f"I3D, {what}: {ending}", x="epoch", y="top-1")
        (RESULTS / f"c{suffix}.svg").write_text(svg)
    write("c", result)


def experiment_d() -> None:
    """Rev-ViT-S on an image; Rev-MViT-B on a small clip, with more blocks in its third stage."""
    image = revmvit.VARIANTS["rev_vit_s"]
    images = {d: replace(image, trunk=replace(image.trunk, depth=d)) for d in (3, 6, 12, 24)}
    video = revmvit.resized(revmvit.VARIANTS["rev_mvit_b_16x4"], frames=8, crop=128)
    videos: dict[int, revmvit.Config] = {}
    for third in (2, 5, 11, 23):
        trunk = staged((1, 2, third, 2), kv=(1, 8, 8))
        trunk = replace(trunk, position="separate", qkv_bias=False)
        videos[third + 5] = replace(video, trunk=trunk, transitions=(1, 3, 3 + third))
    result: dict[str, Any] = {}
    for name, configs, title in (
        ("rev_vit_s", images, "Activations kept for the gradient, Rev-ViT-S, one image"),
        ("rev_mvit_b", videos, "Activations kept for the gradient, Rev-MViT-B, 8 x 128 x 128"),
    ):
        result[name] = memory_by_depth(configs)
        svg = lines_svg(result[name], title=title, x="blocks", y="MiB")
        (RESULTS / f"d_{name}.svg").write_text(svg)
    write("d", {"MiB_by_depth": result})


def relation_base(seed: int, *, epochs: int) -> TrainConfig:
    """Slow, whose kernels in time see 5 of 16 frames; 4 of the 16 are the pause."""
    write_relation_set(RUNS / "relation-train", count=TRAIN_SETS, seed=4)
    write_relation_set(RUNS / "relation-test", count=TEST_SETS, seed=5)
    listed = Data("relation-train/list.csv", val="relation-test/list.csv", multi_label=True)
    config = base("slow_small", epochs=epochs, seed=seed)
    return replace(config, network=replace(config.network, frames=16, interval=2), data=listed)


def fine_tuned(seed: int) -> dict[str, Any]:
    """One base, and the same fine-tuning of it with every arm."""
    test = RUNS / "relation-test" / "list.csv"
    start = run(relation_base(seed, epochs=E_BASE_EPOCHS), f"e-base-{seed}")
    weights = f"e-base-{seed}/last.safetensors"
    config = relation_base(10 + seed, epochs=E_EPOCHS)
    rate = replace(config.rate, base=1e-3, warmup_start=1e-4)
    clip = torch.randn(2, 3, 16, 64, 64)
    before = create_model(str(RUNS / weights))
    found: dict[str, Any] = {
        "base": {"map": curve(start, "map"), **told_apart(RUNS / weights, test)},
        "largest_change_of_a_logit": {},
    }
    for name, blocks in ARMS.items():
        network = replace(config.network, weights=str(RUNS / weights), nonlocals=blocks)
        fresh = build(network, num_classes=6, multi_label=True).eval()
        with torch.no_grad():
            change = (fresh(clip) - before(clip)).abs().max().item()
        found["largest_change_of_a_logit"][name] = change
        network = replace(network, weights=weights)
        label = f"e-{name.replace(' ', '-')}-{seed}"
        done = run(replace(config, network=network, rate=rate), label)
        last = RUNS / label / "last.safetensors"
        found[name] = {
            "map": [(0, curve(start, "map")[-1][1]), *curve(done, "map")],
            **told_apart(last, test),
            "frames_seen": frames_seen(create_model(str(last))),
            "cpu_s": spent(done.history)["cpu_s"],
        }
    return found


def experiment_e() -> None:
    """Two turns with a pause between: do they go the same way? The base sees one at a time."""
    seeds = {str(seed): fine_tuned(seed) for seed in E_SEEDS}
    curves = {
        name: [
            (points[0][0], round(fmean(point[1] for point in points), 4))
            for points in zip(*(one[name]["map"] for one in seeds.values()), strict=True)
        ]
        for name in ARMS
    }
    title = f"Slow, fine-tuned: mAP of 6 labels, mean of {len(seeds)} seeds"
    svg = lines_svg(curves, title=title, x="epoch of fine-tuning", y="mAP")
    write("e", {"test_videos": 4 * TEST_SETS, "map": curves, "seeds": seeds}, svg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("letters", nargs="*", default=list("dacbe"))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="Only write a.json from the logs.")
    choices = parser.parse_args()
    torch.set_num_threads(choices.threads)
    if choices.report:
        report_a()
        return
    for letter in choices.letters:
        if letter == "a":
            experiment_a(choices.networks)
        else:
            globals()[f"experiment_{letter}"]()


if __name__ == "__main__":
    main()
