"""What a clip costs on the CPU: every released network at its clip, batch 1, float32.

    python benchmarks/cost.py [--rounds 3] [--threads 1] [--most 5000] [--arch PATTERN]

What is timed is what extraction runs: the network rebuilt for inference (`models.fast`), its
second call. The networks are visited in turn, `--rounds` times; on the way the reference network
is measured again and again, and a visit counts relative to the reference runs before and behind
it: other work on the machine then weighs on both. Seconds are CPU seconds of the process
(wall-clock ones are kept beside them). Weights are random: they do not change the cost.
Checkpoints of one network whose multiply-adds at one size of clip differ by less than 1.5 % share
one measurement. `--most` leaves out networks of more multiply-adds (in 1e9); those are counted
only.

Results are kept in benchmarks/cost.json after each visit: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from tubelet.bench.cost import operations
from tubelet.models import zoo
from tubelet.models.fast import accelerate
from tubelet.models.registry import config_of

TARGET = Path(__file__).with_name("cost.json")
REFERENCE = "slow_r50_8x8"
EVERY = 6  # networks between two runs of the reference
ALIKE = 0.015
FREE = {"head": None, "num_classes": 0, "activation": "none", "slow_frames": "linspace"}
"""Fields of a configuration that hardly change the cost of a feature, and one value for each."""


@dataclass
class Network:
    """One network at one size of clip, and the ids that are it."""

    arch: str
    config: Any
    build: Any
    ids: list[str]
    gmac: float = 0.0

    def clip(self) -> Tensor:
        clip = self.config.clip
        return torch.randn(1, clip.channels, clip.frames, clip.crop, clip.crop)


def stripped(config: Any) -> Any:
    """The configuration without what does not change the cost."""
    known = {name: value for name, value in FREE.items() if hasattr(config, name)}
    clip = replace(
        config.clip, interval=1, short_side=config.clip.crop, mean=(), std=(), sampling="dense"
    )
    return replace(config, clip=clip, **known)


def networks() -> list[Network]:
    """Every network that has released weights, with its ids."""
    found: dict[str, Network] = {}
    for entry in zoo.table().entries.values():
        if entry.source["kind"] == "streams":
            continue  # the sum of two others
        family, config = config_of(entry.arch, entry)
        config = stripped(config)
        assert is_dataclass(config)
        key = f"{family.__name__} {json.dumps(asdict(config), sort_keys=True)}"  # type: ignore[arg-type]
        found.setdefault(key, Network(entry.arch, config, family.build, [])).ids.append(entry.id)
    return merged(found.values())


def merged(networks: Iterable[Network]) -> list[Network]:
    """Counted; those that cost the same become one."""
    kept: list[Network] = []
    for network in networks:
        network.gmac = multiply_adds(network)
        for like in kept:
            same = like.arch == network.arch and like.clip().shape == network.clip().shape
            if same and abs(like.gmac - network.gmac) <= ALIKE * like.gmac:
                like.ids += network.ids
                break
        else:
            kept.append(network)
    return kept


def multiply_adds(network: Network) -> float:
    """Of convolutions, linear layers and matrix products for one clip, in 1e9."""
    shape = tuple(network.clip().shape)
    return operations(lambda: network.build(network.config), shape) / 2e9


def seconds(network: Network) -> tuple[float, float]:
    """(CPU, wall-clock) seconds of one `features` call."""
    torch.manual_seed(0)
    model: Any = accelerate(network.build(network.config).eval())
    clip = network.clip()
    assert isinstance(model, nn.Module)
    with torch.inference_mode():
        model.features(clip)
        cpu, wall = time.process_time(), time.perf_counter()
        model.features(clip)
        return time.process_time() - cpu, time.perf_counter() - wall


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, shared with other work"


def commit() -> str:
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return run.stdout.strip()


def load(threads: int) -> dict[str, Any]:
    if TARGET.exists():
        return json.loads(TARGET.read_text("utf-8"))
    return {
        "machine": machine(),
        "torch": torch.__version__,
        "threads": threads,
        "date": date.today().isoformat(),
        "commit": commit(),
        "commands": [],
        "reference": REFERENCE,
        "networks": {},
    }


def save(data: dict[str, Any]) -> None:
    for row in data["networks"].values():
        ratios = [visit["cpu_s"] / visit["reference_cpu_s"] for visit in row["visits"]]
        row["ratio"] = round(median(ratios), 3) if ratios else None
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=float, default=5000.0, metavar="GMAC")
    parser.add_argument("--arch", default="*", help="only these, as in mvit*")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load(args.threads)
    command = " ".join(["python", "benchmarks/cost.py", *sys.argv[1:]])
    data["commands"] = list(dict.fromkeys([*data["commands"], command]))
    found = networks()
    rows = data["networks"]
    for network in found:
        row = rows.setdefault(network.ids[0], {"visits": []})
        clip = network.config.clip
        row |= {"arch": network.arch, "frames": clip.frames, "crop": clip.crop}
        row |= {"gmac": round(network.gmac, 2), "ids": network.ids}
    save(data)
    reference = next(n for n in found if n.arch == REFERENCE and n.config.clip.frames == 8)
    for visit in range(args.rounds):
        todo = [
            n for n in found
            if n.gmac <= args.most and fnmatch(n.arch, args.arch)
            and len(rows[n.ids[0]]["visits"]) <= visit
        ]  # fmt: skip
        before = seconds(reference)[0] if todo else 0.0
        for start in range(0, len(todo), EVERY):
            pairs = [(n, seconds(n)) for n in todo[start : start + EVERY]]
            behind = seconds(reference)[0]
            for network, (cpu, wall) in pairs:
                times = {"cpu_s": cpu, "wall_s": wall, "reference_cpu_s": (before + behind) / 2}
                row = rows[network.ids[0]]
                row["visits"].append({name: round(s, 4) for name, s in times.items()})
                print(f"{visit + 1} {network.ids[0]:60} {network.gmac:9.2f} {cpu:8.2f} s")
            before = behind
            save(data)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
