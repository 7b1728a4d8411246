"""Change one operator, comparison, constant or condition at a time, and see whether a test notices.

    python -m tools.mutate                       every unit below (hours)
    python -m tools.mutate windows --sample 40   40 changes of one unit, drawn with --seed

Each change is made in a copy of src/, and the unit's tests run against the copy, stopping at the
first failure. What no test notices is listed: it is a missing test, or a change without an effect.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNITS = {
    "windows": (["clips/windows.py"], ["tests/test_window.py"]),
    "tails": (["clips/tails.py"], ["tests/test_window.py"]),
    "gather": (["clips/gather.py"], ["tests/test_window.py"]),
    "transform": (["clips/transform.py"], ["tests/test_transform.py"]),
    "store": (
        ["store/folder.py", "store/formats/npy.py", "store/formats/rows.py"],
        ["tests/store"],
    ),
    "resume": (["store/failures.py"], ["tests/store", "tests/run/test_run.py"]),
}
LIMIT_S = 300  # of one run: a change may make an endless loop

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
}


def changes(node: ast.AST) -> Iterator[tuple[str, str, object]]:
    """(what it does, field, new value) for every change of one node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        new = COMPARISONS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {new.__name__}", "ops", [new(), *node.ops[1:]]
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        new = OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__}", "op", new()
    if isinstance(node, ast.BoolOp):
        new = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"-> {new.__name__}", "op", new()
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition negated", "test", ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value} -> {value}", "value", value


def mutants(path: Path) -> list[tuple[int, str, str]]:
    """(line, what is changed, new source) for every change of a file."""
    source = path.read_text("utf-8")
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for what, field, value in changes(node):
            old = getattr(node, field)
            setattr(node, field, value)
            found.append(
                (getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(tree)))
            )
            setattr(node, field, old)
    return found


def noticed(copy: Path, tests: list[str]) -> bool:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
    ]
    env = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=ROOT, env=env, capture_output=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def run(unit: str, *, sample: int | None, seed: int) -> list[str]:
    """The changes of one unit that no test notices."""
    files, tests = UNITS[unit]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="tubelet-mutate-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy)
        if noticed(copy, tests):
            sys.exit(f"{unit}: its tests fail without any change")
        work = [
            (name, *found) for name in files for found in mutants(ROOT / "src" / "tubelet" / name)
        ]
        if sample and sample < len(work):
            work = sorted(random.Random(seed).sample(work, sample), key=lambda w: w[:2])
        for number, (name, line, what, source) in enumerate(work, 1):
            target = copy / "tubelet" / name
            before = target.read_text("utf-8")
            target.write_text(source, "utf-8")
            if not noticed(copy, tests):
                survivors.append(f"src/tubelet/{name}:{line}: {what}")
            target.write_text(before, "utf-8")
            say(f"\r{unit}: {number}/{len(work)}, {len(survivors)} not noticed")
    say("\n")
    return survivors


def say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("units", nargs="*", help=f"of {', '.join(UNITS)}; all without")
    parser.add_argument("--sample", type=int, help="so many changes of each unit")
    parser.add_argument("--seed", type=int, default=0)
    choice = parser.parse_args()
    for unit in choice.units or UNITS:
        if unit not in UNITS:
            parser.error(f"no unit {unit!r}; there are {', '.join(UNITS)}")
        survivors = run(unit, sample=choice.sample, seed=choice.seed)
        sys.stdout.write("".join(f"{line}\n" for line in survivors) or f"{unit}: all noticed\n")


if __name__ == "__main__":
    main()
