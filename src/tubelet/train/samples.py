"""Labelled videos: from a list or a folder to samples, checked before anything is decoded.

    videos.csv                            a folder per class
    clips/a.mp4 3                         train/jump/a.mp4
    clips/b.mp4 3,17      (multi-label)   train/run/b.mp4
    clips/c.mp4,jump      (comma, names)
    "clips/d, e.mp4",jump,run

A path is relative to `root`, or to the list's folder. Labels are numbers from 0, or class names.
The first form is PySlowFast's.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tubelet.errors import UsageError, did_you_mean
from tubelet.inputs import SYNTHETIC, VIDEO_SUFFIXES, is_frame_folder

NUMBERED = re.compile(r"(.*\S)[ \t]+(-?\d+(?:,-?\d+)*)")


@dataclass(frozen=True)
class Sample:
    """One video and its classes, as numbers."""

    path: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """The samples of one list, and the names of all classes (numbers where there are no names)."""

    source: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def counts(self) -> list[int]:
        """Samples of every class."""
        found = Counter(label for sample in self.samples for label in sample.labels)
        return [found[i] for i in range(len(self.classes))]


def read_split(
    path: str | Path,
    *,
    classes: Sequence[str] | int | None = None,
    root: str | Path | None = None,
    multi_label: bool = False,
) -> Split:
    """The samples of a list file or a folder per class.

    classes: names in the order of their numbers, or how many there are; None takes what the list
    has (numbers up to the largest, or the sorted names). Raises UsageError for an empty split, a
    label out of range or of unknown name, several labels of a single-label sample, a file that is
    not there.
    """
    source = Path(path)
    if source.is_dir():
        rows = list(_folder_rows(source))
    elif source.is_file():
        rows = list(_list_rows(source, Path(root) if root else source.parent))
    else:
        raise UsageError(f"{source}: no such list or folder of training videos")
    if not rows:
        raise UsageError(
            f"{source}: an empty split; a list has lines `path label`, a folder one folder per "
            "class with videos in it"
        )
    names = _class_names(rows, classes, source)
    number = {name: i for i, name in enumerate(names)}
    samples = tuple(_sample(row, number, source, multi_label) for row in rows)
    _check_files(source, samples)
    return Split(str(source), samples, names)


@dataclass(frozen=True)
class _Row:
    """`line` is 0 for a folder."""

    line: int
    path: str
    labels: tuple[str, ...]


def _folder_rows(root: Path) -> Iterator[_Row]:
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        for video in sorted(folder.iterdir()):
            named = video.suffix.lower() in VIDEO_SUFFIXES and video.is_file()
            if named or (video.is_dir() and is_frame_folder(video)):
                yield _Row(0, str(video), (folder.name,))


def _list_rows(source: Path, root: Path) -> Iterator[_Row]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not a text file in UTF-8 ({error.reason})") from None
    for line, content in enumerate(text.splitlines(), start=1):
        content = content.strip()
        if not content or content.startswith("#"):
            continue
        numbered = NUMBERED.fullmatch(content)
        if numbered:
            path, labels = numbered[1], tuple(numbered[2].split(","))
        elif "," in content:
            cells = [cell.strip() for cell in next(csv.reader([content]))]
            path, labels = cells[0], tuple(cell for cell in cells[1:] if cell)
        else:
            path, _, label = content.rpartition(" ")
            labels = (label,)
        if line == 1 and path.lower() in ("path", "video", "file"):
            continue
        if not path or not labels:
            raise UsageError(f"{source}, line {line}: {content!r} has no label; need `path label`")
        full = path if path.startswith(SYNTHETIC) else str(root / path)
        yield _Row(line, full, labels)


def _class_names(
    rows: list[_Row], classes: Sequence[str] | int | None, source: Path
) -> tuple[str, ...]:
    if isinstance(classes, int):
        if classes < 1:
            raise UsageError(f"classes is {classes}; there must be at least one")
        return tuple(str(i) for i in range(classes))
    if classes is not None:
        return tuple(classes)
    found = {label for row in rows for label in row.labels}
    if all(re.fullmatch(r"-?\d+", label) for label in found):
        return tuple(str(i) for i in range(max(int(label) for label in found) + 1))
    return tuple(sorted(found))


def _sample(row: _Row, number: dict[str, int], source: Path, multi_label: bool) -> Sample:
    at = f"{source}, line {row.line}" if row.line else row.path
    labels: list[int] = []
    for label in row.labels:
        if label in number:
            labels.append(number[label])
        elif re.fullmatch(r"-?\d+", label):
            if int(label) < 0:
                raise UsageError(f"{at}: label {label} is out of range; labels are numbered from 0")
            if int(label) >= len(number):
                raise UsageError(
                    f"{at}: label {label} is out of range; there are {len(number)} classes, "
                    f"numbered 0 to {len(number) - 1}"
                )
            labels.append(int(label))
        else:
            raise UsageError(f"{at}: no class {label!r}{did_you_mean(label, number)}")
    if len(labels) > 1 and not multi_label:
        raise UsageError(f"{at}: {len(labels)} labels; several need multi_label=True")
    return Sample(row.path, tuple(sorted(set(labels))))


def _check_files(source: Path, samples: Sequence[Sample]) -> None:
    """Only that they are there: whether they can be decoded is known when they are."""
    gone = [s.path for s in samples if not s.path.startswith(SYNTHETIC) and not _readable(s.path)]
    if gone:
        few = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        raise UsageError(
            f"{source}: {len(gone)} of {len(samples)} videos are missing, empty or unreadable: "
            f"{few}"
        )


def _readable(path: str) -> bool:
    file = Path(path)
    try:
        if file.is_dir():
            return True
        with file.open("rb") as handle:
            return bool(handle.read(1))
    except OSError:
        return False


def check_splits(train: Split, val: Split | None, *, allow_absent: bool = False) -> None:
    """Every class has a training sample, unless allowed. Raises UsageError naming the classes."""
    if val is not None and val.classes != train.classes:
        raise UsageError(
            f"{val.source} has other classes than {train.source}; give both the same list"
        )
    counts = train.counts()
    absent = [name for name, count in zip(train.classes, counts, strict=True) if not count]
    wanted = {label for sample in (val.samples if val else ()) for label in sample.labels}
    tested = [train.classes[label] for label in sorted(wanted) if not counts[label]]
    if tested:
        raise UsageError(
            f"{len(tested)} classes of {val.source if val else ''} have no training sample in "
            f"{train.source}: {', '.join(tested[:5])}; they cannot be learned"
        )
    if absent and not allow_absent:
        raise UsageError(
            f"{len(absent)} of {len(train.classes)} classes have no training sample in "
            f"{train.source}: {', '.join(absent[:5])}; add some, or set allow_absent=True"
        )
