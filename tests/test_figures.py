"""The drawings and tables of the documents are those that the networks and the table give."""

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tools import tables
from tools.figures.drawings import DRAWINGS
from tools.figures.svg import WIDTH, Canvas

from tubelet.models import zoo

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
SOURCES = [
    path
    for path in sorted((ROOT / "tools" / "figures").glob("*.py"))
    if path.name not in ("__init__.py", "__main__.py", "drawings.py", "svg.py", "shapes.py")
]
PROSE = re.compile(r"C2D|I3D|X3D|Kinetics-400|Inception-v1|MViT-v\d")
"""Words that have a digit and are no numbers."""


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_is_what_the_networks_give(name):
    assert (FIGURES / f"{name}.svg").read_text("utf-8") == DRAWINGS[name](), (
        "run `python -m tools.figures`"
    )


def test_no_other_drawing():
    assert {path.stem for path in FIGURES.iterdir()} == set(DRAWINGS)


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_is_shown_and_well_formed(name):
    shown = [
        path for path in tables.DOCUMENTS if f"figures/{name}.svg" in (ROOT / path).read_text()
    ]
    assert shown
    root = ET.parse(FIGURES / f"{name}.svg").getroot()
    assert root.get("width") == str(WIDTH)
    namespace = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{namespace}title")
    assert root.findtext(f"{namespace}desc")
    for text in root.iter(f"{namespace}text"):
        assert float(text.get("font-size", 0)) >= 12


def drawn_strings(path):
    """Constant strings of a file that is no docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    documents = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_number_is_written_by_hand(path):
    names = {
        "kinetics400",
        "top1",
        *zoo.table().archs,
        *zoo.table().entries,
        *(f"{a}.k400" for a in zoo.table().archs),
    }
    stages = re.compile(r"(res|mixed|block|branch|stem|pool|conv)\d?[a-f]?(_\w+)?")
    formats = re.compile(r"\.\df")
    for line, words in drawn_strings(path):
        if words in names or stages.fullmatch(words) or formats.fullmatch(words):
            continue
        assert not re.search("[0-9]", PROSE.sub("", words)), f"{path.name}:{line}: {words!r}"


def test_words_that_do_not_fit_are_refused():
    canvas = Canvas(200, title="t", about="a")
    with pytest.raises(AssertionError, match="wider"):
        canvas.box(10, 10, 40, 40, words=["much too long"])
    with pytest.raises(AssertionError, match="leaves"):
        canvas.text(800, 50, "over the edge")


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_tables_are_those_of_the_package(name):
    text = (ROOT / name).read_text("utf-8")
    assert tables.rewritten(text) == text, "run `python -m tools.tables`"


def test_every_id_is_listed():
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert [name for name in zoo.list_models() if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_ids_exist(name):
    text = (ROOT / name).read_text("utf-8")
    starts = tuple({arch.split("_")[0] for arch in zoo.table().archs})
    for found in re.findall(r"`([a-z0-9_]+\.[a-z0-9_]+)`", text):
        if found.startswith(starts) and not found.endswith((".py", ".md")):
            assert zoo.find(found), found


def test_costs_belong_to_the_table():
    assert set(tables.costs()) == set(zoo.list_models())


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=str
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
