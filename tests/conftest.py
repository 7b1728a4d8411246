"""Shared fixtures. The reference data lie beside the checkout and may be absent."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# pytest-xdist runs one worker per core; torch threads on top of that make small networks 20 times
# slower. Read by torch when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Examples differ in cost, and the machine may be busy: no test is about how long an example takes.
# On CI the same examples every time: new ones are looked for where somebody can act on them.
settings.register_profile("tubelet", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tubelet")


def shared_folder() -> Path | None:
    """The folder of reference data: $TUBELET_SHARED, or `shared` beside the checkout."""
    named = os.environ.get("TUBELET_SHARED")
    path = Path(named) if named else Path(__file__).parents[2] / "shared"
    return path if (path / "conformance").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    path = shared_folder()
    if path is None:
        pytest.skip("needs the reference data (a folder `shared` beside the checkout)")
    return path


@pytest.fixture(scope="session")
def golden(shared):
    """The readers of the conformance data."""
    folder = str(shared / "conformance")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import golden

    return golden
