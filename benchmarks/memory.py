"""Peak memory of `tubelet extract`, which must not grow with the video.

    python benchmarks/memory.py          10 minutes of 1280x720 against 1 minute of it
    python benchmarks/memory.py soak     2 hours of synthetic frames, every axis of every row kept

Writes its section of benchmarks/memory.md. Each measurement is a process of its own; the peak is
the kernel's (ru_maxrss), minus that of the same process with a 2-second video, which holds the
interpreter, torch, the network and one window.
"""

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

WIDTH, HEIGHT, FPS = 1280, 720, 25
ALLOWED_MB = 64
"""What a long video may take more than a short one."""


def make_video(path, seconds):
    """Moving noise pictures, H.264."""
    import numpy as np

    from tubelet.encode import Encoding, encode

    base = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 64, 3), dtype=np.uint8)
    base = base // 8 * 4  # soft enough to be small
    frames = (base[:, k % 64 : k % 64 + WIDTH] for k in range(seconds * FPS))
    encode(frames, path, encoding=Encoding("h264", options={"preset": "ultrafast", "crf": "40"}))


def measure(source, out, options):
    """Extract in this process; its facts on stdout."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tiny import TinyModel
    from tubelet.inputs import Input
    from tubelet.pipeline import Extractor, Options
    from tubelet.scale.job import Job
    from tubelet.scale.local import run
    from tubelet.window import WindowConfig

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
        options=Options(taps=tuple(options["taps"]), keep=options["keep"], logits=True),
        device="cpu",
    )
    started = time.monotonic()
    assert run(Job([Input("v", source)], Path(out)), [extractor], Silent()) == 0
    record = json.loads((Path(out) / "v.json").read_text())
    facts = {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.monotonic() - started,
        "frames": record["decoded_frames"],
        "rows": record["rows"],
        "megabytes": sum((Path(out) / name).stat().st_size for name in record["files"]) / 1e6,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


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


def main():
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
        return
    soak = sys.argv[1:] == ["soak"]
    target = ROOT / "benchmarks" / ("soak.md" if soak else "memory.md")
    if soak:
        shape = "fps=30,width=64,height=48,pattern=flat"
        lines, fine = compare(
            "Two hours of frames, every axis kept",
            ("10 seconds", f"synthetic:frames=300,{shape}"),
            ("2 hours", f"synthetic:frames={2 * 3600 * 30},{shape}"),
            frames=4, stride=4, keep="space-time", taps=["mid"],
        )  # fmt: skip
    else:
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (60, 600):
                make_video(f"{folder}/{seconds}.mp4", seconds)
            lines, fine = compare(
                "Ten minutes of 1280x720 H.264",
                ("1 minute", f"{folder}/60.mp4"),
                ("10 minutes", f"{folder}/600.mp4"),
                frames=64, stride=64, keep="clip", taps=[],
            )  # fmt: skip
    target.write_text("\n".join(["# Memory", "", *lines]).rstrip() + "\n")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
