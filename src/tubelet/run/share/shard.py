"""Which videos are whose: `--shard i/n` gives disjoint, complete and balanced shares.

    longest first, each to the shard that has least so far

    videos   9 7 6 5 5 2         shard 0   9 . . 5 . 2     16
                                 shard 1   . 7 6 . 5 .     18

Every machine works its share out by itself, from the same list and the same durations; nobody has
to be asked. Pure arithmetic.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tubelet.config import stable_hash
from tubelet.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, 0 <= index < count."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """`i/n` with 0 <= i < n."""
    first, slash, second = text.partition("/")
    if slash and first.isdecimal() and second.isdecimal() and int(first) < int(second):
        return Shard(int(first), int(second))
    raise UsageError(f"shard {text!r}: need i/n with 0 <= i < n, such as 0/4")


def weights(durations: Sequence[float | None]) -> list[float]:
    """Durations, with the mean of the known ones for those that nobody knows."""
    known = [d for d in durations if d is not None]
    usual = fmean(known) if known else 1.0
    return [usual if d is None else d for d in durations]


def assign(durations: Sequence[float | None], count: int) -> list[list[int]]:
    """For each of `count` shards its videos, by position in `durations`, longest first.

    durations: seconds of each video; None where unknown. No shard has more than a perfect cut
    plus the longest video; ties go to the shard with fewer videos, then to the first.
    """
    loads = weights(durations)
    order = sorted(range(len(loads)), key=lambda i: -loads[i])
    shares: list[list[int]] = [[] for _ in range(count)]
    heap = [(0.0, 0, shard) for shard in range(count)]
    for i in order:
        load, held, shard = heapq.heappop(heap)
        shares[shard].append(i)
        heapq.heappush(heap, (load + loads[i], held + 1, shard))
    return shares


def plan_hash(ids: Sequence[str], shares: Sequence[Sequence[int]]) -> str:
    """16 hex digits that are the same for every shard of one plan, and for no other plan."""
    return stable_hash([[ids[i] for i in share] for share in shares])
