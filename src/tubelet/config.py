"""Frozen dataclasses as plain data: a stable hash, and what differs between two recipes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast


def to_plain(value: object) -> Any:
    """Dataclasses, tuples, fractions and paths as what JSON has. TypeError for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): to_plain(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, (Fraction, Path)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"no plain form for {type(value).__name__}: {value!r}")


def stable_hash(plain: Any) -> str:
    """The first 16 hex digits of the sha256 of canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(plain: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, leaf) pairs of nested mappings."""
    if isinstance(plain, dict) and plain:
        for key, value in cast("dict[str, Any]", plain).items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, plain


def differences(here: Any, there: Any) -> list[str]:
    """One line `name: a -> b` for every leaf that differs."""
    ours, theirs = dict(flatten(here)), dict(flatten(there))
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [
        f"{name}: {ours.get(name, 'absent')!r} -> {theirs.get(name, 'absent')!r}"
        for name in names
        if ours.get(name, "absent") != theirs.get(name, "absent")
    ]
