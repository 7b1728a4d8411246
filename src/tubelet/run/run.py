"""Many videos: skip what is done, share the rest, record what fails.

What goes wrong with one input, whatever it is, becomes a line of failures.jsonl and the run goes
on. When even that line cannot be written, OUT is unusable and the run ends with StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tubelet.extraction.extractor import Extractor
from tubelet.machine.timing import Works
from tubelet.run.driver import Driver
from tubelet.run.inline import InlinePool
from tubelet.run.job import Job, Outcome, Reporter, Stopping, nobody
from tubelet.run.out import Out, open_out, targets_of
from tubelet.run.parts.units import in_order
from tubelet.run.share.durations import share_of
from tubelet.store.folder import check_ids

__all__ = ["Job", "Outcome", "Reporter", "run"]

Engine = Callable[[Job, Sequence[Extractor], Out, Reporter, Stopping, Works], int]
"""What does the work of a run that has been set up, and counts the failed inputs."""


def run(
    job: Job,
    extractors: Sequence[Extractor],
    report: Reporter,
    engine: Engine | None = None,
    *,
    stopping: Stopping = nobody,
    works: Works | None = None,
) -> int:
    """Extract every input. Returns the number of failed ones; each is in OUT/failures.jsonl.

    works: hears where the time goes.

    UsageError about ids, OUT or the recipe is raised before any input is tried; StoreError when
    OUT stops being writable.
    """
    check_ids(item.id for item in job.inputs)
    job, facts = share_of(job, report)
    works = works or Works()
    more = {"workers": job.workers, **facts}
    targets = targets_of(
        [e.name for e in extractors],
        [e.recipe() for e in extractors],
        [{**e.run_facts(), **more} for e in extractors],
    )
    shard = str(job.shard) if job.shard else None
    with open_out(
        job.out, targets, fmt=job.fmt, overwrite=job.overwrite, total=len(job.inputs),
        shard=shard, works=works,
    ) as out:  # fmt: skip
        if job.retry_failed:
            known = out.failures()
            job = replace(job, inputs=[item for item in job.inputs if item.id in known])
            out.expect(len(job.inputs))
        report.expect(len(job.inputs))
        return (engine or run_local)(job, extractors, out, report, stopping, works)


def run_local(
    job: Job, extractors: Sequence[Extractor], out: Out, report: Reporter, stopping: Stopping,
    works: Works,
) -> int:  # fmt: skip
    """In this process, or in worker processes of this machine."""
    workers = min(max(job.workers, len(job.devices)), len(job.inputs))
    if workers == 0:
        return 0
    # Contact sheets are made by a pass over the whole; parts meet in a folder of this machine.
    if workers == 1 or job.debug_frames or not out.is_local:
        job = replace(job, part_s=None)
    alone = all(e.batch_size == 1 for e in extractors)
    units = in_order(job.inputs, job.part_s, workers, at_once=1 if alone else None)
    if job.timeout or workers > 1:
        from tubelet.run.processes.process_pool import ProcessPool

        pool = ProcessPool(job, extractors, out)
    else:
        pool = InlinePool(job, extractors, out, stopping)
    return Driver(job, out, report, pool, stopping).work(units, workers, works)
