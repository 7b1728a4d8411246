"""Downloads from a server that is slow, cuts off, sends HTML, changes the file, ignores ranges."""

import functools
import hashlib
import http.server
import threading

import pytest
import torch

from test_fetch import Tiny, checkpoint, entry_of
from test_tensorflow_bundle import written
from tubelet.errors import FetchError
from tubelet.models.weights import load
from tubelet.models.weights.fetch import download
from tubelet.models.weights.fetch import released as fetch
from tubelet.models.weights.fetch import weights_cache as cache
from tubelet.models.weights.fetch.download import RetryPolicy

DATA = bytes(range(256)) * 4096  # one megabyte
QUICK = RetryPolicy(timeout_s=5, tries=4, pause_s=0)


class Server:
    """Answers with `data`; `script` holds one behaviour per request, the last one for the rest."""

    def __init__(self, data=DATA, script=("whole",)):
        self.data, self.script, self.requests = data, list(script), []
        self.etag = '"one"'
        handler = functools.partial(Handler, self)
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.http.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/weights.pkl"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server, *args):
        self.owner = server
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        owner = self.owner
        asked = self.headers.get("Range")
        owner.requests.append(asked)
        behaviour = owner.script.pop(0) if len(owner.script) > 1 else owner.script[0]
        getattr(self, behaviour)(asked)
        self.close_connection = True

    def head(self, status, length, **more):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.owner.etag)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def body(self, asked):
        """The asked-for range where its validator still holds."""
        data = self.owner.data
        if asked and self.headers.get("If-Range") == self.owner.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            last = len(data) - 1
            self.head(206, len(data) - start, Content_Range=f"bytes {start}-{last}/{len(data)}")
            return data[start:]
        self.head(200, len(data))
        return data

    def whole(self, asked):
        self.wfile.write(self.body(asked))

    def cut(self, asked):
        data = self.body(asked)
        self.wfile.write(data[: len(data) // 2])

    def slow(self, asked):
        data = self.body(asked)
        for start in range(0, len(data), 65536):
            self.wfile.write(data[start : start + 65536])
            self.wfile.flush()
            threading.Event().wait(0.005)

    def ignoring(self, asked):
        self.head(200, len(self.owner.data))
        self.wfile.write(self.owner.data)

    def changed(self, asked):
        self.owner.etag, self.owner.data = '"two"', self.owner.data[::-1]
        self.whole(asked)

    def html(self, asked):
        page = b"<html><body>please log in</body></html>"
        self.head(200, len(page), Content_Type="text/html; charset=utf-8")
        self.wfile.write(page)

    def missing(self, asked):
        self.head(404, 0)

    def busy(self, asked):
        self.head(503, 0)

    def unmeasured(self, asked):
        self.head(200, None)
        self.wfile.write(self.owner.data)

    def moved(self, asked):
        self.head(302, 0, Location=self.owner.url)

    def wrong_range(self, asked):
        self.head(416 if asked else 200, 0 if asked else len(self.owner.data))
        self.wfile.write(b"" if asked else self.owner.data)


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        (["whole"], [None]),
        (["slow"], [None]),
        (["unmeasured"], [None]),
        (["moved", "whole"], [None, None]),
        (["busy", "whole"], [None, None]),
        (["cut", "whole"], [None, "bytes=524288-"]),
        (["cut", "cut", "slow"], [None, "bytes=524288-", "bytes=786432-"]),
        (["cut", "ignoring"], [None, "bytes=524288-"]),
        (["cut", "wrong_range", "whole"], [None, "bytes=524288-", None]),
    ],
)
def test_the_file_arrives_whole(tmp_path, script, asked):
    target, seen = tmp_path / "x.part", []
    with Server(script=script) as server:
        url = server.url
        got = download.download(
            [url], target, policy=QUICK, progress=lambda done, total: seen.append((done, total))
        )
    assert got == url
    assert target.read_bytes() == DATA
    assert server.requests == asked
    assert seen[-1][0] == len(DATA)
    assert {total for _, total in seen} <= {len(DATA), None}


def test_a_file_that_changed_in_between_is_fetched_anew(tmp_path):
    target = tmp_path / "x.part"
    with Server(script=["cut", "changed"]) as server:
        download.download([server.url], target, policy=QUICK)
    assert target.read_bytes() == DATA[::-1]


def test_a_second_process_goes_on_where_the_first_stopped(tmp_path):
    target = tmp_path / "x.part"
    with Server(script=["cut", "whole"]) as server:
        with pytest.raises(FetchError, match=r"cut off 1 times.*run again"):
            download.download([server.url], target, policy=RetryPolicy(tries=1))
        assert target.stat().st_size == len(DATA) // 2
        download.download([server.url], target, policy=QUICK)
        download.download([server.url], target, policy=QUICK)
    assert server.requests == [None, "bytes=524288-"]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (["html"], r"web page \(HTML\).*--weights FILE"),
        (["missing"], r"HTTP 404.*--weights FILE"),
        (["busy"], r"HTTP 503.*run again.*--weights FILE"),
        (["cut"], r"cut off 4 times"),
    ],
)
def test_refusals_name_the_reason_and_the_way_out(tmp_path, script, message):
    with Server(script=script) as server, pytest.raises(FetchError, match=message) as caught:
        download.download([server.url], tmp_path / "x", policy=QUICK)
    assert server.url in str(caught.value)


def test_the_next_url_is_tried(tmp_path):
    with Server(script=["missing"]) as bad, Server() as good:
        assert download.download([bad.url, good.url], tmp_path / "x", policy=QUICK) == good.url


@pytest.mark.parametrize("script", [["whole"], ["unmeasured"]])
def test_too_large_files_are_refused(tmp_path, script):
    target = tmp_path / "x"
    with Server(script=script) as server, pytest.raises(FetchError, match="limit"):
        download.download([server.url], target, policy=RetryPolicy(limit_bytes=1000))
    assert not target.exists() or target.stat().st_size <= download.CHUNK


def test_no_network_and_other_schemes(tmp_path):
    with Server() as server:
        url = server.url
    with pytest.raises(FetchError, match=r"no connection|cut off"):
        download.download([url], tmp_path / "x", policy=QUICK)
    with pytest.raises(FetchError, match="only http"):
        download.download(["file:///etc/passwd"], tmp_path / "x")


@pytest.fixture
def entry_at(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))

    def make(server, **changes):
        source = {"kind": "url", "urls": [server.url]}
        return entry_of("0" * 64, server.data, source=source, **changes)

    return make


def test_fetched_checked_and_converted(entry_at):
    with Server(checkpoint(), script=["cut", "whole"]) as server:
        entry = entry_at(server)
        assert fetch.status(entry) == "downloadable"
        found = fetch.fetched(entry, Tiny)
        assert found.record.source == server.url
    assert fetch.status(entry) == "cached"
    names = sorted(path.name for path in found.path.parent.iterdir())
    assert names == ["tiny.test.json", "tiny.test.lock", "tiny.test.safetensors"]
    load.load_into(Tiny(), found.path)


def test_a_source_without_checksum_is_pinned_on_first_use(entry_at):
    with Server(checkpoint()) as server:
        entry = entry_at(server, checksum={})
        first = fetch.fetched(entry, Tiny)
        first.path.unlink()
        server.data = checkpoint().replace(b"params", b"Params")
        with pytest.raises(FetchError, match=r"has changed.*pins\.json"):
            fetch.fetched(entry, Tiny)


def test_a_wrong_checksum_leaves_nothing_to_resume(entry_at):
    data = checkpoint()
    wrong = {"sha256_prefix": "00000000"}
    with Server(data) as server:
        entry = entry_at(server, checksum=wrong)
        with pytest.raises(FetchError, match="sha256"):
            fetch.fetched(entry, Tiny)
        assert [p.name for p in cache.slot(entry.id).folder.iterdir()] == ["tiny.test.lock"]
        right = entry_at(server, checksum={"md5": hashlib.md5(data).hexdigest()})
        fetch.fetched(right, Tiny)


def test_tensorflow_checkpoints_come_as_several_files(entry_at):
    kernel = torch.arange(12.0).reshape(1, 1, 1, 3, 4).numpy()
    index, data = written({"RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w": kernel})
    with Server(index) as one, Server(data) as two:
        files = {
            "model.ckpt.index": {"urls": [one.url]},
            "model.ckpt.data-00000-of-00001": {"urls": [two.url]},
        }
        entry = entry_at(one, checksum={})
        entry = type(entry)(**{**vars(entry), "source": {"kind": "files", "files": files}})
        found = fetch.fetched(entry, Tiny)
    assert found.record.layout == "kinetics-i3d-tf"
