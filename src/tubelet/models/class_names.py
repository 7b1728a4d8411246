"""Class names of the datasets that the released weights were trained on. No torch here."""

from __future__ import annotations

from functools import cache
from importlib import resources

from tubelet.errors import UnknownName, did_you_mean

FILES = {
    "kinetics400": "kinetics400.txt",
    "kinetics600": "kinetics600.txt",
    "kinetics700": "kinetics700.txt",
    "kinetics710": "kinetics710.txt",
    "somethingv2": "ssv2.txt",
    "charades": "charades.txt",
}


@cache
def labels(dataset: str) -> tuple[str, ...]:
    """The class names of a dataset; the position is the class id. Raises UnknownName."""
    if dataset not in FILES:
        raise UnknownName(
            f"no class names for {dataset!r}{did_you_mean(dataset, FILES)} "
            f"(there are: {', '.join(FILES)})"
        )
    folder = resources.files("tubelet.models") / "labels"
    return tuple((folder / FILES[dataset]).read_text(encoding="utf-8").splitlines())
