"""Batches of stored features for training, padded to the longest video: `python dataloader.py OUT`.

OUT is a folder that `tubelet extract` made. `mask` is True where a row is real.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import tubelet


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    values = [item["values"].float() for item in items]
    lengths = torch.tensor([len(v) for v in values])
    padded = pad_sequence(values, batch_first=True)  # [B, N, D]
    return {
        "id": [item["id"] for item in items],
        "values": padded,
        "mask": torch.arange(padded.shape[1]) < lengths[:, None],  # [B, N]
    }


def batches(out: str, *, batch_size: int = 8, workers: int = 0) -> DataLoader[Any]:
    dataset: Any = tubelet.FeatureDataset(out)
    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate, num_workers=workers)


if __name__ == "__main__":
    for batch in batches(sys.argv[1]):
        print(batch["id"], tuple(batch["values"].shape), "real rows:", int(batch["mask"].sum()))
