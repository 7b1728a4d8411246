"""Build the site: `python -m tools.site [-o site] [PAGE...]`.

1. docs/ is copied to build/docs; links out of docs/ become links to the repository.
2. Blocks marked `run` are executed and followed by what they printed (see `Runner`).
3. Pages that are made from code: the command line from click, layouts from the tables of `pack`.
4. Sphinx makes HTML; a warning, such as a link that leads nowhere, is an error.
5. The Markdown that Sphinx read, outputs included, goes beside the pages, with an llms.txt.

PAGE (such as tutorials/finetune): only these pages are executed, the others stay as they are.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS, BUILD = ROOT / "docs", ROOT / "build"
REPOSITORY = "https://github.com/tubelet/tubelet/blob/main/"
SITE = "https://tubelet.github.io/tubelet/"
BLOCK = re.compile(
    r"^```(?P<language>console|python) run(?P<options>[^\n]*)\n(?P<code>.*?)^```\n", re.M | re.S
)
LIMIT_S = 900  # of one command: a network on two busy cores


class PageError(Exception):
    """A block of a page did not run."""


class Runner:
    """Runs the blocks of one page in one folder and one Python process.

    ```console run            each line that begins with "$ " is a shell command
    ```console run expect=1   it ends with this exit code
    ```python run             the value of a last expression is printed, as in a notebook
    ```python run file=x.py   is not executed, but written to this file
    """

    def __init__(self, folder: Path, *, python: str = sys.executable) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self._interpreter = python
        path = f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        # Output as in a file: no colours, no progress bars, 100 columns.
        self.env = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
        self.env["EXAMPLES"] = str(ROOT / "examples")  # what a checkout's user has in examples/
        self._python: subprocess.Popen[str] | None = None

    def __call__(self, match: re.Match[str]) -> str:
        options = dict(o.partition("=")[::2] for o in shlex.split(match["options"]))
        code = match["code"]
        fenced = f"```{match['language']}\n{{}}```\n"
        if "file" in options:
            (self.folder / options["file"]).write_text(code, "utf-8")
            return fenced.format(code)
        if match["language"] == "console":
            expect = int(options.get("expect", 0))
            return fenced.format("".join(self.shell(line, expect) for line in _commands(code)))
        output = self._evaluate(code)
        return fenced.format(code) + (f"```text\n{output.rstrip()}\n```\n" if output else "")

    def close(self) -> None:
        if self._python:
            self._python.communicate()

    def shell(self, command: str, expect: int = 0) -> str:
        done = subprocess.run(
            command,
            shell=True,
            executable="/bin/bash",
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
        )
        if done.returncode != expect:
            raise PageError(f"$ {command}\n{done.stdout}\nexit code {done.returncode}")
        return f"$ {command}\n{done.stdout}"

    def _evaluate(self, code: str) -> str:
        if self._python is None:
            self._python = subprocess.Popen(
                [self._interpreter, "-m", "tools.site", "--evaluate"],
                cwd=self.folder,
                env={**self.env, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(code) + "\n")
        self._python.stdin.flush()
        line = self._python.stdout.readline()
        answer = json.loads(line) if line else {"error": "Python ended", "output": ""}
        if answer["error"]:
            raise PageError(f"{code}\n{answer['output']}\n{answer['error']}")
        return answer["output"]


def _commands(code: str) -> Iterator[str]:
    """The commands of a console block, lines that end with a backslash joined."""
    for line in code.split("\n$ "):
        command = line.removeprefix("$ ").rstrip("\n")
        if command:
            yield command


def evaluate() -> None:
    """The child of `Runner`: a JSON string of code a line -> {"output", "error"} a line."""
    names: dict[str, Any] = {"__name__": "__main__"}
    answers, sys.stdout = sys.stdout, io.StringIO()
    for line in sys.stdin:
        error, said = "", io.StringIO()
        tree = ast.parse(json.loads(line))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        try:
            with contextlib.redirect_stdout(said):
                exec(compile(tree, "page", "exec"), names)
                if isinstance(last, ast.Expr):
                    whole = compile(ast.Expression(last.value), "page", "eval")
                    value = eval(whole, names)  # noqa: S307  our own pages
                    if value is not None:
                        said.write(f"{value!r}\n")
        except Exception as problem:  # noqa: BLE001  whatever a page does wrong stops the build
            error = f"{type(problem).__name__}: {problem}"
        answers.write(json.dumps({"output": said.getvalue(), "error": error}) + "\n")
        answers.flush()


def copied(target: Path) -> list[Path]:
    """docs/ as Sphinx reads it; what a page links to outside of docs/ is in the repository."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target)
    pages = sorted(target.rglob("*.md"))
    for page in pages:
        folder = (DOCS / page.relative_to(target)).parent

        def outside(match: re.Match[str], folder: Path = folder) -> str:
            path, mark, anchor = match[1].partition("#")
            place = (folder / path).resolve()
            if match[1].startswith(("http", "#", "mailto:")) or place.is_relative_to(DOCS):
                return match[0]
            return f"]({REPOSITORY}{place.relative_to(ROOT)}{mark}{anchor})"

        text = page.read_text("utf-8")
        page.write_text(re.sub(r"\]\(([^)\s]+)\)", outside, text), "utf-8")
    return pages


def listed(index: str) -> list[str]:
    """The pages that the contents of index.md name."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", index, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def complete(target: Path) -> None:
    """A page that nobody has put into the contents yet stands under "More"."""
    index = target / "index.md"
    text = index.read_text("utf-8")
    names = {p.relative_to(target).with_suffix("").as_posix() for p in target.rglob("*.md")}
    more = sorted(names - {"index", *listed(text)})
    if more:
        contents = "\n".join(["```{toctree}", ":hidden:", ":caption: More", "", *more, "```"])
        index.write_text(f"{text}\n{contents}\n", "utf-8")


def executed(pages: list[Path], target: Path, only: list[str]) -> None:
    """Replace the `run` blocks of each page by what they are and print."""
    problems = []
    for page in pages:
        name = page.relative_to(target).with_suffix("").as_posix()
        text = page.read_text("utf-8")
        if not BLOCK.search(text) or (only and name not in only):
            continue
        print(f"running {name} ...", flush=True)
        runner = Runner(BUILD / "work" / name)
        try:
            page.write_text(BLOCK.sub(runner, text), "utf-8")
        except (PageError, subprocess.TimeoutExpired) as error:
            problems.append(f"docs/{name}.md: {error}")
        finally:
            runner.close()
    if problems:
        sys.exit("\n\n".join(problems))


def command_line() -> str:
    """reference/cli.md: every verb as its `--help` says it."""
    import click

    from tubelet.cli import VERBS, group

    parts = [
        "# Command line",
        "",
        "Made from the program itself. Results go to stdout, progress and messages to stderr.",
        "Exit codes: 0 all done, 1 an input failed, 2 wrong usage (found before any input was",
        "tried), 130 interrupted.",
        "",
        "| verb | |",
        "|---|---|",
        *(f"| [`{verb}`](#tubelet-{verb}) | {text} |" for verb, text in VERBS.items()),
    ]
    top = click.Context(group, info_name="tubelet")
    for verb in VERBS:
        command = group.get_command(top, verb)
        assert command is not None
        context = click.Context(
            command, info_name=verb, parent=top, terminal_width=100, max_content_width=100
        )
        text = command.get_help(context)
        parts += ["", f"## tubelet {verb}", "", "```text", text.rstrip(), "```"]
    return "\n".join(parts) + "\n"


def layouts() -> str:
    """reference/layouts.md: what `pack` writes, from its own table."""
    from tubelet.store.export.layouts import LAYOUTS

    parts = [
        "# Layouts of `pack`",
        "",
        "`tubelet pack OUT --layout NAME -o DEST` writes features as the files that another tool",
        "reads.",
        "",
        "| layout | |",
        "|---|---|",
    ]
    for name, layout in LAYOUTS.items():
        parts.append(f"| `{name}` | {layout.about} |")
    return "\n".join(parts) + "\n"


def titles(target: Path) -> Iterator[tuple[str, str, str]]:
    """(name, title, first sentence) of every page."""
    for page in sorted(target.rglob("*.md")):
        text = page.read_text("utf-8")
        title = re.search(r"^# (.+)$", text, re.M)
        prose = re.search(r"^# .+\n+(?:```.*?```\n+)?([A-Z`].+?)(?:\n\n|\Z)", text, re.M | re.S)
        about = " ".join(prose[1].split()) if prose else ""
        name = page.relative_to(target).as_posix()
        yield name, title[1] if title else name, re.split(r"(?<=[.:]) ", about)[0].rstrip(":")


def for_machines(target: Path, site: Path) -> None:
    """The Markdown of every page, and llms.txt, which lists it."""
    lines = [
        "# tubelet",
        "",
        "> Features of videos from the networks of action recognition, number for number: a",
        "> command line and a Python library.",
        "",
        "Every page as Markdown:",
        "",
    ]
    for name, title, about in titles(target):
        place = site / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target / name, place)
        lines.append(f"- [{title}]({SITE}{name})" + (f": {about}" if about else ""))
    (site / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "site")
    parser.add_argument("--evaluate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-run", action="store_true", help="Execute no page.")
    parser.add_argument("pages", nargs="*")
    choice = parser.parse_args()
    if choice.evaluate:
        evaluate()
        return
    target = BUILD / "docs"
    pages = copied(target)
    (target / "reference").mkdir(exist_ok=True)
    (target / "reference" / "cli.md").write_text(command_line(), "utf-8")
    (target / "reference" / "layouts.md").write_text(layouts(), "utf-8")
    complete(target)
    if not choice.no_run:
        executed(pages, target, choice.pages)
    shutil.rmtree(choice.output, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    subprocess.run([*sphinx, str(target), str(choice.output)], check=True)
    for_machines(target, choice.output)


if __name__ == "__main__":
    main()
