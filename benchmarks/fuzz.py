"""Mutated containers against the reader: no crash, no hang, no silent loss.

    python benchmarks/fuzz.py --files 3000 --seed 1 --write

Every file is read to its end, with every picture converted, in another process that is killed
after a time limit and may not use more than 4 GB of memory. Verdicts:

    whole      all frames, nothing to report
    counted    something was lost or doubtful, and `events` says so
    refused    a TubeletError, in one line
    shorter    fewer frames and not a word; possible where a mutation removes whole packets and
               leaves a valid file (a transport stream does not say how long it is)
    broken     a promise of decode/base.py is not kept (times, shapes, an error of another kind)
    hang, crash
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FRAMES = 20
LIMIT_S = 20
MEMORY = 4 << 30
REPORT = Path(__file__).with_suffix(".md")
VERDICTS = ("whole", "counted", "refused", "shorter", "broken", "hang", "crash")
BAD = ("broken", "hang", "crash")


def seeds(folder: Path) -> list[Path]:
    """One intact file per container and codec."""
    import numpy as np

    from tubelet.decode.encode import Encoding, encode
    from tubelet.decode.synthetic import number_picture

    faststart = {"movflags": "faststart"}
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    kinds = {
        "h264.mp4": Encoding(b_frames=2, container_options=faststart),
        "rotated.mp4": Encoding(rotation=90, container_options=faststart),
        "hevc.mp4": Encoding(codec="hevc", container_options=fragments),
        "av1.mp4": Encoding(codec="av1", container_options=faststart),
        "h264.mkv": Encoding(b_frames=2),
        "vp9.webm": Encoding(codec="vp9"),
        "mpeg4.avi": Encoding(codec="mpeg4", b_frames=2),
        "mjpeg.avi": Encoding(codec="mjpeg", pixel_format="yuvj420p"),
        "mjpeg.mov": Encoding(codec="mjpeg", pixel_format="yuvj420p"),
        "h264.ts": Encoding(b_frames=2),
        "mpeg2.ts": Encoding(codec="mpeg2"),
        "10bit.mkv": Encoding(pixel_format="yuv420p10le", matrix="bt709", full_range=True),
    }
    noise = np.random.default_rng(0).integers(-60, 60, (FRAMES, 48, 64, 3))
    pictures = [
        np.clip(number_picture(i, width=64, height=48) + noise[i], 0, 255).astype(np.uint8)
        for i in range(FRAMES)
    ]
    return [encode(pictures, folder / name, encoding=kind) for name, kind in kinds.items()]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four random edits: bytes, runs, 32-bit numbers, pieces moved, copied or cut."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(out)
        if size < 16:
            break
        # Half of the edits fall into the first kilobyte, where headers are.
        at = rng.randrange(min(size, 1024) if rng.random() < 0.5 else size)
        length = rng.choice((1, 4, 16, 188, 1000))
        edit = rng.randrange(8)
        if edit == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif edit == 1:
            for _ in range(rng.randint(1, 40)):
                out[rng.randrange(size)] = rng.randrange(256)
        elif edit == 2:
            out[at : at + length] = bytes([rng.choice((0, 255))]) * len(out[at : at + length])
        elif edit == 3:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
            out[at : at + 4] = number.to_bytes(4, rng.choice(("big", "little")))
        elif edit == 4:
            del out[at : at + length]
        elif edit == 5:
            out[at:at] = out[at : at + length]
        elif edit == 6:
            piece = bytes(out[at : at + length])
            to = rng.randrange(size)
            out[to : to + len(piece)] = piece
        else:
            del out[rng.randrange(size // 4, size) :]
    return bytes(out)


def verdict(path: str) -> tuple[str, str]:
    """Read one file here, in this process."""
    from tubelet import TubeletError, open_video

    try:
        with open_video(path) as video:
            before, count = None, 0
            for frame in video.frames():
                if frame.rgb().shape != (video.info.height, video.info.width, 3):
                    return "broken", "shape"
                if before is not None and not frame.time_s > before:
                    return "broken", f"time {frame.time_s} after {before}"
                if frame.index != count or not frame.duration_s >= 0:
                    return "broken", "index or duration"
                before, count = frame.time_s, count + 1
            events = video.events
    except TubeletError as error:
        one_line = "\n" not in str(error) and path in str(error)
        return ("refused" if one_line else "broken"), str(error)
    except Exception as error:  # noqa: BLE001 - anything else is what we look for
        return "broken", repr(error)
    if any(vars(events).values()):
        return "counted", str(events)
    return ("whole" if count >= FRAMES else "shorter"), f"{count} frames"


class Reader:
    """A process that gives verdicts; replaced when it dies or has to be killed."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

        return subprocess.Popen(
            [sys.executable, __file__, "--reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=limit,
        )

    def read(self, path: Path) -> tuple[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], LIMIT_S)
        line = self._process.stdout.readline() if ready else ""
        if line:
            kind, detail = json.loads(line)
            return kind, detail
        self.close()
        code = self._process.returncode
        self._process = self._start()
        return ("crash", f"exit code {code}") if ready else ("hang", f"more than {LIMIT_S} s")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def run(files: int, seed: int, folder: Path) -> Iterator[tuple[str, int, str, str]]:
    """(seed file, number, verdict, detail) of every mutated file; bad ones stay in `folder`."""
    originals = seeds(folder)
    reader = Reader()
    try:
        for original in originals:
            kind, detail = reader.read(original)
            assert kind == "whole", f"{original.name}: {detail}"
        for number in range(files):
            original = originals[number % len(originals)]
            rng = random.Random(f"{seed}/{number}")
            path = folder / f"{number}_{original.name}"
            path.write_bytes(mutate(original.read_bytes(), rng))
            kind, detail = reader.read(path)
            yield original.name, number, kind, detail
            if kind not in BAD:
                path.unlink()
    finally:
        reader.close()


def report(table: dict[str, Counter[str]], *, command: str, seconds: float) -> str:
    import av

    total: Counter[str] = sum(table.values(), Counter())
    model = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if "model name" in x), model)
    versions = ".".join(map(str, av.library_versions["libavcodec"]))
    lines = [
        "# Mutated containers",
        "",
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, PyAV {av.__version__} (libavcodec {versions}), "
        f"{seconds:.0f} s. What the verdicts mean is said in `benchmarks/fuzz.py`.",
        "",
        f"| made from | files | {' | '.join(VERDICTS)} |",
        f"|---|--:|{'--:|' * len(VERDICTS)}",
    ]
    for name, counts in [*table.items(), ("**all**", total)]:
        cells = " | ".join(str(counts[v]) for v in VERDICTS)
        lines.append(f"| {name} | {counts.total()} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    parser.add_argument("--verbose", action="store_true", help="name every file that is shorter")
    parser.add_argument("--reader", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        for line in sys.stdin:
            print(json.dumps(verdict(line.rstrip("\n"))), flush=True)
        return 0
    os.environ.setdefault("SVT_LOG", "1")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    table: dict[str, Counter[str]] = {}
    began = time.monotonic()
    for name, number, kind, detail in run(options.files, options.seed, folder):
        table.setdefault(name, Counter())[kind] += 1
        if kind in BAD or (options.verbose and kind == "shorter"):
            print(f"{kind}: {folder / f'{number}_{name}'}: {detail}")
    command = f"python benchmarks/fuzz.py --files {options.files} --seed {options.seed}"
    text = report(table, command=command, seconds=time.monotonic() - began)
    print(text)
    if options.write:
        REPORT.write_text(text)
    return 1 if any(counts[v] for counts in table.values() for v in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
