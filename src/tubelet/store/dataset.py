"""An output folder as a data set for `torch.utils.data.DataLoader`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tubelet.store.listing import read_folder

if TYPE_CHECKING:
    from torch import Tensor


class FeatureDataset:
    """Every finished video of an output folder, in the order of ids; any file format.

    Item i is {"id": str, "values": [N, D], "start_s", "end_s", "center_s": [N], <tap>: [N, ...],
    "logits": [N, classes]} with tensors. It satisfies torch's protocol of map-style data sets; N
    differs between videos, so batches need a `collate_fn`. Files are read when items are asked
    for, and checked against their sha256 unless verify is off.

    UsageError for a folder that is not one of ours, StoreError for damaged files and for rows of
    another recipe.
    """

    def __init__(self, out: str | os.PathLike[str], *, verify: bool = True) -> None:
        self._folder = read_folder(Path(out))
        self.recipe: dict[str, Any] = self._folder.record["recipe"]
        self.ids = self._folder.ids
        self._verify = verify

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, str | Tensor]:
        import torch

        identity = self.ids[index]
        features = self._folder.load(identity, verify=self._verify)
        arrays = {
            "values": features.values,
            "start_s": features.start_s,
            "end_s": features.end_s,
            "center_s": features.center_s,
            **features.taps,
        }
        if features.logits is not None:
            arrays["logits"] = features.logits
        tensors = {name: torch.from_numpy(np.require(a, None, "W")) for name, a in arrays.items()}
        return {"id": identity, **tensors}
