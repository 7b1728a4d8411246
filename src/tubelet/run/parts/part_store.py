"""A long video in parts: each makes its rows, the last step joins them to the files of one pass.

    OUT/.tubelet/parts/<hash>/plan.npz     when frames appear, where decoding may begin
    OUT/.tubelet/parts/<hash>/<k>.npz      rows of part k, and checksums of the pictures at its cuts

The hash is made of the id, the source's fingerprint, the recipes and the cut, so what a dead run
left is used by the next one, and never for anything else. A part that cannot be vouched for
(`decode.part`), or a model that fails in one, sends the video back to one worker as a whole.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.config import stable_hash
from tubelet.decode.part import PartReader
from tubelet.decode.scan import Entries, Timeline, scan
from tubelet.errors import NotSplittable, StoreError
from tubelet.extraction.lanes import Here, Lane, Opening
from tubelet.extraction.recording import Recording, Source, Tally
from tubelet.inputs import in_range
from tubelet.machine.atomic import atomic_file
from tubelet.run.claims.disk import HIDDEN
from tubelet.run.parts.cuts import Part, cut
from tubelet.store.formats.npz import write

ARRAYS = ("times_s", "stamps", "keys")


class PartStore:
    """Where the parts of one video lie. key: everything that they depend on."""

    def __init__(self, out: Path, key: Sequence[Any]) -> None:
        self.folder = out / HIDDEN / "parts" / stable_hash(list(key))

    def plan(
        self,
        path: str,
        lanes: Sequence[Lane],
        start_s: float | None,
        end_s: float | None,
        *,
        part_s: float,
    ) -> list[Part]:
        """The parts; the packets are read once, by whoever comes first."""
        try:
            found = self.timeline()
        except StoreError:
            found = scan(path)
            if found.entries is None:
                return []
            _save(self.folder / "plan.npz", _plain(found), _arrays(found))
        return cut(found, lanes, start_s, end_s, part_s=part_s)

    def timeline(self) -> Timeline:
        """What `plan` found. StoreError where there is nothing."""
        facts, arrays = _load(self.folder / "plan.npz")
        entries = Entries(arrays["stamps"], arrays["keys"])
        facts["fps"] = Fraction(facts["fps"])
        return Timeline(times_s=arrays["times_s"], entries=entries, **facts)

    def has(self, part: Part) -> bool:
        """Whether a part is finished."""
        try:
            with zipfile.ZipFile(self._file(part.index)) as archive:
                return "meta.npy" in archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return False

    def keep(self, part: Part, recordings: Sequence[Recording], marks: dict[int, int]) -> None:
        """Store the rows of a part. StoreError when OUT cannot be written."""
        rows = {
            f"{k}/{name}": own
            for k, recording in enumerate(recordings)
            for name, own in recording.arrays.items()
        }
        columns = {
            f"{k}/{name}": values
            for k, recording in enumerate(recordings)
            for name, values in recording.columns().items()
        }
        meta = {"marks": list(marks.items()), "facts": [r.provenance for r in recordings]}
        with atomic_file(self._file(part.index)) as file:
            more: dict[str, Any] = {**columns, "meta": _text(meta)}
            write(file, rows, more)

    def join(self, count: int, recordings: Sequence[Recording]) -> None:
        """All rows into `recordings`, as one pass would have made them.

        NotSplittable when neighbours decoded different pictures, StoreError for a missing part.
        """
        marks: dict[int, int] = {}
        meta: dict[str, Any] = {}
        for index in range(count):
            with _archive(self._file(index)) as archive:
                meta = json.loads(bytes(_whole(archive, "meta")))
                for frame, mark in meta["marks"]:
                    if marks.setdefault(frame, mark) != mark:
                        raise NotSplittable(f"part {index}: frame {frame} has other pixels")
                for k, recording in enumerate(recordings):
                    columns = {n: _whole(archive, f"{k}/{n}") for n in recording.columns()}
                    rows = {n: _each(archive, f"{k}/{n}") for n in recording.arrays}
                    recording.extend(columns, rows)
        for recording, facts in zip(recordings, meta["facts"], strict=True):
            recording.finish(facts, expected=len(recording))

    def clear(self) -> None:
        """The video is finished, or is done as a whole."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index}.npz"


def opening_of(part: Part, timeline: Timeline, marks: dict[int, int]) -> Opening:
    """Reads one part only; its checksums come into `marks`."""

    @contextmanager
    def opening(source: Source, lanes: Sequence[Lane], tally: Tally) -> Iterator[Here]:
        color = lanes[0].color
        with PartReader(
            source.path, timeline, first=part.first, stop=part.stop, color=color
        ) as reader:
            ranged = in_range(reader, source.start_s, source.end_s)
            yield Here(ranged, source, lanes, tally, part.rows)
            marks.update(reader.marks)

    return opening


def check(part: Part, recordings: Sequence[Recording]) -> None:
    """NotSplittable for a part whose rows are not all there, or whose model failed."""
    for recording, rows in zip(recordings, part.rows, strict=True):
        if recording.fault is not None:
            raise NotSplittable(str(recording.fault.error))
        if len(recording) != len(rows):
            raise NotSplittable(f"part {part.index} gave {len(recording)} of {len(rows)} rows")


def _plain(found: Timeline) -> dict[str, Any]:
    facts = {k: v for k, v in asdict(found).items() if k not in ("times_s", "entries")}
    return {**facts, "fps": str(found.fps)}


def _arrays(found: Timeline) -> dict[str, NDArray[Any]]:
    assert found.entries is not None
    return {
        "times_s": found.times_s,
        "stamps": found.entries.stamps,
        "keys": found.entries.keys,
    }


def _text(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _save(path: Path, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    with atomic_file(path) as file:
        np.savez(file, meta=_text(meta), **arrays)  # pyright: ignore[reportArgumentType]


def _load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with _archive(path) as archive:
        return json.loads(bytes(_whole(archive, "meta"))), {n: _whole(archive, n) for n in ARRAYS}


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error


def _whole(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _each(archive: zipfile.ZipFile, name: str) -> Iterator[NDArray[Any]]:
    """Row by row, so that memory does not grow with a part."""
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(member.read(size), dtype).reshape(shape[1:])
