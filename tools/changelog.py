"""Collect changelog.d/ into the section of a version in CHANGELOG.md.

    python -m tools.changelog                  print the section that the fragments make
    python -m tools.changelog 0.2.0            write it and delete the fragments

A version that has a section already gets the new lines added under its headings, and the date of
today: until it is tagged, this can be run as often as there are new fragments.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG, FRAGMENTS = ROOT / "CHANGELOG.md", ROOT / "changelog.d"
KINDS = ("Added", "Changed", "Fixed", "Removed")
MARK = "<!-- releases -->\n"


def rendered(version: str) -> str:
    """The section that towncrier makes of the fragments."""
    command = ["-m", "towncrier", "build", "--draft", "--version", version]
    done = subprocess.run(
        [sys.executable, *command, "--date", date.today().isoformat()],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    start = done.stdout.find("## ")
    return done.stdout[start:].strip() + "\n" if start >= 0 else ""


def by_heading(section: str) -> tuple[str, dict[str, str]]:
    """A section as (what stands before its first heading, heading -> text)."""
    before, *parts = re.split(r"^### (.+)\n", section, flags=re.MULTILINE)
    return before, dict(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))


def merged(text: str, section: str, version: str) -> str:
    """The changelog `text` with the lines of `section`, which is of `version`."""
    head, releases = text.split(MARK)
    first = re.match(rf"\s*## {re.escape(version)} .*?(?=^## |\Z)", releases, re.DOTALL | re.M)
    if first is None:
        return f"{head}{MARK}\n{section.rstrip()}\n\n{releases.lstrip()}"
    old_before, old = by_heading(first.group())
    title = section.splitlines()[0]
    intro = "\n".join(old_before.strip().splitlines()[1:]).strip()
    _, new = by_heading(section)
    parts = [title, *([intro] if intro else [])]
    for kind in KINDS:
        lines = [text for text in (old.get(kind), new.get(kind)) if text]
        if lines:
            joint = "\n" if lines[0].rsplit("\n", 1)[-1].startswith(("-", "  ")) else "\n\n"
            parts.append(f"### {kind}\n\n" + joint.join(lines))
    rest = releases[first.end() :].lstrip()
    return f"{head}{MARK}\n" + "\n\n".join(parts) + "\n" + (f"\n{rest}" if rest else "")


def main(arguments: list[str]) -> None:
    version = arguments[0] if arguments else "next"
    section = rendered(version)
    if not arguments:
        sys.stdout.write(section or "no fragments\n")
        return
    if not re.fullmatch(r"\d+\.\d+\.\d+\S*", version):
        sys.exit(f"{version!r} is not a version such as 0.2.0")
    if "- " in section:
        CHANGELOG.write_text(merged(CHANGELOG.read_text("utf-8"), section, version), "utf-8")
    for kind in KINDS:
        for fragment in FRAGMENTS.glob(f"*.{kind.lower()}.md"):
            fragment.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
