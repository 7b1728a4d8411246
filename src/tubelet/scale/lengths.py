"""How long each input is, before any of them is decoded: what work is shared out by."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from tubelet.decode.base import SYNTHETIC, video_seconds
from tubelet.errors import TubeletError
from tubelet.inputs import Input
from tubelet.scale.job import Job, Reporter
from tubelet.scale.shard import assign, plan_hash, weights

READERS = 16
"""Headers that are read at once: opening a file on a network disk is mostly waiting."""


def seconds_of(item: Input, frame_rate: Fraction | None = None) -> float | None:
    """Seconds that an input, or the part of it that is asked for, lasts.

    None where its file would have to be fetched first (a URL, a member of a tar) and for a file
    that cannot be read; that becomes a failure when its turn comes.
    """
    local = item.path.startswith(SYNTHETIC) or Path(item.path).exists()
    if item.member is not None or not local:
        return None
    if item.start_s is not None and item.end_s is not None:
        return item.end_s - item.start_s
    try:
        rate = frame_rate if Path(item.path).is_dir() else None
        length = video_seconds(item.path, fps=rate)
    except TubeletError:
        return None
    end = length if item.end_s is None else min(item.end_s, length)
    return max(0.0, end - (item.start_s or 0.0))


def lengths(items: Sequence[Input], frame_rate: Fraction | None = None) -> list[float | None]:
    """`seconds_of` each, in order."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda item: seconds_of(item, frame_rate), items))


def share_of(job: Job, report: Reporter) -> tuple[Job, dict[str, str]]:
    """The job of its shard alone, longest videos first, and what is recorded of that."""
    if job.shard is None:
        return job, {}
    seconds = lengths(job.inputs, job.frame_rate)
    shares = assign(seconds, job.shard.count)
    mine = shares[job.shard.index]
    plan = plan_hash([item.id for item in job.inputs], shares)
    loads = weights(seconds)
    hours, whole = sum(loads[i] for i in mine) / 3600, sum(loads) / 3600
    unknown = sum(s is None for s in seconds)
    guessed = f"; {unknown} of unknown length count as the mean" if unknown else ""
    report.note(
        f"shard {job.shard}: {len(mine)} of {len(seconds)} videos, {hours:.2f} of {whole:.2f} "
        f"hours (plan {plan}: the same for every shard){guessed}"
    )
    facts = {"shard": str(job.shard), "shard_plan": plan}
    return replace(job, inputs=[job.inputs[i] for i in mine]), facts
