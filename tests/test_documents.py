"""The documents name what exists: every preset, rule, annotation format and layout."""

from pathlib import Path
from typing import get_args

import pytest

from tubelet.align import Rule
from tubelet.annotations import FORMATS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", [*get_args(Rule), *FORMATS])
def test_alignment(name):
    assert f"`{name}`" in (DOCS / "alignment.md").read_text("utf-8")
