"""URLs against a real local server: whole, limited, checked, and without secrets anywhere."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests_support import failures, go, tiny, tree, video
from tubelet.store.folder import load


class Server:
    """pages: path -> (status, headers, body, bytes really sent). heard: (path, headers)."""

    def __init__(self):
        self.pages, self.heard = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.heard.append((self.path, dict(self.headers)))
                path = self.path.split("?")[0]
                status, headers, body, sent = outer.pages.get(path, (404, {}, b"", None))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[:sent])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def page(self, path, body=b"", status=200, sent=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, headers, body, sent)

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.close()


def test_fetched_once_and_extracted(server, tmp_path):
    source = video(tmp_path / "a.mp4")
    server.page("/d/a.v2.mp4", source.read_bytes(), Content_Type="video/mp4")
    url = f"http://user:pass%20word@{server.host}/d/a.v2.mp4?sig=topsecret"
    out = tmp_path / "out"
    failed, heard = go([url], out)
    assert (failed, heard.kinds()) == (0, {"a.v2": "extracted"})
    np.testing.assert_array_equal(load(out / "a.v2.json").values, tiny()(str(source)).values)
    assert json.loads((out / "a.v2.json").read_text())["source"] == (
        f"http://{server.host}/d/a.v2.mp4"
    )
    path, headers = server.heard[0]
    assert path == "/d/a.v2.mp4?sig=topsecret"
    assert headers["Authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
    _, heard = go([url], out)
    assert heard.kinds() == {"a.v2": "skipped"}
    go([url], tmp_path / "out2")
    assert len(server.heard) == 1
    for name, data in {**tree(out, hidden=True), **tree(tmp_path / "cache")}.items():
        assert b"topsecret" not in data, name
        assert b"pass" not in data, name
        assert "topsecret" not in name


def test_a_damaged_cache_is_fetched_again(server, tmp_path):
    server.page("/a.mp4", video(tmp_path / "a.mp4").read_bytes())
    go([f"http://{server.host}/a.mp4"], tmp_path / "out")
    (cached,) = (tmp_path / "cache/videos").glob("*.mp4")
    cached.write_bytes(cached.read_bytes()[:-1])
    failed, _ = go([f"http://{server.host}/a.mp4"], tmp_path / "out2")
    assert (failed, len(server.heard)) == (0, 2)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 500, "body": b"x"}, "HTTP 500"),
        ({"body": b"<html>", "Content_Type": "text/html; charset=utf-8"}, "sends text/html"),
        ({"body": b"x" * 1000, "sent": 500}, "500 of 1000 bytes came"),
        ({"body": b"x" * 5000, "Content_Length": None}, "the limit is 4000"),
        ({"body": b"x" * 5000}, "the limit is 4000; raise TUBELET_MAX_DOWNLOAD"),
        ({"body": b""}, "sent nothing"),
        ({"status": 302, "Location": "file:///etc/passwd"}, "cannot be fetched"),
        ({"status": 302, "Location": "/v.mp4?again"}, "cannot be fetched"),
        ({"body": b"no video at all"}, "not a video container|no video"),
    ],
    ids=lambda v: None if isinstance(v, dict) else v[:12],
)
def test_what_the_server_does_wrong(server, tmp_path, monkeypatch, page, message):
    monkeypatch.setenv("TUBELET_MAX_DOWNLOAD", "4000")
    server.page("/v.mp4", **page)
    failed, _ = go([f"http://u:hunter2@{server.host}/v.mp4?key=hunter2"], tmp_path / "out")
    assert failed == 1
    line = failures(tmp_path / "out")["v"]
    assert re.search(message, line["message"])
    assert "hunter2" not in json.dumps(line)
    assert line["stage"] in ("fetch", "open")
    left = [p.name for p in (tmp_path / "cache").rglob("*") if p.name.startswith(".tubelet-tmp")]
    assert left == []


def test_credentials_stay_with_their_host(server, tmp_path):
    other = Server()
    try:
        other.page("/v.mp4", video(tmp_path / "v.mp4").read_bytes())
        server.page("/v.mp4", status=302, Location=f"http://{other.host}/v.mp4")
        failed, _ = go([f"http://u:p@{server.host}/v.mp4"], tmp_path / "out")
        assert failed == 0
        assert "Authorization" in server.heard[0][1]
        assert "Authorization" not in other.heard[0][1]
    finally:
        other.close()


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    failed, _ = go(["http://127.0.0.1:9/v.mp4"], tmp_path / "out")
    assert failed == 1
    assert "cannot be fetched" in failures(tmp_path / "out")["v"]["message"]
