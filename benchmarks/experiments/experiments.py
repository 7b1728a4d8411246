"""Training experiments on videos whose class is only in the order of frames (`train/order.py`).

    python benchmarks/experiments/experiments.py            all of them, in order
    python benchmarks/experiments/experiments.py a d        some of them

    a  networks without kernels in time stay at chance, the others learn
    b  multigrid and its base schedule: accuracy, wall-clock, frames x pixels processed
    c  inflated from a network trained on single pictures, and random initialisation
    d  memory of activations by depth: reversible, the same network without, recomputed
    e  a non-local block put into a trained network: unchanged at first, better after fine-tuning

Runs live in `runs/` (not committed); a stopped one goes on. Results, `results/<letter>.json` and
`.svg`, are committed together with the machine and the time they took.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch

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
from tubelet.train.networks import build
from tubelet.train.order import write_order_set
from tubelet.train.run import train

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
TRAIN_SETS, TEST_SETS = 64, 24
EPOCHS = 12
# A turn takes 16 frames: 8 frames at interval 4 step by 90 degrees, 16 at interval 2 by 45.
NETWORKS = {
    "c2d_nopool_small": 4,
    "i3d_small": 4,
    "slow_small": 4,
    "slowfast_small": 2,
    "x3d_small": 4,
    "mvit_v2_small": 4,
    "rev_mvit_small": 4,
}


def data() -> Data:
    """Encodes what is not there; 4 x 64 videos to learn from, 4 x 24 others to test on."""
    write_order_set(RUNS / "train", count=TRAIN_SETS, seed=1)
    write_order_set(RUNS / "test", count=TEST_SETS, seed=2)
    return Data("train/list.csv", val="test/list.csv")


def base(name: str, *, epochs: int = EPOCHS, seed: int = 0) -> TrainConfig:
    return TrainConfig(
        network=Network(name, interval=NETWORKS[name]),
        data=data(),
        rate=LearningRate(3e-3, epochs, warmup_epochs=1, warmup_start=3e-4),
        optim=Optim("adamw", decay=0.05),
        batch_size=16,
        jitter=(64, 68),
        evaluate_every=2,
        seed=seed,
    )


def run(config: TrainConfig, name: str) -> Run:
    def tell(record: dict) -> None:
        accuracy = record.get("val", {}).get("top1")
        print(f"{name}  epoch {record['epoch'] + 1}  loss {record['loss']:.3f}  top-1 {accuracy}")

    return train(config, RUNS / name, folder=RUNS, on_epoch=tell)


def curve(run: Run, key: str) -> list[tuple[float, float]]:
    found = []
    for record in run.history:
        value = record["loss"] if key == "loss" else record.get("val", {}).get(key)
        if value is not None:
            found.append((record["epoch"] + 1, value))
    return found


def seconds(run: Run) -> float:
    return round(sum(record["seconds"] for record in run.history), 1)


def write(letter: str, result: dict, svg: str | None = None) -> None:
    RESULTS.mkdir(exist_ok=True)
    about = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} torch threads",
        "torch": torch.__version__,
        "written": time.strftime("%Y-%m-%d"),
    }
    (RESULTS / f"{letter}.json").write_text(json.dumps({**about, **result}, indent=1) + "\n")
    if svg is not None:
        (RESULTS / f"{letter}.svg").write_text(svg)
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
            "train_seconds": round(sum(r["seconds"] for r in records), 1),
        }
    title = "Order of frames: top-1 (chance 0.25)"
    svg = lines_svg(accuracies, title=title, x="epoch", y="top-1")
    write("a", {"chance": 0.25, "test_videos": 4 * TEST_SETS, "networks": result}, svg)


def experiment_b() -> None:
    rate = LearningRate(
        0.1, 18, policy="steps", steps=(0, 9, 14), factors=(1, 0.1, 0.01),
        warmup_epochs=1, warmup_start=0.01,
    )  # fmt: skip
    plain = replace(base("slowfast_small"), rate=rate, optim=Optim("sgd"), batch_size=8)
    multigrid = Multigrid(epoch_factor=1.5, long_factors=((0.5, 0.75), (0.5, 1.0), (1.0, 1.0)))
    accuracies, result = {}, {}
    for name, config in {
        "base": plain,
        "multigrid": replace(plain, multigrid=multigrid, rate=replace(rate, base=0.05)),
    }.items():
        done = run(config, f"b-{name}")
        spent, points = 0.0, []
        for record in done.history:
            spent += record["seconds"]
            if "val" in record:
                points.append((round(spent, 1), record["val"]["top1"]))
        accuracies[name] = points
        result[name] = {
            "top1_by_seconds": points,
            "best": done.best,
            "train_seconds": seconds(done),
            "volume_saving": done.plan.volume_saving,
            "bound_by": [record["bound_by"] for record in done.history],
        }
    write("b", result, lines_svg(accuracies, title="Multigrid", x="seconds", y="top-1"))


def experiment_c() -> None:
    """The pictures' task: which turn a picture is from, and the order, cannot be seen; so the 2-D
    network learns the angle of the needle in eighths of a turn, from still videos."""
    import numpy as np

    from tubelet.encode import encode
    from tubelet.models.weights.pyslowfast import pyslowfast_name
    from tubelet.train.order import pictures

    folder, rows = RUNS / "stills", []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(96):
        made = pictures(np.random.default_rng([3, index]), frames=32, size=64)
        for place in range(0, 32, 4):
            path = folder / f"{index:03d}-{place:02d}.mp4"
            if not path.exists():
                encode([made[place]] * 2, path)
            rows.append(f"{path.name} {place // 16}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    still = replace(
        base("c2d_nopool_small"),
        network=Network("c2d_nopool_small", frames=1, interval=1),
        data=Data("stills/list.csv"),
    )
    first = run(still, "c-pictures")
    weights = {}
    for key, value in first.model.state_dict().items():
        if "split_" not in key:
            weights[pyslowfast_name(key)] = value
    torch.save(weights, RUNS / "pictures.pth")
    accuracies, result = {}, {}
    for name, inflate in {"random": None, "inflated": "pictures.pth"}.items():
        config = base("i3d_small")
        config = replace(config, network=replace(config.network, inflate=inflate))
        done = run(config, f"c-{name}")
        accuracies[name] = curve(done, "top1")
        result[name] = {"top1": accuracies[name], "loss": curve(done, "loss"), "best": done.best}
    write("c", result, lines_svg(accuracies, title="Inflation", x="epoch", y="top-1"))


def saved_bytes(model: torch.nn.Module, clip: torch.Tensor) -> int:
    """Bytes that autograd keeps for the gradient of one forward pass, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(clip).sum()
    total = sum(kept.values())
    del loss
    return total


def experiment_d() -> None:
    from tubelet.models import revmvit
    from tubelet.train.hooks import recompute_activations

    curves: dict[str, list[tuple[float, float]]] = {"plain": [], "recomputed": [], "reversible": []}
    for depth in (3, 6, 12, 24):
        for kind, points in curves.items():
            config = revmvit.VARIANTS["rev_vit_s"]
            config = replace(config, trunk=replace(config.trunk, depth=depth))
            model = revmvit.build(config).train()
            model.recompute = kind == "reversible"
            if kind == "recomputed":
                recompute_activations(model)
            clip = torch.randn(1, 3, 1, config.clip.crop, config.clip.crop)
            points.append((depth, round(saved_bytes(model, clip) / 2**20, 2)))
    title = "Activations kept for the gradient, Rev-ViT-S, one image"
    write("d", {"MiB_by_depth": curves}, lines_svg(curves, title=title, x="blocks", y="MiB"))


def experiment_e() -> None:
    trained = run(base("slow_small", epochs=6), "e-base")
    weights = str((RUNS / "e-base" / "last.safetensors").relative_to(RUNS))
    nonlocals = {"res3": (0,), "res4": (0,)}
    plain = Network("slow_small", interval=4, weights=weights)
    with_blocks = replace(plain, nonlocals=nonlocals)
    files = replace(plain, weights=str(RUNS / weights))
    models = [
        build(network, num_classes=4).eval()
        for network in (files, replace(files, nonlocals=nonlocals))
    ]
    clip = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        change = (models[0](clip) - models[1](clip)).abs().max().item()
    result: dict = {"largest_change_when_inserted": change, "base": trained.best}
    accuracies = {}
    for name, network in {"without": plain, "with": with_blocks}.items():
        config = replace(base("slow_small", epochs=6), network=network)
        config = replace(config, rate=replace(config.rate, base=1e-3))
        done = run(config, f"e-{name}")
        accuracies[name] = curve(done, "top1")
        result[name] = {"top1": accuracies[name], "loss": curve(done, "loss"), "best": done.best}
    title = "Fine-tuning with and without non-local blocks"
    write("e", result, lines_svg(accuracies, title=title, x="epoch", y="top-1"))


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
