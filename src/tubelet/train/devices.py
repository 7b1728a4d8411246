"""One process or many under torchrun: who this process is, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from tubelet.errors import UsageError
from tubelet.models.device import resolve_device


@dataclass(frozen=True)
class Device:
    """rank: of this process among `devices`; name: the torch device it computes on."""

    name: str
    rank: int = 0
    devices: int = 1

    @property
    def leads(self) -> bool:
        """The one that writes files and the log."""
        return self.rank == 0

    @property
    def kind(self) -> str:
        return self.name.split(":")[0]

    def total(self, *values: float) -> list[float]:
        """The sums of values over all devices."""
        if self.devices == 1:
            return list(values)
        place = self.name if self.kind == "cuda" else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=place)
        dist.all_reduce(summed)
        return summed.tolist()

    def gather(self, value: Any) -> list[Any]:
        """What every device has, in rank order."""
        if self.devices == 1:
            return [value]
        found: list[Any] = [None] * self.devices
        dist.all_gather_object(found, value)
        return found


@contextmanager
def joined(device: str = "auto") -> Iterator[Device]:
    """This process's device; under torchrun, as a member of the group it started."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    name = resolve_device(device)
    if world == 1:
        yield Device(name)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if name.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise UsageError(f"process {local} of this machine has no GPU of its own")
        name = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if name.startswith("cuda") else "gloo")
    try:
        yield Device(name, rank, world)
    finally:
        dist.destroy_process_group()
