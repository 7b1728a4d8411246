"""From a checkpoint file to a network: find the layout, rename, load strictly.

file --checkpoint.load_checkpoint--> flat dict --CheckpointLayout--> our names --strict--> network
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from tubelet.errors import KeyMismatch, WeightsError
from tubelet.models.weights.fetch import weights_cache as cache
from tubelet.models.weights.files.checkpoint import Checkpoint, load_checkpoint
from tubelet.models.weights.layouts import (
    caffe2,
    encoders,
    inception,
    internvideo2_keys,
    mmaction2,
    pyslowfast,
    pyslowfast_mvit,
    pytorchvideo,
    selfsupervised,
    staged,
    torchvision,
    videomae_keys,
    vjepa2_keys,
)
from tubelet.models.weights.layouts.base import CheckpointLayout, Converted

FORMAT = "tubelet-1"
ADAPTER = re.compile(r"\blora_|\.base_layer\.")

OURS = CheckpointLayout(
    "tubelet",
    lambda keys: "classifier.weight" in keys,
    lambda tensors, _: Converted(dict(tensors)),
)

PYSLOWFAST_MVIT = CheckpointLayout(
    "pyslowfast-mvit",
    pyslowfast_mvit.recognises,
    lambda tensors, model: Converted(pyslowfast_mvit.to_ours(tensors, model)),
)

LAYOUTS: tuple[CheckpointLayout, ...] = (
    *internvideo2_keys.LAYOUTS,
    *vjepa2_keys.LAYOUTS,  # the plain transformers before MViT, whose names are nearly the same
    *videomae_keys.LAYOUTS,
    *inception.LAYOUTS,
    *staged.LAYOUTS,
    *encoders.LAYOUTS,  # before MaskFeat: a pre-trained Hiera has a mask token too
    *selfsupervised.LAYOUTS,
    pyslowfast.PYSLOWFAST,
    PYSLOWFAST_MVIT,
    caffe2.CAFFE2,
    *pytorchvideo.LAYOUTS,
    torchvision.TORCHVISION,
    *mmaction2.LAYOUTS,
    OURS,
)


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: layout, sha256 of the file, source keys left out on purpose."""

    layout: str
    sha256: str
    dropped: list[str]


def find_layout(checkpoint: Checkpoint) -> CheckpointLayout:
    """The layout that recognises the key names. Raises WeightsError naming some keys."""
    refuse_adapters(checkpoint)
    if checkpoint.metadata.get("format") == FORMAT:
        return OURS
    for layout in LAYOUTS:
        if layout.recognises(checkpoint.tensors):
            return layout
    names = ", ".join(list(checkpoint.tensors)[:4])
    raise WeightsError(
        f"{checkpoint.path}: key names of no known layout ({names}, ...); known layouts: "
        + ", ".join(layout.name for layout in LAYOUTS)
    )


def refuse_adapters(checkpoint: Checkpoint) -> None:
    """LoRA (2106.09685) stores a difference to other weights. Raises WeightsError naming a key."""
    found = [key for key in checkpoint.tensors if ADAPTER.search(key)]
    if found:
        raise WeightsError(
            f"{checkpoint.path}: {len(found)} tensors of LoRA adapters ({found[0]}, ...), which "
            "change other weights; merge them first (peft: model.merge_and_unload()), save the "
            "merged network, and give that file"
        )


def convert(checkpoint: Checkpoint, model: nn.Module) -> tuple[CheckpointLayout, Converted]:
    """The checkpoint under our names, for this network; not loaded yet."""
    layout = find_layout(checkpoint)
    try:
        return layout, layout.convert(checkpoint.tensors, model)
    except KeyMismatch as error:
        raise KeyMismatch(f"{checkpoint.path} ({layout.name}): {error}") from None


def load_into(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a file of any layout; every key must fit. Raises WeightsError, KeyMismatch."""
    checkpoint = load_checkpoint(path)
    layout, converted = convert(checkpoint, model)
    load_strictly(model, converted.tensors, where=f"{path} ({layout.name})")
    return LoadReport(layout.name, checkpoint.sha256, converted.dropped)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into the network; nothing missing, unexpected or of another shape.

    `num_batches_tracked` may be absent: only training counts batches. A network that offers
    `adapt_to` first takes the form that the names ask for. Raises KeyMismatch.
    """
    if hasattr(model, "adapt_to"):
        model.adapt_to(tensors)  # pyright: ignore[reportCallIssue]
    wanted = model.state_dict()
    missing = [
        key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in tensors if key not in wanted]
    misshapen = [
        f"{key} {list(tensors[key].shape)} for {list(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if keys
    ]
    if problems:
        raise KeyMismatch(
            f"{where}: these weights do not fit {type(model).__name__}; " + "; ".join(problems)
        )
    with torch.no_grad():
        for key, value in wanted.items():
            if key in tensors:
                value.copy_(tensors[key])


def digest_of(model: Any) -> str:
    """SHA-256 of the released weights file; of the numbers where weights are in no file."""
    known = getattr(model, "weights_sha256", None)
    if known:
        return known
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(model: nn.Module, path: Path, *, metadata: Mapping[str, str]) -> None:
    """The network's weights under our names as safetensors, with a header."""
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(state, path, metadata=dict(metadata))


def save_atomically(model: nn.Module, path: Path, *, metadata: Mapping[str, str]) -> None:
    """`save` to a temporary file in the same folder, renamed when complete. Raises WeightsError."""
    if not path.parent.is_dir():
        raise WeightsError(f"{path}: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save(model, temporary, metadata=metadata)
        cache.replace_with(path, temporary)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def convert_file(source: Path, model: nn.Module, target: Path, *, origin: str) -> str:
    """Load a checkpoint of any layout strictly and save it under our names; its layout.

    `origin` says where the file came from; it goes into the header with layout and sha256.
    """
    report = load_into(model, source)
    metadata = {"layout": report.layout, "source": origin, "source_sha256": report.sha256}
    save(model, target, metadata={"format": FORMAT, **metadata})
    return report.layout
