"""The page asks nobody else and runs nothing that stands in the page itself."""

import re
from importlib import resources

import pytest

STATIC = resources.files("tubelet.serve") / "static"
FILES = sorted(p.name for p in STATIC.iterdir())


def text(name):
    return (STATIC / name).read_text("utf-8")


@pytest.mark.parametrize("name", FILES)
def test_served_as_what_it_is(site, name):
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}
    answer = site.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])


@pytest.mark.parametrize("name", FILES)
def test_no_other_address(name):
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text(name))
    assert [address for address in found if "w3.org" not in address] == []


@pytest.mark.parametrize("name", [n for n in FILES if n.endswith(".js")])
def test_nothing_is_made_of_text(name):
    """Names of videos come from strangers: they are text nodes, never markup or code."""
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "DOMParser", "srcdoc", "javascript:"):  # fmt: skip
        assert word not in text(name)


def test_the_page_has_no_scripts_or_styles_of_its_own():
    page = text("index.html")
    assert "<style" not in page
    assert "style=" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=", page)
