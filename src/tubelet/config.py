"""Frozen dataclasses as plain data and back; a stable hash; what differs between two recipes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


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


def from_plain(kind: Any, plain: Any, *, at: str = "") -> Any:
    """The way back: a value of an annotated type from what `to_plain` made of it.

    For dataclasses of numbers, strings, literals, tuples, mappings and each other. ValueError names
    the field (`at`) whose value is of another type, and fields that are not there.
    """
    if kind is float and type(plain) is int:
        return float(plain)
    if kind in (bool, int, float, str) and type(plain) is kind:
        return cast("object", plain)
    origin: Any = get_origin(kind)
    options = get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(plain, dict):
        return _dataclass(cast("Any", kind), cast("dict[str, Any]", plain), at)
    if origin in (Union, types.UnionType):
        fitting: list[Any] = [o for o in options if (o is type(None)) == (plain is None)]
        if len(fitting) == 1:
            return None if plain is None else from_plain(fitting[0], plain, at=at)
    if origin is Literal and plain in options:
        return plain
    if origin is tuple and isinstance(plain, list):
        items = cast("list[Any]", plain)
        kinds = [options[0]] * len(items) if options[-1] is Ellipsis else list(options)
        if len(kinds) == len(items):
            pairs = enumerate(zip(kinds, items, strict=True))
            return tuple(from_plain(k, v, at=f"{at}{i}.") for i, (k, v) in pairs)
    if origin in (dict, Mapping) and isinstance(plain, dict):
        key, value = options  # JSON has strings only
        named = cast("dict[str, Any]", plain).items()
        return {key(k): from_plain(value, v, at=f"{at}{k}.") for k, v in named}
    raise ValueError(f"{at[:-1]} is {plain!r}, not {getattr(kind, '__name__', kind)}")


def _dataclass(kind: Any, plain: dict[str, Any], at: str) -> Any:
    hints = get_type_hints(kind)
    named = [field.name for field in dataclasses.fields(kind)]
    for name in plain:
        if name not in named:
            raise ValueError(f"no field {at}{name}")
    made = {name: from_plain(hints[name], v, at=f"{at}{name}.") for name, v in plain.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise ValueError(f"{at[:-1]}: {error}") from None


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
