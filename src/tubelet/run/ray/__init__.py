"""`--engine ray`: the same run on a Ray cluster. The only folder that imports ray.

    driver ── unit ──▶ model worker (actor, CPU or a share of a GPU) ── request ──▶ decoder (actor)
      ▲                     │  rows -> model -> OUT, atomically                        │
      └───── events ────────┘◀───── a stream of at most AHEAD rows that wait ──────────┘

A unit is a group of short videos, or one step of a long one (plan, part k, join). The driver holds
the claims, hands out the longest first, and gives what a lost worker held to another one, at most
ATTEMPTS times. Files are written where the rows are made; only words travel to the driver.
"""

from __future__ import annotations

import logging
import math
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
from tubelet.run.claims.disk import Claims
from tubelet.run.job import Job, Reporter, Stopping, nobody
from tubelet.store.folder import Folder

try:
    import ray
except ImportError as error:
    raise UsageError("--engine ray needs Ray: pip install 'tubelet[ray]'") from error

from tubelet.run.ray.actors import ModelWorker, cause_of
from tubelet.run.ray.driver import ActorHandle, Driver
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
    job: Job, extractors: Sequence[Extractor], folders: Sequence[Folder], claims: Claims,
    report: Reporter, stopping: Stopping = nobody, *, cluster: Cluster,
) -> int:  # fmt: skip
    """As `local.run`, on a Ray cluster. The number of failed inputs."""
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
    clean = replace(job, inputs=[], out=job.out.absolute())
    homes = [replace(folder, path=folder.path.absolute()) for folder in folders]
    # The parts of a long video meet in OUT, and a store's OUT is made on a disk of each node.
    part_s = cluster.part_s if job.store is None else math.inf
    order = ray.put(pickle.dumps((clean, homes, threads, part_s)))
    models = ray.put(pickle.dumps(list(extractors)))
    resources = {"num_cpus": 1 if cluster.gpus else threads, "num_gpus": cluster.gpus}
    device = "cuda" if cluster.gpus else extractors[0].device

    def hire() -> ActorHandle:
        kind: Any = ray.remote(ModelWorker)
        actor = kind.options(**resources, max_restarts=0)
        actor = actor.remote(order, models, device, bool(cluster.gpus))
        return ActorHandle(actor, actor.ready.remote())

    absolute = [_absolute(item) for item in job.inputs]
    try:
        driver = Driver(replace(job, inputs=absolute), homes, claims, report, hire, part_s)
        return driver.work(job.workers, stopping)
    finally:
        if ours:
            ray.shutdown()


def _absolute(item: Input) -> Input:
    """Workers have working folders of their own."""
    return replace(item, path=str(Path(item.path).absolute())) if Path(item.path).exists() else item
