"""SIGKILL at random moments over every store: nothing lost, nothing half-written.

    python benchmarks/kills.py [KILLS]        writes benchmarks/kills.md

For each format: one undisturbed run, then runs over the same OUT that are killed at a random
moment (after the report of 0 to 5 videos, and a random part of a video's time later), one after
the other, until everything is done; then a new OUT, until the number of kills is
reached. After each kill every file that has its final name must be whole and every video with a
JSON must verify; at the end of each OUT all bytes must equal those of the undisturbed run. The
processes are real `tubelet extract` runs (cli, decoder, store) with a tiny network in place of a
released one, and `--timeout 0`, so that the process that is killed is the one that writes.
"""

import datetime
import json
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
# ruff: noqa: E402

import numpy as np

from launcher import Launcher
from tests_support import tree, video
from tubelet.store.folder import CODECS, load

VIDEOS = 6


def check(out, calm):
    """Problems of a folder after a kill, in words; and how many videos are done."""
    problems, done = [], 0
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if not path.is_file() or name.startswith(".tubelet") or ".tubelet-tmp-" in name:
            continue
        if name == "failures.jsonl":
            problems.append(f"a failure was recorded: {path.read_text()}")
        elif name not in calm:
            problems.append(f"{name}: no such file in an undisturbed run")
        elif path.read_bytes() != calm[name]:
            problems.append(f"{name}: differs from the undisturbed run")
        elif name.endswith(".json") and "rows" in json.loads(path.read_text()):
            load(path)
            done += 1
    return problems, done


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    chance, started = random.Random(0), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tubelet-kills-"))
    for k in range(VIDEOS):
        video(folder / f"in/v{k}.mp4", frames=12, seed=k)
    launcher = Launcher(folder)
    table, problems = [], []
    for fmt in CODECS:
        options = ("--format", fmt, "--taps", "mid", "--logits", "--keep", "time", "-m", "tiny")
        command = ("extract", folder / "in", "--stride", "1", "--timeout", "0", *options)
        before = time.monotonic()
        code, text = launcher.run(*command, "-o", folder / "calm")
        assert code == 0, text
        length, calm = time.monotonic() - before, tree(folder / "calm")
        counts = {"kills": 0, "folders": 0, "resumed": 0, "leftovers": 0, "overtaken": 0}
        while counts["kills"] < kills // len(CODECS):
            out = folder / f"out-{counts['folders']}"
            counts["folders"] += 1
            while True:
                before = time.monotonic()
                process = launcher.start(*command, "-o", out)
                process.lines(chance.randrange(VIDEOS))
                time.sleep(chance.random() * length / VIDEOS)
                process.send_signal(signal.SIGKILL)
                code, _ = process.wait()
                if code == 0:  # it was faster than the moment: other moments from now on
                    counts["overtaken"] += 1
                    length = 0.7 * length + 0.2 * (time.monotonic() - before)
                else:
                    counts["kills"] += 1
                found, done = check(out, calm) if out.exists() else ([], 0)
                problems += [f"{fmt}: {problem}" for problem in found]
                counts["resumed"] += 0 < done < VIDEOS
                counts["leftovers"] += any(out.rglob(".tubelet-tmp-*"))
                if code == 0 or done == VIDEOS:
                    break
            code, text = launcher.run(*command, "-o", out)
            if code != 0 or tree(out) != calm or any(out.rglob(".tubelet-tmp-*")):
                problems.append(f"{fmt}: the final run of {out.name} ended with {code}: {text}")
            shutil.rmtree(out)
        shutil.rmtree(folder / "calm")
        table.append((fmt, counts))
        sys.stderr.write(f"{fmt}: {counts}\n")
    launcher.close()
    shutil.rmtree(folder)
    report(table, problems, kills, time.monotonic() - started)
    sys.exit(1 if problems else 0)


def report(table, problems, kills, seconds):
    total = sum(counts["kills"] for _, counts in table)
    lines = [
        "# Kills",
        "",
        f"`make kills` (`python benchmarks/kills.py {kills}`), {datetime.date.today()}, "
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"{seconds:.0f} s.",
        "",
        f"{total} runs of `tubelet extract` were killed with SIGKILL at random moments. "
        f"Problems: {len(problems)}.",
        "",
        "| format | kills | output folders | kills between two videos' ends | with an unfinished "
        "file left | runs that ended before the kill |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for fmt, c in table:
        lines.append(
            f"| {fmt} | {c['kills']} | {c['folders']} | {c['resumed']} | {c['leftovers']} "
            f"| {c['overtaken']} |"
        )
    lines += [
        "",
        "After each kill every file with a final name equals that of an undisturbed run, and every "
        "video with a JSON verifies against its sha256. The last run of each folder leaves the "
        "bytes of an undisturbed run and no temporary file.",
        "",
        *[f"- {problem}" for problem in problems],
    ]
    (ROOT / "benchmarks/kills.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
