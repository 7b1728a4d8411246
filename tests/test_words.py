"""Everybody's words: names say what a thing is, in the field's and Python's terms, once each."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "tubelet"
FILES = sorted(SRC.rglob("*.py"))
TEXTS = [*FILES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]

# Private metaphors that once stood here, and sentences that one reads twice.
BANNED = re.compile(
    r"\b(desks?|shelf|shelves|glances?|lenders?|tellers?|errands?|foreman|"
    r"brought\(|in vain|for eyes|needs no telling|mended:)\b",
    re.IGNORECASE,
)

# Module names that may stand in several rooms.
SHARED_MODULES = {
    "__init__": "Python's own",
    "base": "the interface of a room with several implementations",
    "types": "what flows inside one room",
    "config": "plain data: of the package, and of training",
    "mvit": "the family, its fast twin, its YAML reader",
    "conv": "the fast twin and the YAML reader of the convolutional families",
    "objects": "the backend for object stores beside the one for disks",
    "run": "the room's entry point has its name",
}
# Class names that may occur twice: a fast twin has the name of the block it replaces.
SHARED_CLASSES = {
    "Config": "of each family",
    "Block": "of each transformer or residual family",
    "Unit": "Inception's, and its fast twin",
    "MaxPool": "Inception's, and its fast twin",
    "Inception": "the block, and its fast twin",
    "Stem": "of each convolutional family, and its fast twin",
    "SqueezeExcitation": "X3D's, and its fast twin",
    "Lateral": "SlowFast's, and its fast twin",
}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_private_metaphors(path):
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if BANNED.search(line)
    ]
    assert not found, found


def test_a_module_name_stands_once():
    places = defaultdict(list)
    for path in FILES:
        if path.parent.name != "cli":  # a verb is named like what it runs
            places[path.stem].append(str(path.relative_to(SRC)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not {k: v for k, v in twice.items() if k not in SHARED_MODULES}


def test_a_class_name_stands_once():
    places = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(SRC)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not {k: v for k, v in twice.items() if k not in SHARED_CLASSES}
