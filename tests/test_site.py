"""The site's pages and the README: every command can be typed, every page can be found.

`make docs` builds the site and runs what its tutorials show; here is what needs neither Sphinx
nor a network.
"""

import re
import shlex
from pathlib import Path

import pytest
from tools import site

from tubelet.cli import VERBS, group

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md"))
CONSOLE = re.compile(r"^```(?:console[^\n]*)?\n(.*?)^```", re.M | re.S)
MADE = {"reference/cli", "reference/layouts"}


def name(page):
    return page.relative_to(DOCS).with_suffix("").as_posix()


def test_every_page_is_in_the_contents(tmp_path):
    """A page that is not would be found by its address only."""
    named = site.listed((DOCS / "index.md").read_text("utf-8"))
    assert len(named) == len(set(named))
    assert set(named) <= {name(p) for p in PAGES} | MADE
    target = tmp_path / "docs"
    site.copied(target)
    (target / "new.md").write_text("# New\n")
    site.complete(target)
    everything = {name(p) for p in PAGES} - {"index"} | {"new"}
    assert everything <= set(site.listed((target / "index.md").read_text("utf-8")))


def commands(page):
    """`tubelet VERB ...` of the console blocks, as words."""
    for block in CONSOLE.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("tubelet ") and "..." not in line:
                yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=str)
def test_commands_have_verbs_and_options_that_exist(page):
    for words in commands(page):
        verb = words[1]
        if verb.startswith("-"):
            continue
        assert verb in VERBS, f"{page.name}: {shlex.join(words)}"
        command = group.get_command(None, verb)
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.split("=")[0] in known, f"{page.name}: {shlex.join(words)}: {word}"


def test_blocks_run_in_one_folder_and_one_python(tmp_path):
    runner = site.Runner(tmp_path / "page")
    text = (
        "```console run\n$ echo one; echo two >&2\n$ printf 3 > three\n```\n"
        "```python run\nx = open('three').read()\nprint(x)\n```\n"
        "```python run\nx + '!'\n```\n"
        "```python run file=a.py\nprint('a')\n```\n"
        "```console run expect=2\n$ python -c 'import sys; sys.exit(2)'\n```\n"
    )
    try:
        got = site.BLOCK.sub(runner, text)
    finally:
        runner.close()
    assert "$ echo one; echo two >&2\none\ntwo\n$ printf 3 > three\n```" in got
    assert "print(x)\n```\n```text\n3\n```" in got
    assert "```text\n'3!'\n```" in got
    assert (tmp_path / "page" / "a.py").read_text() == "print('a')\n"
    assert " run" not in got


@pytest.mark.parametrize(
    "block", ["```console run\n$ false\n```\n", "```python run\n1 / 0\n```\n"], ids=str
)
def test_a_block_that_fails_stops_the_build(tmp_path, block):
    runner = site.Runner(tmp_path / "page")
    try:
        with pytest.raises(site.PageError):
            site.BLOCK.sub(runner, block)
    finally:
        runner.close()


def test_links_out_of_the_documents_lead_into_the_repository(tmp_path):
    pages = site.copied(tmp_path / "docs")
    assert len(pages) == len(PAGES)
    for page in pages:
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8")):
            if target.startswith(site.REPOSITORY):
                assert (ROOT / target.removeprefix(site.REPOSITORY)).exists(), target


def test_the_made_pages_name_everything():
    text = site.command_line()
    assert all(f"## tubelet {verb}\n" in text for verb in VERBS)
    assert "`actionformer`" in site.layouts()
