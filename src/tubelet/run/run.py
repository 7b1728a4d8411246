"""Many videos on this machine: skip what is done, share the rest, record what fails.

    for each input:   done? -> next     claimed by another process? -> later
                      extract -> store -> let the claim go

What goes wrong with one input, whatever it is, becomes a line of failures.jsonl and the run goes
on. When even that line cannot be written, OUT is unusable and the run ends with StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from tubelet.errors import StoreError
from tubelet.extraction.extractor import Extractor
from tubelet.machine.atomic import sweep
from tubelet.machine.timing import TIMER, Works
from tubelet.run.claims.disk import Claims
from tubelet.run.claims.objects import claims_of
from tubelet.run.job import (
    Job,
    Outcome,
    Reporter,
    Stopping,
    books,
    finish,
    nobody,
    open_folders,
    resume,
)
from tubelet.run.share.durations import share_of
from tubelet.run.worker import Worker
from tubelet.store.folder import Folder, check_ids

__all__ = ["Job", "Outcome", "Reporter", "run"]


Engine = Callable[[Job, Sequence[Extractor], Sequence[Folder], Claims, Reporter, Stopping], int]
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
    folders = open_folders(job, extractors, facts)
    sweep(job.out)
    if job.retry_failed:
        failed = {i for b in books(job, folders) for i in b.read()}
        job = replace(job, inputs=[item for item in job.inputs if item.id in failed])
    report.expect(len(job.inputs))
    shard = str(job.shard) if job.shard else None
    with claims_of(job, total=len(job.inputs), shard=shard, works=works) as claims:
        resume(folders, claims)
        try:
            failed = _work(job, extractors, folders, claims, report, engine, stopping)
        except KeyboardInterrupt:
            with suppress(StoreError):
                finish(job, folders)
            raise
        finish(job, folders)
        return failed


def _work(
    job: Job, extractors: Sequence[Extractor], folders: Sequence[Folder], claims: Claims,
    report: Reporter, engine: Engine | None, stopping: Stopping,
) -> int:  # fmt: skip
    if engine is not None:
        return engine(job, extractors, folders, claims, report, stopping)
    several = max(job.workers, len(job.devices)) > 1 and len(job.inputs) > 1
    if job.inputs and (job.timeout or several):
        from tubelet.run.processes.parent import run_workers

        return run_workers(job, extractors, folders, claims, report, stopping)
    claims.works.follow(TIMER.read)
    worker = Worker(job, extractors, folders, claims, report, stopping=stopping)
    return worker.work(job.inputs)
