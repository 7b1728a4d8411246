"""Shared fixtures."""

import os

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


@pytest.fixture(scope="session")
def golden():
    """The readers of tests/data/conformance."""
    from conformance import golden

    return golden
