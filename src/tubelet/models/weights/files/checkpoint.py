"""A checkpoint file becomes a flat dict of tensors, whatever its container.

The first bytes tell the container; the file's name is never looked at. Only a TensorFlow checkpoint
is two files, so there the second one is found by the first one's name; any of them, their common
prefix or their folder will do. A folder with config.json is read as `hub_folder` says.

    50 4b 03 04             zip: torch.save (TorchScript is refused)
    80 02 8a 0a 6c fc 9c    legacy torch.save
    80 02 .. 80 05, ( } ]   pickle of NumPy arrays: caffe2 {"blobs": ...}, Flax trees
    <8 bytes> {             safetensors
    ... 57 fb 80 8b 24 75 47 db  the index of a TensorFlow checkpoint (at its end)
    1f 8b, <, {, text       refused by what they are
"""

from __future__ import annotations

import hashlib
import io
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from tubelet.errors import TubeletError, UnsafeFile, WeightsError
from tubelet.models.weights.files import hub_folder, safe_pickle, tensorflow_bundle, torch_file

KNOWN = {
    b"PK\x03\x04": "torch zip",
    bytes.fromhex("80028a0a6cfc9c46f920"): "legacy torch",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
}
OLD_PICKLE = re.compile(  # protocols 0 and 1: a container, or a global first
    rb"\([dlptcSVUTXIK(\]}]|\}[qrp(]|\][qrp(]|c[\w.]+\n[\w.]+\n"
)
REFUSED = {
    b"\x1f\x8b": "a gzip archive (one upload of the zoo is such a file, and corrupt)",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a Git LFS pointer instead of the file itself",
}
WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "blobs")
MAX_HEADER = 1 << 30
MAX_DEPTH, MAX_ENTRIES = 16, 1_000_000


@dataclass
class Checkpoint:
    """`tensors` under the file's own names; `ignored`: entries beside the state dict.

    `sha256` is of the file's bytes (of TensorFlow's index, which holds checksums of the rest),
    `metadata` what a safetensors header says.
    """

    path: Path
    container: str
    tensors: dict[str, Tensor]
    sha256: str
    ignored: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read any supported container. Raises UnsafeFile or WeightsError, both naming the file."""
    path = Path(path)
    try:
        return _load(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except TubeletError as error:
        raise type(error)(f"{path}: {error}") from None


def _load(path: Path) -> Checkpoint:
    if hub_folder.is_hub_folder(path):
        return _load_folder(path)
    index = tensorflow_bundle.index_file(path)
    if index is not None:
        with index.open("rb") as file:
            sha256 = _sha256(file)
        return Checkpoint(path, "tensorflow", tensorflow_bundle.read(index), sha256)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        container = sniff(head)
        sha256 = _sha256(file)
        if container == "safetensors":
            tensors, metadata = _read_safetensors(path)
            return Checkpoint(path, container, tensors, sha256, metadata=metadata)
        if container == "torch zip":
            file.seek(0)
            tensors, ignored = state_dict(torch_file.read_zip(file, size=size))
            return Checkpoint(path, container, tensors, sha256, ignored)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if container == "legacy torch":
                found = torch_file.read_legacy(mapped)
            else:
                found, _ = safe_pickle.load(mapped)
            tensors, ignored = state_dict(found)
            return Checkpoint(path, container, tensors, sha256, ignored)


def _load_folder(folder: Path) -> Checkpoint:
    """All weights of a Hub folder; several files have the sha256 of their sums, in name order."""
    parts = [_load(file) for file in hub_folder.weight_files(folder)]
    tensors: dict[str, Tensor] = {}
    for part in parts:
        twice = tensors.keys() & part.tensors.keys()
        if twice:
            raise WeightsError(f"{min(twice)} is in several of its files; download it again")
        tensors |= part.tensors
    sha256 = parts[0].sha256
    if len(parts) > 1:
        sha256 = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    ignored = [name for part in parts for name in part.ignored]
    return Checkpoint(folder, parts[0].container, tensors, sha256, ignored)


def _sha256(file: io.BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def sniff(head: bytes) -> str:
    """The container by the file's first bytes; raises WeightsError for other files."""
    for start, container in KNOWN.items():
        if head.startswith(start):
            return container
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < MAX_HEADER:
        return "safetensors"
    if OLD_PICKLE.match(head):
        return "pickle"
    for start, what in REFUSED.items():
        if head.startswith(start):
            raise WeightsError(f"{what}; not a checkpoint")
    if not head:
        raise WeightsError("an empty file; download it again")
    if head[257:262] == b"ustar":
        raise WeightsError("a tar archive; unpack it and name the checkpoint inside")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise WeightsError("a web page (HTML) saved as weights: the link has moved or is refused")
    raise WeightsError(f"not a known kind of checkpoint; it starts with {head[:8].hex(' ')}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise WeightsError(f"truncated or damaged safetensors file ({error})") from None


def state_dict(found: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The flat dict of tensors in what a pickle held, and the names of what lies beside them.

    A state dict under one of `WRAPPERS` is taken; nested dicts are joined with slashes.
    """
    ignored: list[str] = []
    heads = found.get("classifiers") if isinstance(found, dict) else None
    if isinstance(heads, list) and heads:  # attentive probes, one per learning rate: the first
        found = {**found, "state_dict": heads[0]}
    if isinstance(found, dict):
        for wrapper in WRAPPERS:
            if isinstance(found.get(wrapper), dict):
                ignored = sorted(str(key) for key in found if key != wrapper)
                found = found[wrapper]
                break
    if not isinstance(found, dict):
        raise WeightsError(f"holds a {type(found).__name__}, not a dict of weights")
    tensors: dict[str, Tensor] = {}
    for name, value in _leaves(found):
        tensor = _tensor(value)
        if tensor is None:
            ignored.append(name)
        elif name in tensors:
            raise WeightsError(f"two entries are called {name}")
        else:
            tensors[name] = tensor
    if not tensors:
        raise WeightsError(f"no weights in it (entries: {', '.join(ignored)[:200] or 'none'})")
    return tensors, ignored


def _leaves(tree: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """(path joined with slashes, value) of everything in nested dicts, in order."""
    stack = [(tree, "", 0, iter(dict.items(tree)))]
    count = 0
    while stack:
        _, prefix, depth, items = stack[-1]
        for key, value in items:
            count += 1
            if count > MAX_ENTRIES or depth > MAX_DEPTH:
                raise UnsafeFile("memo bomb: dicts nested in each other without end")
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                stack.append((value, name + "/", depth + 1, iter(dict.items(value))))
                break
            yield name, value
        else:
            stack.pop()


def _tensor(value: Any) -> Tensor | None:
    """The tensor of a stand-in; None for what is not an array."""
    if isinstance(value, torch_file.LazyTensor):
        return value.tensor()
    if not isinstance(value, safe_pickle.Array):
        return None
    if value.value is None:
        raise UnsafeFile("an array without data")
    try:
        return torch.from_numpy(value.value)
    except TypeError:
        raise WeightsError(f"an array of type {value.value.dtype}") from None
