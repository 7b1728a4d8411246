"""How long each input is, before any of them is decoded: what work is shared out by."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tubelet.errors import StoreError
from tubelet.inputs import Input
from tubelet.machine.heartbeat import CELLS, Silence, read_sign
from tubelet.run.job import Job, Reporter
from tubelet.run.processes.start import GRACE_S, TICK_S, ending
from tubelet.run.share import duration_reader as headers
from tubelet.run.share.duration_reader import seconds_of
from tubelet.run.share.shard import assign, plan_hash, weights

READERS = 16
"""Headers that are read at once: opening a file on a network disk is mostly waiting."""

STALLS = 3
"""Readers that may hang, each with up to READERS inputs, before nothing more is read."""

NAMED = 5
"""Inputs that a note names."""


def lengths(
    items: Sequence[Input],
    *,
    limit: float | None = None,
    note: Callable[[str], None] | None = None,
) -> list[float | None]:
    """`seconds_of` each, in order. limit: seconds without a sign of life after which what is being
    read is given up, and is of unknown length; None or 0: read in this process, without a limit.
    note: is told what was given up."""
    if not limit or not items:
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(seconds_of, items))
    watch = _Watch(items, limit)
    found = watch.read()
    if watch.lost and note is not None:
        named = [f"{items[k].shown} ({why})" for k, why in list(watch.lost.items())[:NAMED]]
        more = len(watch.lost) - len(named)
        note("length not read: " + ", ".join(named) + (f", and {more} more" if more else ""))
    return found


class _Watch:
    """Reads in a process that is ended and replaced when nothing moves. lost: why an input's
    length is not known, by its place."""

    def __init__(self, items: Sequence[Input], limit: float) -> None:
        self._items, self._limit = items, limit
        self._found: dict[int, float | None] = {}
        self.lost: dict[int, str] = {}

    def read(self) -> list[float | None]:
        """Who hangs is what was being read when nothing moved any more. Who crashes is found by
        reading the inputs that it may have been one by one: the same one on every machine."""
        left, stalls = deque([(list(range(len(self._items))), READERS)]), 0
        while left:
            places, at_once = left.popleft()
            in_hand, how = self._read(places, at_once)
            rest = [k for k in places if k not in self._found and k not in in_hand]
            if not how:
                stalls += 1
                self._lose(in_hand, f"nothing moved for {self._limit:g} s (--timeout)")
                if stalls == STALLS:
                    others = [k for k in range(len(self._items)) if k not in self._found]
                    self._lose(others, f"given up after {STALLS} such stops")
                    break
            elif len(in_hand) == 1:
                self._lose(in_hand, f"the process that read it ended with {how}")
            elif in_hand:
                left.append((in_hand, 1))
            elif rest:
                raise StoreError(f"lengths of inputs cannot be read: their reader ended with {how}")
            if rest:
                left.append((rest, at_once))
        return [self._found.get(k) for k in range(len(self._items))]

    def _lose(self, places: Sequence[int], why: str) -> None:
        for k in places:
            self._found[k] = None
            self.lost[k] = why

    def _read(self, places: Sequence[int], at_once: int) -> tuple[list[int], str]:
        """One process. What it had begun and not read when it ended, and how it ended; "" when it
        was killed for its silence."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        cells = context.RawArray("q", CELLS)
        items: Mapping[int, Input] = {k: self._items[k] for k in places}
        args = (theirs, cells, items, at_once)
        process = context.Process(target=headers.reader, args=args, daemon=True)
        process.start()
        theirs.close()
        silence, tick = Silence(), min(TICK_S, self._limit / 4)
        in_hand: set[int] = set()
        looked = time.monotonic()
        try:
            while True:
                if ours.poll(tick):
                    what, place, seconds = ours.recv()
                    if what == "begun":
                        in_hand.add(place)
                    else:
                        in_hand.remove(place)
                        self._found[place] = seconds
                now = time.monotonic()
                # While this process itself was stopped (Ctrl-Z), nobody was silent.
                elapsed, looked = min(now - looked, 2 * tick), now
                if silence.is_over(read_sign(cells), elapsed, self._limit):
                    return sorted(in_hand), ""
        except (EOFError, OSError):
            process.join(GRACE_S)
            return sorted(in_hand), ending(process)
        finally:
            process.kill()
            process.join(GRACE_S)
            ours.close()


def share_of(job: Job, report: Reporter) -> tuple[Job, dict[str, str]]:
    """The job of its shard alone, longest videos first, and what is recorded of that."""
    if job.shard is None:
        return job, {}
    seconds = lengths(job.inputs, limit=job.timeout, note=report.note)
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
