"""What is handed out: short videos in groups, long ones in steps. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tubelet.inputs import Input
from tubelet.run.share.shard import weights

GROUP_S = 60.0
GROUP_VIDEOS = 16
"""A group of short videos is at most this long, and at most so many; smaller where some worker
would get none."""


@dataclass(frozen=True)
class WorkUnit:
    """step whole: read these videos. Of one long video: plan its parts, make part `part`, join."""

    step: Literal["whole", "plan", "part", "join"]
    items: tuple[Input, ...]
    part: int = -1


def groups(
    items: Sequence[Input], seconds: Sequence[float | None], part_s: float | None, workers: int = 1
) -> list[WorkUnit]:
    """Units of all inputs, longest first; videos of two parts or more begin with their plan."""
    loads = weights(seconds)
    most = min(GROUP_VIDEOS, math.ceil(len(items) / workers))
    units: list[WorkUnit] = []
    group: list[Input] = []
    length = 0.0
    for i in sorted(range(len(items)), key=lambda i: -loads[i]):
        is_long = part_s is not None and seconds[i] is not None and loads[i] >= 2 * part_s
        if is_long and os.path.isfile(items[i].path):
            units.append(WorkUnit("plan", (items[i],)))
            continue
        if group and (length + loads[i] > GROUP_S or len(group) >= most):
            units.append(WorkUnit("whole", tuple(group)))
            group, length = [], 0.0
        group.append(items[i])
        length += loads[i]
    if group:
        units.append(WorkUnit("whole", tuple(group)))
    return units


def in_order(
    items: Sequence[Input], part_s: float | None, workers: int, *, at_once: int | None = 1
) -> list[WorkUnit]:
    """Units of inputs whose length nobody knows, in their order.

    part_s: files begin with their plan; None: no video is cut. at_once: how many inputs a unit has,
    None: as many as a group, for windows of several videos that share batches.
    """
    most = at_once or min(GROUP_VIDEOS, math.ceil(len(items) / workers))
    units: list[WorkUnit] = []
    group: list[Input] = []
    for item in items:
        if part_s is not None and most == 1 and item.member is None and os.path.isfile(item.path):
            units.append(WorkUnit("plan", (item,)))
            continue
        group.append(item)
        if len(group) == most:
            units.append(WorkUnit("whole", tuple(group)))
            group = []
    if group:
        units.append(WorkUnit("whole", tuple(group)))
    return units


def busy_workers(units: Sequence[WorkUnit], workers: int) -> int:
    """How many of `workers` have something to do: a long video is work for all of them."""
    long = any(unit.step == "plan" for unit in units)
    return workers if long else min(workers, len(units))
