"""The wheel and the source distribution: what is in them, and what the index page will show."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from trove_classifiers import classifiers as known_classifiers

import tubelet

ROOT = Path(__file__).parents[1]
RAW = "https://raw.githubusercontent.com/tubelet/tubelet/main/"
BLOB = "https://github.com/tubelet/tubelet/blob/main/"
PAGE = "https://github.com/tubelet/tubelet"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(n for n in wheel.namelist() if n.endswith("/METADATA"))
    return Metadata.from_email(wheel.read(name))


def sources(folder):
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder).as_posix() for p in found}


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = set(wheel.namelist())
    packed = {n.removeprefix("tubelet/") for n in names if n.startswith("tubelet/")}
    assert packed == sources(ROOT / "src" / "tubelet")
    info = f"tubelet-{tubelet.__version__}.dist-info/"
    rest = {n.removeprefix(info) for n in names if not n.startswith("tubelet/")}
    extra = {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}
    assert rest == extra | {"licenses/LICENSE", "licenses/NOTICE"}


def test_the_wheel_is_small(built):
    """Twice what it is today: a picture or a checkpoint packed by mistake is found here."""
    assert next(built.glob("*.whl")).stat().st_size < 1_500_000


def test_the_sdist_has_what_its_tests_need(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("src", "tests", "tools", "docs", "benchmarks", "examples", "changelog.d"):
        missing = {f"{folder}/{name}" for name in sources(ROOT / folder)} - names
        assert not {m for m in missing if not m.startswith("docs/build/")}
    assert {"pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE"} <= names


def test_metadata(metadata):
    """`packaging` refuses fields that an index would refuse."""
    assert str(metadata.version) == tubelet.__version__
    assert metadata.license_expression == "Apache-2.0"
    assert set(metadata.license_files or ()) == {"LICENSE", "NOTICE"}
    assert set(metadata.classifiers or ()) <= known_classifiers
    assert metadata.author == "The tubelet authors"
    assert metadata.description_content_type == "text/markdown"
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= set(
        metadata.project_urls or ()
    )
    assert (metadata.project_urls or {})["Source"] == PAGE


def test_all_has_every_extra_but_torchcodec(metadata):
    needs = [Requirement(str(r)) for r in metadata.requires_dist or ()]

    def needed(extra):
        return {r.name for r in needs if r.marker and r.marker.evaluate({"extra": extra})}

    for extra in set(metadata.provides_extra or ()) - {"all", "torchcodec"}:
        assert needed(extra), extra
        assert needed(extra) <= needed("all"), extra
    assert not needed("torchcodec") & needed("all")


def test_install_hints_name_extras_that_exist(metadata):
    """`pip install 'tubelet[x]'` in messages and documents."""
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    named = {
        extra.strip()
        for place in places
        for group in re.findall(r"tubelet\[([a-z0-9, ]+)\]", place.read_text("utf-8"))
        for extra in group.split(",")
    }
    assert named <= set(metadata.provides_extra or ())


def links(markdown):
    return re.findall(r"\]\((\S+?)\)", markdown)


def test_links_of_the_readme_work_on_the_index_page(metadata):
    """They are absolute, and those into the repository name files that exist."""
    found = links(metadata.description or "")
    assert len(found) > 10
    for link in found:
        assert link.startswith("https://"), f"README: {link} would be dead on the index page"
        for base in (RAW, BLOB):
            if link.startswith(base):
                assert (ROOT / link.removeprefix(base).partition("#")[0]).exists(), link


def test_one_version():
    """It is written in `tubelet/__init__.py`; what must repeat it is held to it here."""
    assert "version = " not in (ROOT / "pyproject.toml").read_text("utf-8").split("[tool.")[0]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.search(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", changelog, re.MULTILINE)
    assert released
    assert released[1] == tubelet.__version__


def test_notice_names_every_list_of_others():
    notice = (ROOT / "NOTICE").read_text("utf-8")
    lists = list((ROOT / "src" / "tubelet").rglob("labels/*.txt"))
    assert lists
    assert all(path.name in notice for path in lists)


def test_fragments_of_the_changelog():
    """Each has a kind and says something; towncrier makes a section of them."""
    from tools.changelog import FRAGMENTS, KINDS, rendered

    kinds = {kind.lower() for kind in KINDS}
    for path in FRAGMENTS.iterdir():
        if path.name in ("README.md", "template.md.jinja"):
            continue
        assert re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(kinds)})\.md", path.name), path.name
        assert path.read_text("utf-8").strip(), path.name
    section = rendered("9.9.9")
    written = list(FRAGMENTS.glob("*.*.md"))
    assert len(re.findall(r"^- ", section, re.MULTILINE)) >= len(written)


def test_fragments_join_a_version_that_has_a_section():
    from tools.changelog import MARK, merged

    head = f"# Changelog\n\n{MARK}\n"
    old = head + "## 1.0.0 (2026-01-01)\n\n### Added\n\n- A.\n\n## 0.9 (2025-01-01)\n"
    new = "## 1.0.0 (2026-02-02)\n\n### Added\n\n- B.\n\n### Fixed\n\n- C.\n"
    got = merged(old, new, "1.0.0")
    assert got == head + (
        "## 1.0.0 (2026-02-02)\n\n### Added\n\n- A.\n- B.\n\n### Fixed\n\n- C.\n"
        "\n## 0.9 (2025-01-01)\n"
    )
    later = "## 1.1.0 (2026-03-03)\n\n### Added\n\n- D.\n"
    assert merged(got, later, "1.1.0") == head + later + "\n" + got.removeprefix(head)
