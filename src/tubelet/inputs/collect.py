"""What the user names -> videos with ids. Nothing is opened but lists and the index of a tar.

`<id>` is relative to the argument it came from: a file gives its stem, a folder or glob the path
below its fixed part, a list its `id` column or the stem (with the range, `<stem>_<start>_<end>`,
where several rows are ranges of one video), a frame folder its full name, a tar the paths of its
members. Only the last extension goes. Two inputs with one id are refused before any
work starts.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from tubelet.decode.frame_names import FLOW_FOLDERS, frames_below
from tubelet.errors import UsageError
from tubelet.inputs.archive import members
from tubelet.inputs.columns import remote_id
from tubelet.inputs.lists import read_list
from tubelet.inputs.object_store import videos_below
from tubelet.inputs.types import (
    IMAGE_SUFFIXES,
    LIST_SUFFIXES,
    SYNTHETIC,
    TAR_SUFFIXES,
    VIDEO_SUFFIXES,
    Input,
    check_name,
    is_url,
    stem_of,
    suffix_of,
)
from tubelet.store.remote.objects import object_scheme

__all__ = ["Input", "collect", "is_frame_folder"]


def collect(
    arguments: Iterable[str],
    *,
    frames_fps: Fraction | None = None,
    frames_pattern: str | None = None,
) -> list[Input]:
    """Every input of the command line, in order. UsageError for what cannot be right.

    frames_fps: rate of the folders of frames that have none of their own (a list's column `fps`).
    frames_pattern: which files of such a folder are its frames, as in `img_%05d.jpg`.
    A path that does not exist is refused, as are an empty folder, list or tar and a glob without a
    match. What a list names and does not exist is kept: it becomes a failure of that input.
    """
    found: list[Input] = []
    seen: dict[str, str] = {}
    for argument in arguments:
        for item in expand(argument):
            check_name(item.id, where=argument)
            if item.id in seen:
                raise UsageError(
                    f"two inputs have the id {item.id!r}: {seen[item.id]} and {item.shown}; "
                    "extract them into different folders or give ids in a list"
                )
            seen[item.id] = item.shown
            found.append(item)
    if frames_fps is None and frames_pattern is None:
        return found
    return _as_told(found, frames_fps, frames_pattern)


def _as_told(items: Sequence[Input], fps: Fraction | None, pattern: str | None) -> list[Input]:
    """Rate and pattern on every folder of frames. UsageError where there is none."""
    folders = {item.id for item in items if item.member is None and os.path.isdir(item.path)}
    if not folders:
        option = "--frames-fps" if fps is not None else "--frames-pattern"
        raise UsageError(f"{option}: no input is a folder of frames; leave the option out")
    return [
        replace(item, fps=item.fps or fps, pattern=pattern) if item.id in folders else item
        for item in items
    ]


def check_rates(items: Iterable[Input]) -> None:
    """UsageError for a folder of frames whose rate nobody told."""
    for item in items:
        if item.fps is None and item.member is None and os.path.isdir(item.path):
            raise UsageError(
                f"{item.path} is a folder of frames, which has no frame rate: say which, with "
                "--frames-fps 25, or in a column `fps` of a list"
            )


def expand(argument: str) -> Iterator[Input]:
    """The inputs of one argument."""
    check_name(argument, where="input")
    if is_url(argument) or argument.startswith(SYNTHETIC):
        yield Input(remote_id(argument), argument)
    elif object_scheme(argument) and suffix_of(argument) not in LIST_SUFFIXES:
        yield from (Input(identity, url) for identity, url in videos_below(argument))
    elif os.path.isdir(argument):
        yield from _folder(Path(argument))
    elif suffix_of(argument) in LIST_SUFFIXES:
        yield from read_list(Path(argument))
    elif argument.lower().endswith(TAR_SUFFIXES) and os.path.isfile(argument):
        yield from members(argument)
    elif not os.path.lexists(argument) and glob.has_magic(argument):
        yield from _glob(argument)
    elif not os.path.lexists(argument):
        raise UsageError(
            f"{argument}: no such file; nothing was done. Correct the path, or name videos in a "
            "list (.txt, .csv, .jsonl), where a missing one is recorded and the others are done"
        )
    else:
        yield Input(stem_of(argument), argument)


def is_frame_folder(path: Path) -> bool:
    """A folder that holds images and no video and no folder; or one folder of them beside two of
    optical flow."""
    if frames_below(path) is not None:
        return True
    images = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                suffix = suffix_of(entry.name)
                if suffix in VIDEO_SUFFIXES or entry.is_dir():
                    return False
                images += suffix in IMAGE_SUFFIXES
    except OSError as error:
        raise _unreadable(error) from error
    return images > 0


def _unreadable(error: OSError) -> UsageError:
    return UsageError(f"{error.filename}: cannot be listed: {error.strerror}")


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed would be left out without a word."""
    raise _unreadable(error) from error


def _walk(root: Path) -> Iterator[Path]:
    """Videos and frame folders below root, sorted, each real folder entered once."""
    entered: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=_refuse):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in entered:
            names.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        names[:] = sorted(n for n in names if not n.startswith("."))
        _refuse_flow(Path(folder), names)
        for name in list(names):
            child = Path(folder, name)
            if is_frame_folder(child):
                names.remove(name)
                yield child
        for name in sorted(files):
            if suffix_of(name) in VIDEO_SUFFIXES and not name.startswith("."):
                yield Path(folder, name)


def _refuse_flow(folder: Path, names: Sequence[str]) -> None:
    """Pictures of flow would become videos: `u/clip/` and `v/clip/` beside each other."""
    for pair in FLOW_FOLDERS:
        if set(pair) <= set(names) and all(_holds_frames(folder / name) for name in pair):
            raise UsageError(
                f"{folder}: its folders {pair[0]!r} and {pair[1]!r} look like pictures of optical "
                "flow, not like videos; name the folders of the frames one by one or in a list"
            )


def _holds_frames(folder: Path) -> bool:
    """Whether a folder is one of frames, or its first folder is."""
    if is_frame_folder(folder):
        return True
    first = min((entry for entry in folder.iterdir() if entry.is_dir()), default=None)
    return first is not None and is_frame_folder(first)


def _identity(path: Path, root: Path) -> str:
    below = path.relative_to(root)
    return below.as_posix() if path.is_dir() else os.path.splitext(below.as_posix())[0]


def _folder(root: Path) -> Iterator[Input]:
    if is_frame_folder(root):
        yield Input(root.resolve().name, str(root))
        return
    any_found = False
    for path in _walk(root):
        any_found = True
        yield Input(_identity(path, root), str(path))
    if not any_found:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"{root}: no videos in this folder (looked for {kinds})")


def _glob(pattern: str) -> Iterator[Input]:
    """Ids are the paths below the pattern's fixed part."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed) if fixed else Path()
    matches = sorted(set(glob.glob(pattern, recursive=True)))
    files = [m for m in matches if not os.path.isdir(m) or is_frame_folder(Path(m))]
    if not files:
        raise UsageError(f"{pattern}: no file matches")
    for match in files:
        yield Input(_identity(Path(match), root), match)
