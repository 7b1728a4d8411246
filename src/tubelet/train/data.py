"""Batches of clips, decoded as a stream. A video that cannot be read is left out of its batch,
counted and listed; nothing takes its place.

    Batch -- scan, decode, keep the wanted frames --> clips [B, 3, T, H, W], targets [B, classes]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tubelet.clips.views import TARGET_FPS
from tubelet.clips.windows import linspace_indices
from tubelet.decode.base import open_video, scan_video
from tubelet.errors import DamagedVideo, EmptyVideo, UsageError, VideoError
from tubelet.train.augment import Augment, training_clip
from tubelet.train.batch_plan import Batch, Draw
from tubelet.train.samples import Sample
from tubelet.types import ClipSpec


@dataclass(frozen=True)
class Bad:
    """A sample that could not be read."""

    path: str
    error: str


@dataclass(frozen=True)
class Loaded:
    """clips [B, 3, T, H, W] float32; targets [B, classes] shares or 0/1; places [B]: of each clip
    in its batch as planned; bad: samples left out."""

    batch: Batch
    clips: Tensor
    targets: Tensor
    places: tuple[int, ...]
    bad: tuple[Bad, ...]


def training_indices(
    n: int, fps: float, clip: ClipSpec, generator: np.random.Generator
) -> list[int]:
    """Frame indices [W] of a random clip of a video of n frames at `fps`, in the way that the
    weights' views are placed (see `clips/views.py`), at a random place.
    """
    if clip.sampling == "uniform":
        edges = [round((n - 1) / clip.frames * i) for i in range(clip.frames + 1)]
        return [int(generator.integers(a, max(b, a + 1))) for a, b in pairwise(edges)]
    if clip.sampling == "every-kth":
        length = clip.interval * (clip.frames - 1) + 1
        start = int(generator.integers(max(n - length, 0) + 1))
        return [min(start + i * clip.interval, n - 1) for i in range(clip.frames)]
    size = max(1.0, clip.interval * clip.frames / TARGET_FPS * fps)
    start = float(generator.uniform(0, max(n - size, 0)))
    return linspace_indices(start, start + size - 1, clip.frames, n - 1)


def count_frames(path: str) -> tuple[int, float]:
    """(frames, frames per second) of a video: from its packets, or decoded where those lie."""
    timeline = scan_video(path)
    if timeline.exact:
        return timeline.frames, float(timeline.fps)
    with open_video(path) as reader:
        n = sum(1 for _ in reader.frames())
    if not n:
        raise EmptyVideo(f"{path}: no frame could be decoded")
    return n, float(timeline.fps)


def read_frames(path: str, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """RGB [H, W, 3] of frames by index, in one pass that ends with the last of them.

    Raises DamagedVideo where one of them could not be decoded.
    """
    found: dict[int, NDArray[np.uint8]] = {}
    with open_video(path) as reader:
        for frame in reader.frames():
            if frame.index in wanted:
                found[frame.index] = frame.rgb()
                if len(found) == len(wanted):
                    return found
    gone = sorted(wanted - set(found))
    raise DamagedVideo(f"{path}: frame {gone[0]} could not be decoded")


@dataclass(frozen=True)
class ClipMaker:
    """Makes the clips of a batch; what a worker process runs."""

    samples: Sequence[Sample]
    classes: int
    spec: ClipSpec
    augment: Augment

    def __call__(self, batch: Batch) -> Loaded:
        """Each sample is decoded once, however many clips of it the batch has."""
        made: dict[int, Tensor] = {}
        bad: list[Bad] = []
        by_sample: dict[int, list[int]] = {}
        for place, draw in enumerate(batch.draws):
            by_sample.setdefault(draw.sample, []).append(place)
        for sample, places in by_sample.items():
            path = self.samples[sample].path
            try:
                clips = self._clips(path, [batch.draws[place] for place in places])
            except VideoError as error:
                bad.append(Bad(path, str(error)))
            else:
                made.update(zip(places, clips, strict=True))
        kept = sorted(made)
        targets = torch.zeros(len(kept), self.classes)
        for row, place in enumerate(kept):
            targets[row, list(self.samples[batch.draws[place].sample].labels)] = 1
        shape = (3, batch.shape.frames, batch.shape.crop, batch.shape.crop)
        clips = torch.stack([made[p] for p in kept]) if kept else torch.zeros(0, *shape)
        return Loaded(batch, clips, targets, tuple(kept), tuple(bad))

    def _clips(self, path: str, draws: Sequence[Draw]) -> list[Tensor]:
        n, fps = count_frames(path)
        generators = [np.random.default_rng(draw.seed) for draw in draws]
        picks: list[list[int]] = []
        for draw, generator in zip(draws, generators, strict=True):
            low, high = draw.intervals
            interval = int(generator.integers(low, high + 1))
            spec = replace(self.spec, frames=draw.shape.frames, interval=interval)
            picks.append(training_indices(n, fps, spec, generator))
        frames = read_frames(path, {i for pick in picks for i in pick})
        return [
            training_clip(
                np.stack([frames[i] for i in pick]),
                draw.shape,
                spec=self.spec,
                augment=self.augment,
                generator=generator,
            )
            for draw, generator, pick in zip(draws, generators, picks, strict=True)
        ]


class _Made(Dataset[Loaded]):
    """A data set whose keys are whole batches."""

    def __init__(self, make: ClipMaker) -> None:
        self.make = make

    def __getitem__(self, index: Batch) -> Loaded:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.make(index)


class _Order(Sampler[Batch]):
    """The batches of the present epoch."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


class Loader:
    """Batches in order, made ahead by `workers` processes (none: made when asked for)."""

    def __init__(self, make: ClipMaker, *, workers: int = 0) -> None:
        self._order = _Order()
        self._loader = DataLoader(
            _Made(make),
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_one_thread,
        )

    def epoch(self, batches: list[Batch]) -> Iterator[Loaded]:
        self._order.batches = batches
        return iter(self._loader)


@dataclass
class BadSamples:
    """Counts what was left out, and stops the run where it is too much.

    limit: largest share of the samples drawn so far that may be bad, once `patience` were drawn or
    an epoch is over.
    """

    limit: float
    patience: int = 100
    drawn: int = 0
    errors: dict[str, str] = field(default_factory=dict[str, str])
    count: int = 0

    def add(self, drawn: int, bad: Sequence[Bad]) -> None:
        """Raises UsageError above the limit, naming the first files."""
        self.drawn += drawn
        self.count += len(bad)
        for one in bad:
            self.errors[one.path] = one.error
        if self.drawn >= self.patience:
            self.check()

    def check(self) -> None:
        """As `add`, however few were drawn: at the end of an epoch."""
        if self.count > self.limit * self.drawn:
            few = "; ".join(list(self.errors.values())[:3])
            raise UsageError(
                f"{self.count} of the {self.drawn} samples drawn could not be read ({few}); the "
                f"limit is {self.limit:.1%}: repair or remove them, or raise max_bad"
            )
