"""Peak memory of `tubelet extract`, which must not grow with the video.

    python benchmarks/memory.py          10 minutes of 1280x720 against 1 minute of it
    python benchmarks/memory.py soak     2 hours of synthetic frames, every axis of every row kept
    python benchmarks/memory.py uhd      10 seconds of 3840x2160, H.264 and HEVC
    python benchmarks/memory.py hours    10 hours of a real file, 900 000 frames

Writes its section of benchmarks/memory.md (benchmarks/soak.md). Each measurement is a process of
its own; the peak is the kernel's (VmHWM). `uhd` and `hours` are held against the formula of
docs/output.md: what they take more than the same process with 4 frames of 64x48, which holds the
interpreter, torch, FFmpeg and the network. The first two against a fixed number of megabytes.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from tubelet.bench.rounds import peak_mb  # noqa: E402

WIDTH, HEIGHT, FPS = 1280, 720, 25
ALLOWED_MB = 64
"""What a long video may take more than a short one."""


LOAD = os.getloadavg()[0]
"""Processes that ran in the minute before this one."""


def make_video(path, seconds):
    """Moving noise pictures, H.264."""
    import numpy as np

    from tubelet.decode.encode import Encoding, encode

    base = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 64, 3), dtype=np.uint8)
    base = base // 8 * 4  # soft enough to be small
    frames = (base[:, k % 64 : k % 64 + WIDTH] for k in range(seconds * FPS))
    encode(frames, path, encoding=Encoding("h264", options={"preset": "ultrafast", "crf": "40"}))


def measure(source, out, options):
    """Extract in this process; its facts on stdout."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tiny import TinyModel
    from tubelet.clips.transform import view_config
    from tubelet.clips.windows import WindowConfig
    from tubelet.extraction.extractor import Extractor, Options
    from tubelet.inputs import Input
    from tubelet.machine.process import configure_process
    from tubelet.run.job import Job
    from tubelet.run.run import run
    from tubelet.types import ClipSpec

    configure_process()

    class Silent:
        def expect(self, videos):
            pass

        def advance(self, *args):
            pass

        def done(self, outcome):
            assert outcome.kind == "extracted", outcome

        def note(self, text):
            pass

    extractor = Extractor(
        TinyModel(),
        name="tiny",
        window=WindowConfig(options["frames"], stride=options["stride"]),
        view=view_config(ClipSpec(4, 1, options["crop"], options["crop"], (0.5,) * 3, (0.5,) * 3)),
        batch_size=options["batch"],
        options=Options(taps=tuple(options["taps"]), keep=options["keep"], logits=True),
        device="cpu",
    )
    started = time.monotonic()
    assert run(Job([Input("v", source)], Path(out)), [extractor], Silent()) == 0
    record = json.loads((Path(out) / "v.json").read_text())
    facts = {
        "peak_mb": peak_mb(),
        "seconds": time.monotonic() - started,
        "frames": record["decoded_frames"],
        "rows": record["rows"],
        "megabytes": sum((Path(out) / name).stat().st_size for name in record["files"]) / 1e6,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


def bound_mb(width, height, rows, *, frames, stride, crop, batch, arrays, **_):
    """The formula of docs/output.md, without the network: megabytes beyond an idle process. 8-bit
    4:2:0 video, one view, interval 1."""
    pictures = 24 * 1.5 * width * height + 2 * 3 * width * height
    windows = 12 * crop**2 * frames * (-(-frames // stride) + 4 + 3 * batch)
    return (pictures + windows + arrays * (8 << 20) + 700 * rows) / (1 << 20)


def measured(source, **options):
    """`measure` in a fresh process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "measure", source, out, json.dumps(options)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def compare(title, short, long, **options):
    """Measure both; the section of the report."""
    rows = [(name, measured(source, **options)) for name, source in (short, long)]
    growth = rows[1][1]["peak_mb"] - rows[0][1]["peak_mb"]
    lines = [
        f"## {title}",
        "",
        f"`{' '.join(['python', 'benchmarks/memory.py', *sys.argv[1:]])}`, {datetime.date.today()},"
        f" {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| video | frames | rows | features MB | peak MB | seconds |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, f in rows:
        lines.append(
            f"| {name} | {f['frames']} | {f['rows']} | {f['megabytes']:.1f} | {f['peak_mb']:.0f} "
            f"| {f['seconds']:.0f} |"
        )
    lines += ["", f"The long one takes {growth:+.0f} MB; allowed are {ALLOWED_MB}.", ""]
    return lines, growth <= ALLOWED_MB


def held(title, folder, sources, **options):
    """Measure each source against the formula; the section of the report. sources: (name, path,
    width, height)."""
    options = {"keep": "clip", "taps": [], **options}
    from tests_support import video

    small = str(video(Path(folder, "small.mp4"), frames=4, size=(64, 48)))
    least = {**options, "frames": 4, "stride": 4, "crop": 16, "batch": 1}
    idle = measured(small, **least)["peak_mb"]
    lines = [
        f"## {title}",
        "",
        f"`{' '.join(['python', 'benchmarks/memory.py', *sys.argv[1:]])}`, {datetime.date.today()},"
        f" {platform.machine()}, Python {platform.python_version()}. Windows of {options['frames']}"
        f" frames every {options['stride']}, crop {options['crop']}, batch {options['batch']}; the"
        f" process that reads 4 frames of 64x48 takes {idle:.0f} MB."
        + " Other work ran on the machine: the seconds say nothing."
        * (LOAD > 0.5),
        "",
        "| video | frames | rows | peak MB | beyond that MB | formula MB | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    fine = True
    for name, source, width, height in sources:
        f = measured(source, **options)
        beyond = f["peak_mb"] - idle
        allowed = bound_mb(width, height, f["rows"], arrays=2, **options)
        fine &= beyond <= allowed
        lines.append(
            f"| {name} | {f['frames']} | {f['rows']} | {f['peak_mb']:.0f} | {beyond:.0f} "
            f"| {allowed:.0f} | {f['seconds']:.0f} |"
        )
    return [*lines, ""], fine


def uhd(folder):
    """3840x2160 in two codecs."""
    import numpy as np

    from tubelet.decode.encode import Encoding, encode

    base = np.random.default_rng(0).integers(0, 255, (2160, 3840 + 64, 3), dtype=np.uint8) // 8 * 4
    sources = []
    for codec in ("h264", "hevc"):
        frames = (base[:, k % 64 : k % 64 + 3840] for k in range(10 * FPS))
        path = f"{folder}/{codec}.mp4"
        fast = {"preset": "ultrafast", "crf": "40", "refs": "4"}
        encode(frames, path, encoding=Encoding(codec, options=fast))
        sources.append((f"10 seconds, {codec}", path, 3840, 2160))
    return held("Ten seconds of 3840x2160", folder, sources, frames=32, stride=8, crop=224, batch=4)


def hours(folder):
    """10 hours whose packets are cheap to decode: one picture in four changes."""
    import numpy as np

    from tubelet.decode.encode import Encoding, encode

    pictures = [np.full((48, 64, 3), 20 * k, np.uint8) for k in range(12)]
    sources = []
    for name, seconds in (("10 minutes", 600), ("10 hours", 36_000)):
        path = f"{folder}/{seconds}.mkv"
        frames = (pictures[k // 4 % 12] for k in range(seconds * FPS))
        encode(frames, path, encoding=Encoding("mpeg4"))
        sources.append((name, path, 64, 48))
    return held("Ten hours", folder, sources, frames=16, stride=16, crop=112, batch=1)


def write(target, lines):
    """Put a section into the report, in place of the one with its title."""
    text = target.read_text() if target.exists() else "# Memory\n"
    head, *sections = text.split("\n## ")
    known = {section.partition("\n")[0]: section for section in sections}
    section = "\n".join(lines).strip().removeprefix("## ")
    known[section.partition("\n")[0]] = section
    parts = [head.strip(), *(f"## {part.strip()}" for part in known.values())]
    target.write_text("\n\n".join(parts) + "\n")


def main():
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
        return
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    target = ROOT / "benchmarks" / ("soak.md" if kind == "soak" else "memory.md")
    if kind in ("uhd", "hours"):
        with tempfile.TemporaryDirectory() as folder:
            lines, fine = {"uhd": uhd, "hours": hours}[kind](folder)
    elif kind == "soak":
        shape = "fps=30,width=64,height=48,pattern=flat"
        lines, fine = compare(
            "Two hours of frames, every axis kept",
            ("10 seconds", f"synthetic:frames=300,{shape}"),
            ("2 hours", f"synthetic:frames={2 * 3600 * 30},{shape}"),
            frames=4, stride=4, keep="space-time", taps=["mid"], crop=16, batch=1,
        )  # fmt: skip
    else:
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (60, 600):
                make_video(f"{folder}/{seconds}.mp4", seconds)
            lines, fine = compare(
                "Ten minutes of 1280x720 H.264",
                ("1 minute", f"{folder}/60.mp4"),
                ("10 minutes", f"{folder}/600.mp4"),
                frames=64, stride=64, keep="clip", taps=[], crop=16, batch=1,
            )  # fmt: skip
    write(target, lines)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
