"""Which clips make which batch: a pure function of seed, epoch, phase and device.

An epoch is one permutation of the samples, cut into the batches of all devices. Device r takes
clips r*b .. r*b + b of every global batch, so that what all devices see together does not depend
on how many there are. Incomplete batches at the end are left out; samples are never used twice to
fill one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tubelet.errors import UsageError
from tubelet.train.multigrid import Phase, Shape


@dataclass(frozen=True)
class Draw:
    """One clip to make: `seed` decides its interval, its place in time and its augmentation."""

    sample: int
    seed: tuple[int, ...]
    shape: Shape
    intervals: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """The clips of one device in one iteration."""

    index: int
    shape: Shape
    draws: tuple[Draw, ...]


def epoch_batches(
    samples: int,
    phase: Phase,
    *,
    seed: int,
    epoch: int,
    device: int = 0,
    devices: int = 1,
    repeats: int = 1,
) -> list[Batch]:
    """The batches of one device. With repeated augmentation (1901.09335) a batch of b clips is
    b / repeats samples, `repeats` times each, with different clips.

    Raises UsageError where not one batch can be filled, or repeats does not divide a batch.
    """
    order = np.random.default_rng([seed, epoch, 0x5A]).permutation(samples)
    count = phase.iterations(samples * repeats // devices)
    batches: list[Batch] = []
    at = 0
    for index in range(count):
        shape = phase.shape(index)
        clips = shape.batch * devices
        if clips % repeats:
            raise UsageError(
                f"a batch of {clips} clips does not divide into {repeats} repeats of each sample"
            )
        chosen = order[at : at + clips // repeats]
        at += len(chosen)
        if len(chosen) * repeats < clips:
            break
        # Copies lie half a batch and more apart, so that neighbours are different samples.
        pairs = [(int(s), r) for r in range(repeats) for s in chosen]
        mine = pairs[device * shape.batch : (device + 1) * shape.batch]
        draws = tuple(Draw(s, (seed, epoch, s, r), shape, phase.intervals) for s, r in mine)
        batches.append(Batch(index, shape, draws))
    if not batches:
        largest = max(shape.batch for shape in phase.shapes) * devices
        raise UsageError(
            f"epochs {phase.start} to {phase.end}: {samples} training samples do not fill one "
            f"batch of {largest} clips; lower batch_size, or use a shorter long cycle"
        )
    return batches
