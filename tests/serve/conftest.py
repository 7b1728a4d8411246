"""A served folder: real small files, extracted by a real small network."""

import json
from fractions import Fraction

import numpy as np
import pytest
from starlette.testclient import TestClient

from folders import make_thousand
from rebuilding import rebuild
from tests_support import go, tiny
from tubelet.decode.encode import Encoding, encode
from tubelet.serve.app import SiteSettings, create_app

ADDRESS = "http://127.0.0.1:8765"
CHANGES = {"x-tubelet": "1"}


def moving_square(path, *, frames=60, shade=0, codec="h264", size=(160, 120), fps=10):
    """A square that moves over a ground whose colour changes half-way: two scenes."""
    width, height = size
    pictures = []
    for k in range(frames):
        ground = (40 + shade, 90, 160 - shade) if k < frames // 2 else (200, 60 + shade, 40)
        picture = np.full((height, width, 3), ground, np.uint8)
        x = int(k / frames * (width - 40))
        picture[40:80, x : x + 40] = (250, 250, 220)
        pictures.append(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    return encode(pictures, path, encoding=Encoding(codec, fps=Fraction(fps)))


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    moving_square(folder / "first.mp4")
    moving_square(folder / "second.mp4", shade=30)
    moving_square(folder / "third <script>.webm", shade=60, codec="vp9")
    moving_square(folder / "old.avi", shade=90, codec="mpeg4")
    (folder / "broken.mp4").write_bytes(b"this is no video" * 99)
    return folder


@pytest.fixture(scope="session")
def out(videos, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "features"
    failed, _ = go([videos], path, tiny(logits=True))
    assert failed == 1  # broken.mp4
    return path


@pytest.fixture(scope="session")
def thousand(tmp_path_factory):
    """An output folder of 1,000 videos, three rows each."""
    return make_thousand(tmp_path_factory.mktemp("thousand"), 3)


@pytest.fixture(scope="session")
def site(out):
    """A client of the served folder; nothing in it is changed."""
    with TestClient(create_app(out, SiteSettings(build=None)), base_url=ADDRESS) as client:
        yield client


@pytest.fixture
def served():
    """serve(out, **settings) -> a client; closed at the end."""
    clients = []

    def serve(path, **settings):
        settings = {"build": None, **settings}
        client = TestClient(create_app(path, SiteSettings(**settings)), base_url=ADDRESS)
        clients.append(client)
        return client.__enter__()

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def uploading(served, out):
    """A client of the served folder that takes uploads."""
    return served(out, build=rebuild)


def keys(client):
    """{name: key} of everything in the list."""
    found = client.get("/api/videos", params={"limit": 500}).json()
    return {item["name"]: item["key"] for item in found["items"]}


def change_sidecar(folder, identity, **facts):
    """Write a sidecar as a stranger might."""
    path = folder / f"{identity}.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, **facts}))
