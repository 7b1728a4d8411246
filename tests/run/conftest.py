"""Five small videos, and processes that run the command line."""

import pytest

from launcher import Launcher
from tests_support import video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for k in range(5):
        video(folder / f"v{k}.mp4", frames=20 + k, seed=k)
    return folder


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield launcher
    launcher.close()
