"""`--engine ray`: the same run on a Ray cluster. The only folder that imports ray.

    driver ── unit ──▶ model worker (actor, CPU or a share of a GPU) ── request ──▶ decoder (actor)
      ▲                     │  rows -> model -> OUT, atomically                        │
      └───── events ────────┘◀───── a stream of at most AHEAD rows that wait ──────────┘

The driver is the one of every run (`run/driver.py`), over a pool of actors. Files are written where
the rows are made; only words travel to the driver.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.machine.timing import Works
from tubelet.run.driver import Driver
from tubelet.run.job import Job, Reporter, Stopping
from tubelet.run.out import Out
from tubelet.run.parts.units import busy_workers, groups
from tubelet.run.share.durations import lengths

try:
    import ray
except ImportError as error:
    raise UsageError("--engine ray needs Ray: pip install 'tubelet[ray]'") from error

from tubelet.run.ray.actor_pool import RayPool
from tubelet.run.ray.actors import ModelWorker, cause_of
from tubelet.run.ray.reach import check_answers as check_answers


@dataclass(frozen=True)
class Cluster:
    """How a run uses Ray. address: None starts Ray on this machine (or takes $RAY_ADDRESS). gpus:
    of a model worker, a fraction for several per GPU; 0 on a CPU. part_s: how long a part of a
    long video is; a video is long from two parts on."""

    address: str | None = None
    gpus: float = 0.0
    part_s: float = 300.0
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def run_ray(
    job: Job, extractors: Sequence[Extractor], out: Out, report: Reporter, stopping: Stopping,
    works: Works, *, cluster: Cluster,
) -> int:  # fmt: skip
    """As `run.run_local`, on a Ray cluster. The number of failed inputs."""
    import torch

    on_term = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ours = not ray.is_initialized()
    if ours:
        options = {"log_to_driver": False, "include_dashboard": False, **cluster.options}
        address = cluster.address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            options = {k: v for k, v in options.items() if k == "log_to_driver"}
        try:
            ray.init(address=address or "local", logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"no Ray at {address}: {cause_of(error)}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray's own would end us without a word
    threads = torch.get_num_threads()
    # The parts of a long video meet in OUT, and a store's OUT is made on a disk of each node.
    job = replace(job, part_s=cluster.part_s if out.is_local else None)
    order = ray.put(pickle.dumps((replace(job, inputs=[]), out, threads)))
    models = ray.put(pickle.dumps(list(extractors)))
    resources = {"num_cpus": 1 if cluster.gpus else threads, "num_gpus": cluster.gpus}
    device = "cuda" if cluster.gpus else extractors[0].device

    def hire() -> tuple[Any, Any]:
        kind: Any = ray.remote(ModelWorker)
        actor = kind.options(**resources, max_restarts=0)
        actor = actor.remote(order, models, device, bool(cluster.gpus))
        return actor, actor.ready.remote()

    items = [_absolute(item) for item in job.inputs]
    try:
        seconds = lengths(items, limit=job.timeout, note=report.note)
        units = groups(items, seconds, job.part_s, job.workers)
        workers = busy_workers(units, job.workers)
        return Driver(job, out, report, RayPool(hire), stopping).work(units, workers, works)
    finally:
        if ours:
            ray.shutdown()


def _absolute(item: Input) -> Input:
    """Workers have working folders of their own."""
    return replace(item, path=str(Path(item.path).absolute())) if Path(item.path).exists() else item
