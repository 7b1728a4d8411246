"""Multigrid training: Wu, Girshick, He, Feichtenhofer & Kraehenbuehl, CVPR 2020, arXiv 1912.00998.

A batch of many small clips costs as much as one of few large clips, and early in training it
teaches as much. Two cycles of shapes, each with the batch that keeps frames x crop^2 x batch:

    long cycle (section 3.2), once per stage of the learning rate       batch   frames   crop
    |---- 8x ----|-- 4x --|- 2x -|1x|---- 8x ----|-- 4x --|- 2x -|1x|-- 1x, fine-tuning --|
    short cycle (3.3), inside a phase, batch by batch: crop x 1/2, crop x 1/sqrt(2), crop, ...

The learning rate grows with the batch of the long cycle (not of the short one). Batch norm keeps
its statistics at `norm_size` clips: large batches are split, small ones synchronised (3.4). The
interval between frames is drawn anew for each clip, so that fewer frames can span the same time.

A pure function of its arguments, without torch: `plan(base, rate, multigrid)`. The numbers are
those of the reference's schedule (`multigrid.json` of the conformance data). Where the reference
fails, this works: a long cycle without a short one, a phase of no epochs, a batch that rounds to
zero clips, splits that do not divide a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Literal

from tubelet.errors import UsageError
from tubelet.train.schedule import LearningRate

ROOT_HALF = 0.5**0.5


@dataclass(frozen=True)
class Base:
    """Training without multigrid. batch_size: clips per iteration, over all devices.

    jitter: least and largest short side (pixels) that frames are resized to before the crop.
    """

    batch_size: int
    frames: int
    crop: int
    interval: int
    jitter: tuple[int, int]
    devices: int = 1

    def __post_init__(self) -> None:
        if min(self.batch_size, self.frames, self.crop, self.interval, self.devices) < 1:
            raise UsageError(f"{self}: every number must be at least 1")
        if self.batch_size % self.devices:
            raise UsageError(
                f"batch size {self.batch_size} does not divide over {self.devices} devices; "
                "choose a multiple"
            )


@dataclass(frozen=True)
class Multigrid:
    """epoch_factor: epochs of multigrid training per epoch of the base schedule.

    long_factors: (of frames, of crop) for each shape of the long cycle, the last one (1, 1).
    short_factors: of the base crop. norm_size: clips that batch statistics are taken over.
    evaluations: checkpoints per phase.
    """

    long_cycle: bool = True
    short_cycle: bool = True
    epoch_factor: float = 1.5
    long_factors: tuple[tuple[float, float], ...] = (
        (0.25, ROOT_HALF),
        (0.5, ROOT_HALF),
        (0.5, 1.0),
        (1.0, 1.0),
    )
    short_factors: tuple[float, float] = (0.5, ROOT_HALF)
    norm_size: int = 8
    evaluations: int = 3

    def __post_init__(self) -> None:
        factors = [f for pair in self.long_factors for f in pair] + list(self.short_factors)
        if not factors or not all(0 < f <= 1 for f in factors):
            raise UsageError(f"multigrid factors {factors}: each must be above 0 and at most 1")
        if self.epoch_factor <= 0 or self.norm_size < 1 or self.evaluations < 1:
            raise UsageError("epoch_factor, norm_size and evaluations must be positive")


@dataclass(frozen=True)
class BatchStatistics:
    """How batch statistics are taken.

    batch: per device. sub: each device's batch in `groups` parts. sync: over `groups` devices.
    """

    kind: Literal["batch", "sub", "sync"] = "batch"
    groups: int = 1


@dataclass(frozen=True)
class Shape:
    """One batch of one device: clips, frames, side of the crop, range of the resized short side."""

    batch: int
    frames: int
    crop: int
    jitter: tuple[int, int]

    @property
    def volume(self) -> int:
        """Frames x crop^2 of one clip: what it costs a convolutional network."""
        return self.frames * self.crop**2


@dataclass(frozen=True)
class Phase:
    """Epochs [start, end) with one shape of the long cycle.

    shapes: of batch 0, 1, 2, ... of an epoch, over and over (one, without a short cycle). stage:
    of the base learning rate. multiplier: clips per base clip. intervals: least and largest
    interval between frames, drawn uniformly for each clip.
    """

    start: int
    end: int
    stage: int
    multiplier: int
    frames: int
    crop: int
    norm: BatchStatistics
    intervals: tuple[int, int]
    shapes: tuple[Shape, ...]

    def shape(self, iteration: int) -> Shape:
        """The shape of an iteration of an epoch."""
        return self.shapes[iteration % len(self.shapes)]

    def iterations(self, samples: int) -> int:
        """Full batches that `samples` samples of one device give, by the mean batch."""
        return math.floor(samples / fmean(shape.batch for shape in self.shapes))

    @property
    def volume(self) -> float:
        """Mean frames x crop^2 of a clip of this phase."""
        clips = sum(shape.batch for shape in self.shapes)
        return sum(shape.batch * shape.volume for shape in self.shapes) / clips


@dataclass(frozen=True)
class Plan:
    """What will be run: phases in order (empty ones left out), learning rate, evaluations.

    schedule: the long cycle as planned, with its empty phases; () without a long cycle.
    """

    base: Base
    phases: tuple[Phase, ...]
    rate: LearningRate
    schedule: tuple[tuple[int, int, int], ...]
    evaluations: tuple[int, ...]
    base_epochs: float

    def phase(self, epoch: int) -> Phase:
        """The phase of an epoch."""
        return next(phase for phase in self.phases if phase.start <= epoch < phase.end)

    @property
    def volume_saving(self) -> float:
        """Frames x crop^2 that the base schedule would process, over what this plan does."""
        ours = sum((phase.end - phase.start) * phase.volume for phase in self.phases)
        return self.base_epochs * self.base.frames * self.base.crop**2 / ours

    @property
    def iteration_saving(self) -> float:
        """Iterations of the base schedule over those of this plan."""
        per_device = self.base.batch_size // self.base.devices
        ours = sum(
            (phase.end - phase.start) / fmean(shape.batch for shape in phase.shapes)
            for phase in self.phases
        )
        return self.base_epochs / per_device / ours


def plan(base: Base, rate: LearningRate, multigrid: Multigrid | None = None) -> Plan:
    """The phases of training, and its learning rate. Without `multigrid`: one phase, as given.

    Raises UsageError where a long cycle has no stages to run in.
    """
    epochs = math.ceil(rate.epochs)
    if multigrid is None or not (multigrid.long_cycle or multigrid.short_cycle):
        norm, intervals = BatchStatistics(), (base.interval, base.interval)
        shape = _shape(base, frames=base.frames, crop=base.crop, batch=None)
        only = Phase(0, epochs, 0, 1, base.frames, base.crop, norm, intervals, (shape,))
        return Plan(base, (only,), rate, (), tuple(range(epochs)), rate.epochs)
    if not multigrid.long_cycle:
        stretched = _stretched(rate, multigrid.epoch_factor)
        end = math.ceil(stretched.epochs)
        only = _phase(base, multigrid, cell=(0, end, 0, 1), frames=base.frames, crop=base.crop)
        return Plan(base, (only,), stretched, (), tuple(range(end)), rate.epochs)
    cells = _long_cycle(base, rate, multigrid)
    phases = [
        _phase(base, multigrid, cell=(start, end, stage, many), frames=frames, crop=crop)
        for start, end, stage, (many, frames, crop) in cells
    ]
    schedule = tuple((phase.stage, phase.start, phase.end) for phase in phases)
    return Plan(
        base,
        tuple(phase for phase in phases if phase.end > phase.start),
        _long_rate(rate, phases),
        schedule,
        _evaluations(schedule, multigrid.evaluations),
        rate.epochs,
    )


def _stretched(rate: LearningRate, factor: float) -> LearningRate:
    """The same policy over `factor` times the epochs; warm-up keeps its length."""
    return replace(
        rate, epochs=int(rate.epochs * factor), steps=tuple(int(s * factor) for s in rate.steps)
    )


def _many(base: Base, frames: float, crop: float) -> int:
    """Clips of frames x crop^2 that cost as much as one base clip; at least 1."""
    return max(round(base.frames * base.crop**2 / (frames * crop * crop)), 1)


def _long_cycle(
    base: Base, rate: LearningRate, multigrid: Multigrid
) -> list[tuple[int, int, int, tuple[int, int, int]]]:
    """(start, end, stage, (multiplier, frames, crop)) of every phase.

    Each shape of a cycle gets the same number of iterations; a stage keeps its share of the
    epochs; the last stage is trained at the base shape, shortened as much as the others were;
    then everything is stretched to epoch_factor times the base epochs.
    """
    if rate.policy != "steps" or len(rate.steps) < 2:
        raise UsageError(
            "a long cycle runs once per stage of the learning rate and fine-tunes in the last one: "
            "it needs policy='steps' with two steps or more; or use long_cycle=False"
        )
    shapes: list[tuple[int, int, int]] = []
    mean_many: list[float] = []
    for frame_factor, crop_factor in multigrid.long_factors:
        frames, crop = max(round(base.frames * frame_factor), 1), round(base.crop * crop_factor)
        crops: list[float] = [crop]
        if multigrid.short_cycle:
            crops = [base.crop * factor for factor in multigrid.short_factors] + crops
        many = [_many(base, frames, side) for side in crops]
        shapes.append((many[-1], frames, crop))
        mean_many.append(fmean(many))
    lengths: list[tuple[int, tuple[int, int, int], float]] = []
    iterations = 0.0
    for stage, (first, last) in enumerate(pairwise(rate.steps)):
        for shape, many in zip(shapes, mean_many, strict=True):
            share = (last - first) * many / sum(mean_many)
            iterations += share / many
            lengths.append((stage, shape, share))
    saving = rate.steps[-1] / iterations
    tuning = (rate.epochs - rate.steps[-1]) / saving * mean_many[-1]
    lengths.append((len(rate.steps) - 1, shapes[-1], tuning))
    stretch = rate.epochs * multigrid.epoch_factor / sum(length for *_, length in lengths)
    cells: list[tuple[int, int, int, tuple[int, int, int]]] = []
    start, total = 0, 0.0
    for stage, shape, length in lengths:
        total += length * stretch
        cells.append((start, round(total), stage, shape))
        start = round(total)
    return _with_fine_tuning(cells)


def _with_fine_tuning(
    cells: list[tuple[int, int, int, tuple[int, int, int]]],
) -> list[tuple[int, int, int, tuple[int, int, int]]]:
    """The last phase, at the base shape, is never rounded away: it takes the final epoch."""
    end = cells[-1][1]
    if cells[-1][0] < end:
        return cells
    cut = [
        (min(start, end - 1), min(stop, end - 1), stage, shape)
        for start, stop, stage, shape in cells[:-1]
    ]
    return [*cut, (end - 1, end, *cells[-1][2:])]


def _long_rate(rate: LearningRate, phases: list[Phase]) -> LearningRate:
    """One step per phase, scaled with its batch; the fine-tuning phase is cut in two: its first
    half continues at the rate of the stage before."""
    starts = [phase.start for phase in phases]
    last = phases[-1]
    factors = [rate.factors[phase.stage] * phase.multiplier for phase in phases]
    steps = (*starts, (last.start + last.end) // 2)
    scaled = (*factors[:-1], factors[-2], factors[-1])
    return replace(rate, epochs=last.end, steps=steps, factors=scaled)


def _phase(
    base: Base, multigrid: Multigrid, *, cell: tuple[int, int, int, int], frames: int, crop: int
) -> Phase:
    start, end, stage, many = cell
    per_device = base.batch_size * many // base.devices
    sides, batches = [crop], [per_device]
    if multigrid.short_cycle:
        # The short cycle never grows a crop: 158 stays 158 in a phase of 158 pixels.
        sides = [round(base.crop * factor) for factor in multigrid.short_factors] + sides
        fits = [round((crop / (base.crop * f)) ** 2) for f in multigrid.short_factors]
        batches = [per_device * max(fit, 1) for fit in fits] + batches
    shapes = tuple(
        _shape(base, frames=frames, crop=side, batch=batch)
        for side, batch in zip(sides, batches, strict=True)
    )
    interval = base.interval * max(base.frames // frames, 1)
    norm = _norm(per_device, base.devices, batches=batches, size=multigrid.norm_size)
    return Phase(start, end, stage, many, frames, crop, norm, (base.interval, interval), shapes)


def _shape(base: Base, *, frames: int, crop: int, batch: int | None) -> Shape:
    low = round(base.jitter[0] * crop / base.crop)
    return Shape(batch or base.batch_size // base.devices, frames, crop, (low, base.jitter[1]))


def _norm(per_device: int, devices: int, *, batches: list[int], size: int) -> BatchStatistics:
    """Statistics over `size` clips, as nearly as the batches and devices divide."""
    if per_device > size:
        wanted, common = per_device // size, math.gcd(*batches)
        return BatchStatistics("sub", max(d for d in range(1, wanted + 1) if common % d == 0))
    if per_device < size:
        wanted = min(int(size / per_device), devices)
        groups = max(d for d in range(1, wanted + 1) if devices % d == 0)
        return BatchStatistics("sync", groups) if groups > 1 else BatchStatistics()
    return BatchStatistics()


def _evaluations(schedule: tuple[tuple[int, int, int], ...], count: int) -> tuple[int, ...]:
    """Epochs (from 0) after which to evaluate: about `count` per phase, always its last."""
    found: list[int] = []
    for _, start, end in schedule:
        period = max((end - start) // count + 1, 1)
        found.extend(epoch for epoch in range(start, end) if (end - 1 - epoch) % period == 0)
    return tuple(found)
