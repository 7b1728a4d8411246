"""Runs of the tiny model on Ray."""

from functools import partial

from tests_support import Heard, tiny, tree
from tubelet.inputs import collect
from tubelet.scale.job import Job
from tubelet.scale.local import run


def go_ray(inputs, out, *extractors, part_s=1.0, heard=None, **job):
    from tubelet.scale.ray import Cluster, run_ray

    heard = heard or Heard()
    engine = partial(run_ray, cluster=Cluster(part_s=part_s))
    items = collect([str(i) for i in inputs])
    failed = run(Job(items, out, **job), extractors or [tiny()], heard, engine)
    return failed, heard


def features(out):
    return {k: v for k, v in tree(out).items() if k != "tubelet.json"}
