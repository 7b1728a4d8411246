"""RAFT (Teed & Deng 2020) as an optional plug-in: the user's torchvision and weights.

torchvision is imported here and nowhere else; it must belong to the installed torch.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError, WeightsError
from tubelet.flow.types import Field, Setting

STEP = 8
"""RAFT works on an eighth of the resolution: sides are padded to a multiple of it."""
LEAST = 128
"""Its correlation pyramid has four levels, which need 16 cells."""


class Raft:
    """torchvision's raft_large or raft_small with a state dict of its layout.

    Pictures in [-1, 1]; borders repeated up to a multiple of 8. Satisfies `base.FlowMethod`.
    """

    name = "raft"
    takes: Literal["gray", "rgb"] = "rgb"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        networks = _torchvision()
        import torch

        if not settings["weights"]:
            raise UsageError(
                "flow method 'raft' needs a weights file: --flow raft:weights=FILE (a state dict "
                "of torchvision's raft_large, or raft_small with size=small)"
            )
        path = Path(settings["weights"])
        if not path.is_file():
            raise UsageError(f"flow method 'raft': weights={str(path)!r}: no such file")
        self._device = settings["device"]
        self._updates = int(settings["iterations"])
        build = networks.raft_large if settings["size"] == "large" else networks.raft_small
        network = build(weights=None)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except (RuntimeError, pickle.UnpicklingError, OSError, EOFError, KeyError) as error:
            raise WeightsError(
                f"{path}: not a state dict of torchvision's raft_{settings['size']}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._network = network.eval().to(self._device)
        self.recipe: dict[str, Setting] = {
            "method": "raft",
            "size": settings["size"],
            "iterations": self._updates,
            "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    def __call__(self, previous: NDArray[np.uint8], following: NDArray[np.uint8]) -> Field:
        import torch
        from torch.nn.functional import pad

        height, width = previous.shape[:2]
        tall, wide = (max(LEAST, -(-n // STEP) * STEP) for n in (height, width))
        both = torch.from_numpy(np.stack([previous, following])).to(self._device)
        both = both.permute(0, 3, 1, 2).float() / 127.5 - 1
        both = pad(both, (0, wide - width, 0, tall - height), mode="replicate")
        with torch.inference_mode():
            flow = self._network(both[:1], both[1:], num_flow_updates=self._updates)[-1][0]
        return flow[:, :height, :width].permute(1, 2, 0).float().cpu().contiguous().numpy()


def _torchvision() -> Any:
    try:
        from torchvision.models import optical_flow  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:
        # RuntimeError: its compiled operators belong to another build of torch.
        raise UsageError(
            "flow method 'raft' needs torchvision, built for the torch that is installed "
            f"({str(error).splitlines()[0]}); install the matching torchvision, or choose "
            "--flow tvl1, dis or farneback"
        ) from error
    return optical_flow
