"""What a run leaves behind, written atomically.

OUT/checkpoint.pt        everything to go on exactly: weights, optimiser, averages, position
OUT/last.safetensors     weights under our names, with the network's description in the header
OUT/best.safetensors     the same, of the best evaluation so far
OUT/log.jsonl            one line per epoch
OUT/bad_samples.jsonl    samples that could not be read
OUT/recipe.json          the configuration in full
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tubelet.errors import RecipeMismatch, StoreError
from tubelet.machine.atomic import atomic_file
from tubelet.models.described import KEY, Description
from tubelet.models.weights.load import FORMAT

CHECKPOINT = "checkpoint.pt"
SCHEMA = 1


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Description) -> None:
    """A safetensors file that `create_model(path)` reads, and so do all verbs."""
    contents = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {"format": FORMAT, "source": str(path), KEY: about.dumps()}
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(contents, metadata))


def save_state(path: Path, state: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        torch.save({"schema": SCHEMA, **state}, file)


def load_state(path: Path, *, identity: str, network: str) -> dict[str, Any]:
    """The state of a run, if it is this recipe's. Nothing but tensors and plain data is unpickled.

    Raises StoreError for a damaged file, RecipeMismatch for another recipe or architecture.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove it to start again") from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise StoreError(f"{path}: not a checkpoint of `tubelet train`; choose another -o")
    if state["network"] != network:
        raise RecipeMismatch(
            f"{path} is a checkpoint of {state['network']}, the recipe trains {network}; choose "
            "another -o, or --overwrite"
        )
    if state["identity"] != identity:
        raise RecipeMismatch(
            f"{path} was made with another recipe (see recipe.json beside it); choose another -o, "
            "or --overwrite"
        )
    return state
