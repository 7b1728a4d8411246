"""The documents name what exists: every preset, rule, annotation format and layout."""

from pathlib import Path
from typing import get_args

import pytest

from tubelet.cli.presets import document
from tubelet.presets import PRESETS
from tubelet.rows.align import Rule
from tubelet.rows.annotations import FORMATS
from tubelet.store.export.layouts import LAYOUTS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", [*get_args(Rule), *FORMATS])
def test_alignment(name):
    assert f"`{name}`" in (DOCS / "alignment.md").read_text("utf-8")


def test_presets_are_the_data():
    text = (DOCS / "presets.md").read_text("utf-8")
    assert text.splitlines() == document(), "run: tubelet presets --markdown > docs/presets.md"
    assert all(f"\n## {name}\n" in text for name in PRESETS)


def test_presets_name_layouts_and_rules_that_exist():
    for preset in PRESETS.values():
        assert preset.layout in LAYOUTS
        assert preset.offset in get_args(Rule)
