"""The tests in other environments than the one of `make test`, each in a venv of its own.

    python benchmarks/matrix.py                          every leg (gigabytes of downloads each)
    python benchmarks/matrix.py lowest 3.12              these legs
    python benchmarks/matrix.py lowest --torch torch==2.13.0     with this torch, and so recorded

Legs: `lowest` has the lowest declared release of every dependency and extra (Python 3.11), `3.12`
and `3.13` the newest. uv resolves and finds the Pythons, pip installs. Results go to matrix.json,
the table is made from it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, TABLE = HERE / "matrix.json", HERE / "matrix.md"
LEGS = {
    "lowest": ("3.11", "lowest-direct"),
    "3.12": ("3.12", "highest"),
    "3.13": ("3.13", "highest"),
}
SHOWN = ("torch", "numpy", "av", "click", "rich", "safetensors", "pyyaml", "ray", "fastapi")
NEEDS_GB = 15  # a torch with CUDA, everything that it needs, and the extras


def uv(*arguments: str) -> str:
    return subprocess.run(["uv", *arguments], cwd=ROOT, check=True, text=True, stdout=-1).stdout


def resolved(leg: str, torch: str | None) -> str:
    """The pinned requirements of a leg: all extras but torchcodec, and the tools of the tests."""
    python, resolution = LEGS[leg]
    choices = ["--extra", "all", "--group", "dev", "--python-version", python, "--quiet"]
    pins = uv("pip", "compile", "pyproject.toml", *choices, "--resolution", resolution)
    lines = [line for line in pins.splitlines() if not line.lstrip().startswith("#")]
    if torch:  # a build that is at hand: its own needs replace those of the resolved torch
        lines = [
            line for line in lines if not re.match(r"(torch|triton|nvidia-\S+|cuda-\S+)==", line)
        ]
        lines.append(torch)
    return "\n".join(lines) + "\n"


def run(leg: str, torch: str | None) -> dict[str, object]:
    """Install and test; the result as a row of the table."""
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < NEEDS_GB:
        sys.exit(f"{leg}: {free:.0f} GB free in {tempfile.gettempdir()}, {NEEDS_GB} are needed")
    with tempfile.TemporaryDirectory(prefix="tubelet-matrix-") as folder:
        venv = Path(folder) / "venv"
        python = venv / "bin" / "python"
        pins = Path(folder) / "pins.txt"
        pins.write_text(resolved(leg, torch))
        uv("venv", "--quiet", "--seed", "--python", LEGS[leg][0], str(venv))
        # pip installs: it takes wheels from the folders and indexes that the user has configured
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-r", str(pins)], check=True)
        subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
        command = [str(python), "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"]
        done = subprocess.run(
            [*command, "-m", "not slow", "-p", "no:cacheprovider"],
            cwd=ROOT,
            text=True,
            capture_output=True,
        )
        print(done.stdout[-4000:], flush=True)
        found = json.loads(uv("pip", "list", "--format", "json", "--python", str(python)))
    versions = {item["name"]: item["version"] for item in found}
    lines = done.stdout.strip().splitlines()
    return {
        "date": date.today().isoformat(),
        "python": LEGS[leg][0],
        "result": lines[-1].strip("= ") if lines else "no output",
        "failed": [line.split(" - ")[0][7:] for line in lines if line.startswith("FAILED ")],
        "versions": {name: versions.get(name, "-") for name in SHOWN},
    }


def table(results: dict[str, dict]) -> str:
    """matrix.md."""
    head = ["leg", "date", "Python", *SHOWN, "result"]
    lines = [
        "# Environments",
        "",
        "`make matrix` (benchmarks/matrix.py): the tests of `make test` in fresh environments.",
        "`lowest` has the lowest declared release of every dependency and extra. The environment",
        "of `make test` itself (Python 3.11) is tried with every change and not listed.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    for leg in LEGS:
        row = results.get(leg)
        if row is None:
            lines.append(f"| {leg} | - | {LEGS[leg][0]} |" + " - |" * len(SHOWN) + " not run |")
            continue
        cells = [leg, row["date"], row["python"], *row["versions"].values(), row["result"]]
        lines.append("| " + " | ".join(cells) + " |")
    for leg, row in results.items():
        if row["failed"]:
            lines += ["", f"Failed in `{leg}`:", "", *(f"- `{name}`" for name in row["failed"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("legs", nargs="*", help=f"of {', '.join(LEGS)}; all without")
    parser.add_argument("--torch", help="install this torch, e.g. torch==2.13.0")
    choice = parser.parse_args()
    unknown = set(choice.legs) - set(LEGS)
    if unknown:
        parser.error(f"no leg {sorted(unknown)}; there are {', '.join(LEGS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for leg in choice.legs or LEGS:
        results[leg] = run(leg, choice.torch)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        TABLE.write_text(table(results))
    if any(results[leg]["failed"] for leg in choice.legs or LEGS):
        sys.exit(1)


if __name__ == "__main__":
    main()
