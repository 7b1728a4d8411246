"""Every released configuration against the reference's numbers.

    python benchmarks/conformance.py [NAME ...] [--clips N] [--again]
        [--runtime fast]

For each configuration of the reference data: its settings become a PySlowFast YAML, its filled
weights a .pyth file, and `create_model(yaml, weights=file)` is compared with what the reference
computed: "pool", `predict`, "dense_logits", summaries of all stages, parameters, multiply-adds.
Then the same at the other input sizes. Results are kept in benchmarks/conformance.json after each
configuration: a run that was stopped goes on, a change of the networks' source starts again.
The table is benchmarks/conformance.md; with `--runtime fast`, which runs the networks rebuilt for
inference, conformance_fast.md. Exit code 1 where a number is off.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tubelet.models import zoo
from tubelet.models.blocks import pooling_attention
from tubelet.models.fast import accelerate
from tubelet.models.fast.network import FastNetwork
from tubelet.models.pyslowfast.yaml import network
from tubelet.models.registry import config_of, create_model

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src" / "tubelet" / "models"
FAMILIES = ("resnet3d", "slowfast", "x3d", "mvit", "revmvit")
TOLERANCE_GFLOPS = 0.01


@dataclass(frozen=True)
class Case:
    """One network at one input size. `size` is None for the configuration's own."""

    name: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    want: dict[str, np.ndarray]
    size: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        return self.name if self.size is None else self.size["case"].replace("__", "/")


def cases(golden: Any, names: Sequence[str] = ()) -> Iterator[Case]:
    """The configurations, cheapest first, each followed by itself at other sizes.

    `names`: only these.
    """
    sizes = golden.table("sizes")["cases"]
    found = {name: golden.facts(name) for name in names or golden.names()}
    for name in sorted(found, key=lambda name: found[name]["gflops_one_clip"]["crop_test"]):
        facts = found[name]
        shape = tuple(facts["golden"]["input_shape"])
        yield Case(name, facts["settings"], shape, golden.expected(name))
        yield from other_sizes(golden, [size for size in sizes if size["name"] == name])


def other_sizes(golden: Any, sizes: list[dict[str, Any]]) -> Iterator[Case]:
    """Larger or smaller inputs; a transformer is built for them and its tables are resized."""
    for size in sizes:
        settings = json.loads(json.dumps(golden.facts(size["name"])["settings"]))
        if "built_for" in size:
            crop = size["built_for"]["crop"]
            frames = size["built_for"]["num_frames"]
            settings["DATA"] |= {
                "NUM_FRAMES": frames, "TRAIN_CROP_SIZE": crop, "TEST_CROP_SIZE": crop,
            }  # fmt: skip
        want = golden.arrays("sizes", size["case"])
        yield Case(size["name"], settings, tuple(size["input_shape"]), want, size)


def run(case: Case, golden: Any, *, clips: int, runtime: str) -> dict[str, Any]:
    """One row: errors relative to the largest magnitude, counts, seconds."""
    facts = golden.facts(case.name)
    with tempfile.TemporaryDirectory() as folder:
        config_file, weights_file = Path(folder, "settings.yaml"), Path(folder, "weights.pyth")
        config_file.write_text(yaml.safe_dump(case.settings))
        weights = golden.weights(case.name)
        torch.save(
            {"model_state": {k: torch.from_numpy(v) for k, v in weights.items()}}, weights_file
        )
        del weights
        family, config = network(config_file)
        row: dict[str, Any] = {
            "family": family.__name__.rsplit(".", 1)[-1],
            "ids": names_of(config),
            "gflops": gflops(family, config, case.shape),
        }
        model = create_model(str(config_file), weights=weights_file)
    row["parameters"] = sum(p.numel() for p in model.parameters())
    if case.size is None:
        row["parameters_wanted"] = facts["parameters"]
        row["gflops_wanted"] = facts["gflops_one_clip"]["crop_test"]
    if runtime == "fast":
        model = accelerate(model)
    row["runtime"] = "fast" if isinstance(model, FastNetwork) else "reference"
    batch = golden.fill.make_input(0, (min(clips, case.shape[0]), *case.shape[1:]))
    clip = torch.from_numpy(batch)
    row |= errors(case, golden, model, clip if clip.ndim == 5 else clip[:, :, None])
    return row


@torch.inference_mode()
def errors(case: Case, golden: Any, model: Any, clip: Tensor) -> dict[str, Any]:
    start = time.perf_counter()
    laterals = watch_laterals(getattr(model, "network", model))
    got = model.features(clip, model.taps)
    row: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 1)}
    # predict is a function of features; computing those once is half the time
    known = mock.patch.object(
        model, "features", lambda _clip, taps=("pool",): {tap: got[tap] for tap in taps}
    )
    with known:
        predicted = model.predict(clip)
    row["clips"] = n = len(clip)
    row["pool"] = golden.error(got["pool"], case.want["features"][:n])
    row["predict"] = golden.error(predicted, case.want["output"][:n])
    row["dense_logits"] = golden.error(got["dense_logits"], case.want["logits"][:n])
    if "lin5" in case.want:
        row["grid"] = golden.error(got["grid"], case.want["lin5"][:n])
    stages = {
        key.removeprefix("stage/"): golden.error(
            golden.summarise(stage(got, laterals, key.removeprefix("stage/"))[:1]), value
        )
        for key, value in case.want.items()
        if key.startswith("stage/")
    }
    worst = max(stages, key=lambda key: stages[key])
    row |= {"stages": len(stages), "worst_stage": stages[worst], "worst_stage_name": worst}
    return row


def watch_laterals(model: nn.Module) -> dict[str, Tensor]:
    """What the lateral connections put out, by stage, once the network has run."""
    seen: dict[str, Tensor] = {}
    for name, lateral in getattr(model, "lateral", nn.ModuleDict()).items():
        lateral.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    return seen


def stage(taps: dict[str, Tensor], laterals: dict[str, Tensor], name: str) -> Tensor:
    """The tap that the reference's module has: s3, s3.1, s3_fuse.0, blocks.7, ..."""
    if name == "patch_embed":
        return taps["stem"].flatten(2).transpose(1, 2)
    if "blocks." in name or "layers." in name:
        _, _, rest = name.rpartition("blocks.") if "blocks." in name else name.partition("layers.")
        block, *stream = rest.split(".")
        tokens = taps[f"block{block}_tokens"]
        return tokens.chunk(2, dim=-1)[int(stream[0])] if stream else tokens
    module, _, pathway = name.partition(".")
    ours = "stem" if module[1] == "1" else f"res{module[1]}"
    value = taps[ours + {"": "", "0": "_slow", "1": "_fast"}[pathway]]
    if module.endswith("_fuse") and pathway == "0":
        return torch.cat([value, laterals[ours]], dim=1)
    return value


def gflops(family: Any, config: Any, shape: tuple[int, ...]) -> float:
    """Multiply-adds of one clip as fvcore counts them for the reference.

    A value of a batch norm is 2, of a layer norm 5. The bias of attention is an addition and
    counts nothing; our dot product of longer vectors (`pooling_attention.attend`) is not counted.
    """
    norms = 0

    def attend(q: Tensor, k: Tensor, v: Tensor, *, logits: Tensor, axes: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal norms
        norms += out.numel() * (5 if isinstance(module, nn.LayerNorm) else 2)

    with torch.device("meta"):
        model = family.build(config).eval()
        clip = torch.zeros(1, *shape[1:])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d | nn.LayerNorm):
            module.register_forward_hook(count)
    ours = mock.patch.object(pooling_attention, "attend", attend)
    with ours, FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.predict(clip if clip.ndim == 5 else clip[:, :, None])
    return (counter.get_total_flops() / 2 + norms) / 1e9


@cache
def all_configs() -> dict[str, Any]:
    """Every id of ours, a network's or a checkpoint's, and its configuration."""
    found = {}
    for family in FAMILIES:
        found |= importlib.import_module(f"tubelet.models.{family}").VARIANTS
    for name, entry in zoo.table().entries.items():
        found[name] = config_of(entry.arch, entry)[1]
    return found


def names_of(config: Any) -> list[str]:
    """Our ids of the very same network with the very same clips; networks before checkpoints."""
    return [name for name, known in all_configs().items() if known == config][:2]


def passes(row: dict[str, Any], tolerance: float) -> bool:
    if "error" in row:
        return False
    measured = [row[key] for key in ("pool", "predict", "dense_logits", "worst_stage")]
    if "parameters_wanted" in row:
        off = abs(row["gflops"] / row["gflops_wanted"] - 1)
        if row["parameters"] != row["parameters_wanted"] or off > TOLERANCE_GFLOPS:
            return False
    return max(measured) < tolerance


def table(results: dict[str, Any], *, about: dict[str, str], tolerance: float) -> str:
    good = sum(passes(row, tolerance) for row in results.values())
    lines = [
        "# Conformance",
        "",
        f"{good} of {len(results)} within {tolerance:g} of the reference (largest difference by "
        "largest magnitude; parameters equal, multiply-adds within 1 %).",
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        "",
        "Built from the YAML that the configuration's settings make up, weights loaded from a",
        ".pyth file; `id` is ours for the very same network.",
        "",
        "| configuration | id | parameters | GFLOPs, reference | pool | predict | dense_logits "
        "| worst stage | seconds | |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --- |",
    ]
    for key, row in results.items():
        if "error" in row:
            lines.append(f"| {key} | | | | | | | | | **{row['error']}** |")
            continue
        wanted = f"{row['gflops_wanted']:.3f}" if "gflops_wanted" in row else ""
        lines.append(
            f"| {key} | {', '.join(row['ids'])} | {row['parameters']:,} "
            f"| {row['gflops']:.3f}, {wanted} | {row['pool']:.1e} | {row['predict']:.1e} "
            f"| {row['dense_logits']:.1e} | {row['worst_stage']:.1e} ({row['worst_stage_name']}) "
            f"| {row['seconds']} | {'ok' if passes(row, tolerance) else '**off**'} |"
        )
    return "\n".join(lines) + "\n"


def source_digest() -> str:
    """Of every file that a network is made of."""
    digest = hashlib.sha256()
    for file in sorted([*SOURCE.rglob("*.py"), Path(__file__)]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def machine() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return f"CPU ({cpu}), float32, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="configurations; all where none is given")
    parser.add_argument("--clips", type=int, default=1, help="clips of each batch (1 or 2)")
    parser.add_argument("--again", action="store_true", help="measure what is done already, too")
    parser.add_argument("--trust", action="store_true", help="keep results of other source files")
    parser.add_argument("--runtime", choices=["reference", "fast"], default="reference")
    parser.add_argument("--out", type=Path, help="default: conformance.json, conformance_fast.json")
    given = parser.parse_args()
    if given.out is None:
        given.out = HERE / f"conformance{'_fast' if given.runtime == 'fast' else ''}.json"
    return given


def main() -> int:
    given = options()
    sys.path.insert(0, str(HERE.parent / "tests"))
    from conformance import golden  # type: ignore[import-not-found]

    kept = json.loads(given.out.read_text()) if given.out.exists() else {}
    code = source_digest()
    results: dict[str, Any] = {}
    about = {
        "command": " ".join(["python benchmarks/conformance.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "machine": machine(),
    }
    for case in cases(golden):
        old = kept.get("results", {}).get(case.key)
        wanted = not given.names or case.name in given.names
        fresh = old and (given.trust or old["source"] == code) and "error" not in old
        if old and (not wanted or (fresh and not given.again)):
            results[case.key] = old
            continue
        if not wanted:
            continue
        try:
            row = run(case, golden, clips=given.clips, runtime=given.runtime)
        except Exception as error:  # noqa: BLE001 - a failing configuration is a row, not the end
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {error}"}
        results[case.key] = {**row, "source": code}
        verdict = "ok" if passes(row, golden.TOLERANCE) else "OFF"
        print(verdict, case.key, {k: v for k, v in row.items() if k != "ids"}, flush=True)
        given.out.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
        gc.collect()
    sources = sorted({row["source"] for row in results.values()})
    about["source of the networks"] = ", ".join(sources)
    report = table(results, about=about, tolerance=golden.TOLERANCE)
    given.out.with_suffix(".md").write_text(report)
    given.out.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")
    return 0 if all(passes(row, golden.TOLERANCE) for row in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
