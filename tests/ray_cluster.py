"""Runs of the tiny model on Ray, and long videos for them."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tubelet
from tests_support import Heard, tiny, tree
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import number_picture
from tubelet.inputs import Input, collect
from tubelet.run.job import Job
from tubelet.run.run import run


def go_ray(inputs, out, *extractors, part_s=1.0, heard=None, works=None, **job):
    from tubelet.run.ray import Cluster, run_ray

    heard = heard or Heard()
    engine = partial(run_ray, cluster=Cluster(part_s=part_s))
    items = collect([str(i) for i in inputs]) if not isinstance(inputs[0], Input) else inputs
    job = Job(items, out, **job)
    failed = run(job, extractors or [tiny()], heard, engine, works=works)
    return failed, heard


def features(out):
    return {k: v for k, v in tree(out).items() if k != "tubelet.json"}


@contextmanager
def places_of_workers():
    """Ray's processes find this tubelet and `tiny`."""
    places = [str(Path(__file__).parent), str(Path(tubelet.__file__).parents[1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        yield


def movie(path, codec="h264", *, frames, **options):
    """A video whose every picture shows its number."""
    pictures = (number_picture(i, width=64, height=48) for i in range(frames))
    encode(pictures, path, encoding=Encoding(codec, **options))
    return str(path)


def damage(path):
    """Random bytes in the middle of a file: pictures that its packets do not show to be broken."""
    data = bytearray(path.read_bytes())
    middle = slice(len(data) * 4 // 10, len(data) * 6 // 10)
    data[middle] = np.random.default_rng(0).bytes(len(data[middle]))
    path.write_bytes(data)
