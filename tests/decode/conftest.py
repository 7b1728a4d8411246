"""Every file is made once per test process, on first use."""

import os

import pytest

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder writes to stderr otherwise


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """made(sample) -> path of the sample's file."""
    folder = tmp_path_factory.mktemp("videos")
    done = {}

    def make(sample):
        if sample.name not in done:
            path = folder / sample.name
            sample.write(path)
            done[sample.name] = path
        return done[sample.name]

    return make
