"""Which pictures of a folder are the frames of its video, and in which order.

    img_00001.jpg  img_00002.jpg  ...              or  1.png  2.png ... 10.png
    pid0_fn000001-0.png  pid0_fn000002-0.png       the number is the group of digits that changes
    img_00001.jpg  flow_x_00001.jpg  flow_y_...    raw frames beside their flow (TSN, denseflow)
    i/000001.jpg  u/000001.jpg  v/000001.jpg       the same in three folders

Everything around the number must agree, else the folder is refused, with the way out: a pattern
such as `img_%05d.jpg` names the frames and leaves the other files alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tubelet.errors import EmptyVideo, NotAVideo, UsageError

DEMUXERS = {
    ".jpg": "jpeg_pipe",
    ".jpeg": "jpeg_pipe",
    ".png": "png_pipe",
    ".webp": "webp_pipe",
    ".bmp": "bmp_pipe",
    ".ppm": "ppm_pipe",
    ".tif": "tiff_pipe",
    ".tiff": "tiff_pipe",
}
DIGITS = re.compile(r"\d+")
PLACE = re.compile(r"%0?(\d*)d|\{(?::0?(\d*)d?)?\}|\*")
"""Where a pattern has the number: `%05d`, `{:05}` as mmaction2 writes it, or `*`."""

RGB_FOLDERS = ("i", "img", "rgb", "frames", "images")
FLOW_FOLDERS = (("u", "v"), ("x", "y"), ("flow_x", "flow_y"), ("flow_u", "flow_v"))
"""Names of the folders, or of what stands before the number, of horizontal and vertical flow."""

Numbered = list[tuple[int, Path]]


def numbered_files(folder: Path, pattern: str | None = None) -> Numbered:
    """(number, file) of every frame, by number.

    EmptyVideo for no frame, NotAVideo for files that may or may not be frames, UsageError for a
    pattern that is none.
    """
    if pattern is not None:
        return _sorted(folder, _fitting(folder, pattern))
    pictures = _pictures(frames_below(folder) or folder)
    if not pictures:
        kinds = ", ".join(DEMUXERS)
        raise EmptyVideo(f"{folder}: no frames in this folder (looked for {kinds})")
    groups = _without_flow(folder, _grouped(folder, pictures))
    if len(groups) > 1:
        a, b, *_ = sorted(groups)
        shown = ", ".join(name.replace("\0", "N") for name in (a, b))
        raise NotAVideo(
            f"{folder}: frames named in several ways ({shown}): one video per folder, or say "
            f"which files are its frames: --frames-pattern '{_pattern(a)}'"
        )
    return _sorted(folder, next(iter(groups.values())))


def frames_below(folder: Path) -> Path | None:
    """The folder of RGB frames in a folder that holds it beside two folders of flow."""
    for pair in FLOW_FOLDERS:
        if all((folder / name).is_dir() for name in pair):
            return next((folder / n for n in RGB_FOLDERS if (folder / n).is_dir()), None)
    return None


def flow_files(folder: Path) -> tuple[Mapping[int, Path], Mapping[int, Path]] | None:
    """{number: picture} of horizontal and of vertical flow beside the frames; None where none is.

    Raises NotAVideo for pictures that may or may not be flow.
    """
    for pair in FLOW_FOLDERS:
        if all((folder / name).is_dir() for name in pair):
            x, y = (dict(numbered_files(folder / name)) for name in pair)
            return x, y
    found = _flow_pair(_grouped(folder, _pictures(folder), strict=False))
    if found is None:
        return None
    x, y = (dict(_sorted(folder, files)) for files in found)
    return x, y


def _pictures(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in DEMUXERS and not file.name.startswith(".") and file.is_file()
    ]


def _fitting(folder: Path, pattern: str) -> Numbered:
    """The files that fit a pattern; it may name a folder below: `rgb/img_%05d.jpg`."""
    places = list(PLACE.finditer(pattern))
    parent, _, name = pattern.rpartition("/")
    inside = PLACE.search(parent) is None and ".." not in parent.split("/")
    if len(places) != 1 or not inside or pattern.startswith("/"):
        raise UsageError(
            f"frames pattern {pattern!r}: need one place for the number, and nothing outside the "
            "folder, as in img_%05d.jpg"
        )
    if Path(name).suffix.lower() not in DEMUXERS:
        raise UsageError(f"frames pattern {pattern!r}: it must end in one of {', '.join(DEMUXERS)}")
    place = PLACE.search(name)
    assert place is not None
    least = place[1] or place[2] or "1"
    before, after = re.escape(name[: place.start()]), re.escape(name[place.end() :])
    expression = re.compile(f"{before}(\\d{{{least},}}){after}")
    below = folder / parent
    pictures = _pictures(below) if below.is_dir() else []
    found = [(int(m[1]), file) for file in pictures if (m := expression.fullmatch(file.name))]
    if not found:
        example = f"; it has {min(pictures).name}" if pictures else ""
        raise EmptyVideo(f"{folder}: no file fits the frames pattern {pattern!r}{example}")
    return found


def _grouped(folder: Path, pictures: Sequence[Path], *, strict: bool = True) -> dict[str, Numbered]:
    """Pictures by everything of their names but the number, for which \\0 stands.

    strict: NotAVideo for a picture without a number.
    """
    alike: dict[str, list[tuple[list[str], Path]]] = {}
    odd: list[Path] = []
    for file in pictures:
        digits = DIGITS.findall(file.stem)
        if digits:
            shape = DIGITS.sub("\0", file.stem) + file.suffix.lower()
            alike.setdefault(shape, []).append((digits, file))
        else:
            odd.append(file)
    if odd and strict:
        raise NotAVideo(_without_number(min(odd), [file for g in alike.values() for _, file in g]))
    groups: dict[str, Numbered] = {}
    for shape, members in alike.items():
        place = _place(members)
        for digits, file in members:
            rest = iter([*digits[:place], "\0", *digits[place + 1 :]])
            name = re.sub("\0", lambda _, rest=rest: next(rest), shape)
            groups.setdefault(name, []).append((int(digits[place]), file))
    return groups


def _place(members: Sequence[tuple[list[str], Path]]) -> int:
    """Which group of digits is the number: the last, or the only one that changes before it."""
    last = len(members[0][0]) - 1
    changing = [k for k in range(last + 1) if len({digits[k] for digits, _ in members}) > 1]
    return changing[0] if len(changing) == 1 else last


def _without_number(odd: Path, numbered: Sequence[Path]) -> str:
    text = f"{odd}: a frame's name must hold its number, as in img_00001.jpg"
    if not numbered:
        return text
    groups = _grouped(odd.parent, numbered)
    most = max(groups, key=lambda name: len(groups[name]))
    return (
        f"{text}; {len(numbered)} others have one ({min(numbered).name}). Move the file away, or "
        f"say which files are the frames: --frames-pattern '{_pattern(most)}'"
    )


def _pattern(name: str) -> str:
    """The pattern of a group of files; `%` and braces of a name cannot be in one."""
    return name.replace("\0", "%d")


def _flow_pair(groups: Mapping[str, Numbered]) -> tuple[Numbered, Numbered] | None:
    """The groups of horizontal and vertical flow, where both are there."""
    heads = {re.split(r"[_\-.]?\0", name)[0].lower(): name for name in groups}
    for x, y in FLOW_FOLDERS:
        if x in heads and y in heads:
            return groups[heads[x]], groups[heads[y]]
    return None


def _without_flow(folder: Path, groups: dict[str, Numbered]) -> dict[str, Numbered]:
    """Without the flow pictures that lie beside the frames. NotAVideo where nothing else is."""
    pair = _flow_pair(groups)
    if pair is None:
        return groups
    rgb = {name: files for name, files in groups.items() if files not in pair}
    if not rgb:
        x, y = (files[0][1].name for files in pair)
        raise NotAVideo(
            f"{folder}: holds optical flow ({x}, {y}) and no frames; put the frames beside it "
            "(img_00001.jpg)"
        )
    return rgb


def _sorted(folder: Path, found: Numbered) -> Numbered:
    files = sorted(found)
    for (number, one), (same, other) in pairwise(files):
        if number == same:
            raise NotAVideo(f"{folder}: {one.name} and {other.name} have the same number")
    return files
