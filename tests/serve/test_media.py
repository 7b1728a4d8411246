"""A video is served if it is the very file that was extracted, and nothing else ever is."""

import json
import os
import shutil
from urllib.parse import quote

import pytest

from folders import features, make_folder
from serve.conftest import change_sidecar, keys, moving_square
from tests_support import go, tiny
from tubelet.serve.ranges import OPEN_BYTES, parse_range
from tubelet.serve.sniff import media_type

SECRET = b"the secret of another folder " * 50


@pytest.fixture
def mine(tmp_path):
    """A run of its own: OUT, the video, and a secret beside both."""
    video = moving_square(tmp_path / "videos" / "a.mp4", frames=12)
    (tmp_path / "secret.txt").write_bytes(SECRET)
    go([video], tmp_path / "out", tiny())
    return tmp_path


def test_the_whole_file(site, videos):
    answer = site.get(f"/media/{keys(site)['first']}")
    assert answer.status_code == 200
    assert answer.content == (videos / "first.mp4").read_bytes()
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=0-99999999999999999999999", slice(0, None)),
        ("bytes=-99999999999999999999999", slice(0, None)),
        ("bytes= 3 - 4", slice(3, 5)),
    ],
)
def test_a_part(site, videos, header, part):
    data = (videos / "first.mp4").read_bytes()
    answer = site.get(f"/media/{keys(site)['first']}", headers={"range": header})
    assert answer.status_code == 206
    assert answer.content == data[part]
    start = range(len(data))[part].start
    shown = f"bytes {start}-{start + len(answer.content) - 1}/{len(data)}"
    assert answer.headers["content-range"] == shown


@pytest.mark.parametrize("header", ["bytes=999999999-", "bytes=-0", "bytes=999999999-999999999"])
def test_a_part_that_is_not_there(site, videos, header):
    answer = site.get(f"/media/{keys(site)['first']}", headers={"range": header})
    assert answer.status_code == 416
    size = (videos / "first.mp4").stat().st_size
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "header", ["bytes=9-5", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "bytes=-", "", "bytes=٣-٤"]
)
def test_a_header_that_is_no_range_is_ignored(site, header):
    headers = {"range": header.encode()}
    assert site.get(f"/media/{keys(site)['first']}", headers=headers).status_code == 200


def test_a_range_without_an_end_does_not_hold_the_line():
    assert parse_range("bytes=0-", 10 * OPEN_BYTES) == (0, OPEN_BYTES)
    assert parse_range("bytes=0-", 10) == (0, 10)


def test_if_range_of_another_version_gives_the_whole_file(site):
    path = f"/media/{keys(site)['first']}"
    tag = site.get(path).headers["etag"]
    part = {"range": "bytes=0-3"}
    assert site.get(path, headers={**part, "if-range": tag}).status_code == 206
    assert site.get(path, headers={**part, "if-range": '"other"'}).status_code == 200


def test_head(site, videos):
    answer = site.head(f"/media/{keys(site)['first']}", headers={"range": "bytes=0-3"})
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str((videos / "first.mp4").stat().st_size)


HOSTILE = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%252fsecret.txt",
    "....//secret.txt",
    "..\\secret.txt",
    "..%5csecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "a.mp4",
    "a",
    "tubelet.json",
    "a.json",
    "%00",
    "a%00.mp4",
]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("route", ["/media/", "/static/", "/api/videos/", "/"])
def test_paths_lead_nowhere(served, mine, route, path):
    site = served(mine / "out")
    assert len(keys(site)) == 1
    for address in (path, f"{mine}/secret.txt", quote(f"{mine}/secret.txt", safe="")):
        answer = site.get(route + address)
        assert answer.status_code in (400, 404, 405, 422)
        assert SECRET[:20] not in answer.content
        assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "question",
    ["/api/search?row=0&key=", "/api/compare?b=x&a=", "/api/mean?start=0&stop=1&key="],
)
@pytest.mark.parametrize("key", ["a", "../out/a", "%2fetc%2fpasswd"])
def test_ids_are_no_keys(served, mine, question, key):
    assert served(mine / "out").get(question + key).status_code == 404


def refused(site, name="a"):
    """What the page is told of a video that may not be served."""
    key = keys(site)[name]
    answer = site.get(f"/media/{key}")
    assert answer.status_code == 409
    assert SECRET[:20] not in answer.content
    told = site.get(f"/api/videos/{key}/media").json()
    assert told["state"] == "none"
    started = site.post(f"/api/videos/{key}/preview", headers={"x-tubelet": "1"})
    assert started.status_code == 409
    return told["reason"]


def test_a_sidecar_that_names_another_file(served, mine):
    change_sidecar(mine / "out", "a", source=str(mine / "secret.txt"))
    assert "changed" in refused(served(mine / "out"))


def test_a_sidecar_that_names_another_file_without_a_fingerprint(served, mine):
    change_sidecar(mine / "out", "a", source=str(mine / "secret.txt"), fingerprint=None)
    assert "fingerprint" in refused(served(mine / "out"))


def test_a_video_that_has_changed(served, mine):
    with open(mine / "videos" / "a.mp4", "r+b") as file:
        file.seek(40)
        file.write(b"?")
    assert "changed" in refused(served(mine / "out"))


def test_a_video_that_changes_while_it_is_served(served, mine):
    site = served(mine / "out")
    path = f"/media/{keys(site)['a']}"
    assert site.get(path).status_code == 200
    shutil.copy(mine / "secret.txt", mine / "videos" / "a.mp4")
    assert site.get(path).status_code == 409


def test_a_video_that_is_gone(served, mine):
    (mine / "videos" / "a.mp4").unlink()
    assert "not here" in refused(served(mine / "out"))


def test_a_video_that_became_a_pipe(served, mine):
    (mine / "videos" / "a.mp4").unlink()
    os.mkfifo(mine / "videos" / "a.mp4")
    assert "changed" in refused(served(mine / "out"))


@pytest.mark.parametrize(
    "facts",
    [
        {"duration_s": float("nan")},
        {"rows": "many"},
        {"start_s": [0.0]},
        {"end_s": [float("inf")] * 5},
        {"warnings": 7},
        {"shape": None},
        {"files": {}},
        {"files": []},
        {"recipe": "another"},
    ],
)
def test_a_sidecar_of_nonsense(served, mine, facts):
    change_sidecar(mine / "out", "a", **facts)
    site = served(mine / "out")
    answer = site.get(f"/api/videos/{keys(site)['a']}")
    assert answer.status_code == 409 or answer.json()["state"] == "unreadable"
    assert site.get("/api/state").status_code == 200


def test_a_link_out_of_its_folder(served, mine):
    video = mine / "videos" / "a.mp4"
    (mine / "elsewhere").mkdir()
    os.replace(video, mine / "elsewhere" / "b.mp4")
    video.symlink_to(mine / "elsewhere" / "b.mp4")
    assert "--follow-links" in refused(served(mine / "out"))
    site = served(mine / "out", follow_links=True)
    assert site.get(f"/media/{keys(site)['a']}").status_code == 200


def test_a_link_within_its_folder(served, mine):
    video = mine / "videos" / "a.mp4"
    os.replace(video, mine / "videos" / "b.mp4")
    video.symlink_to("b.mp4")
    site = served(mine / "out")
    assert site.get(f"/media/{keys(site)['a']}").status_code == 200


def test_a_link_to_a_secret_is_not_followed_even_when_links_are(served, mine):
    (mine / "videos" / "a.mp4").unlink()
    (mine / "videos" / "a.mp4").symlink_to(mine / "secret.txt")
    site = served(mine / "out", follow_links=True)
    assert site.get(f"/media/{keys(site)['a']}").status_code == 409


def test_a_sidecar_that_is_a_link_out_of_the_folder(served, mine, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"id": "x", "files": {}, "secret": SECRET.decode()}))
    (mine / "out" / "x.json").symlink_to(other)
    site = served(mine / "out")
    key = keys(site)["x"]
    answer = site.get(f"/api/videos/{key}")
    assert answer.json()["state"] == "unreadable"
    assert SECRET[:20] not in answer.content
    assert site.get(f"/media/{key}").status_code == 409


@pytest.mark.parametrize("name", ["../stolen.npy", "/etc/passwd", "sub/../../stolen.npy"])
def test_a_sidecar_whose_arrays_lie_elsewhere(served, mine, name):
    shutil.copy(mine / "out" / "a.npy", mine / "stolen.npy")
    digest = json.loads((mine / "out" / "a.json").read_bytes())["sha256"]
    change_sidecar(mine / "out", "a", files={name: digest})
    site = served(mine / "out")
    key = keys(site)["a"]
    assert site.get(f"/api/videos/{key}").status_code == 409
    found = site.get("/api/map").json()
    assert found["points"] == 0


def test_an_array_that_is_a_link_out_of_the_folder(served, mine):
    os.replace(mine / "out" / "a.npy", mine / "stolen.npy")
    (mine / "out" / "a.npy").symlink_to(mine / "stolen.npy")
    site = served(mine / "out")
    assert site.get(f"/api/videos/{keys(site)['a']}").status_code == 409


def test_a_sidecar_that_claims_another_id(served, mine):
    change_sidecar(mine / "out", "a", id="../../etc/passwd")
    site = served(mine / "out")
    found = site.get(f"/api/videos/{keys(site)['a']}").json()
    assert found["state"] == "unreadable"
    assert "says that it is" in found["problem"]


def test_names_are_data(served, tmp_path):
    odd = ["<script>alert(1)</script>".replace("/", "_"), "a'b\"c", "=1+1", "ü - 漢字 - \u202e"]
    make_folder(tmp_path / "out", {name: features(seed=k) for k, name in enumerate(odd)})
    site = served(tmp_path / "out")
    answer = site.get("/api/videos")
    assert answer.headers["content-type"] == "application/json"
    assert {item["name"] for item in answer.json()["items"]} == set(odd)


def test_a_name_that_is_not_utf_8(served, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    rows = features(seed=1, source=f"{name}.mp4", logits=3)
    site = served(make_folder(tmp_path / "out", {name: rows, "b": features(seed=2, logits=3)}))
    known = keys(site)
    assert set(known) == {name, "b"}
    video = site.get(f"/api/videos/{known[name]}").json()
    assert video["record"]["source"] == f"{name}.mp4"
    hits = site.get("/api/search", params={"key": known["b"], "row": 0}).json()["hits"]
    assert name in {hit["name"] for hit in hits}
    assert name in {video["name"] for video in site.get("/api/map").json()["videos"]}
    params = {"a": known[name], "b": known["b"]}
    assert site.get("/api/compare", params=params).json()["a"]["name"] == name
    refused = site.get("/api/search", params={"key": known[name], "row": 99})
    assert refused.status_code == 400
    assert name in refused.json()["error"]
    table = site.post(
        "/api/export", headers={"x-tubelet": "1"}, json={"rows": [[known[name], 0]]}
    ).content
    assert table.splitlines()[1].startswith(os.fsencode(name))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b"<?xml version='1.0'?><MPD/>",
        b"<html><script>alert(1)</script>",
        b"\x7fELF\x02\x01\x01",
        b"PK\x03\x04",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"\x89PNG\r\n\x1a\n",
        b"G" * 64,
    ],
)
def test_what_is_no_video(data):
    assert media_type(data) is None


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.mp4", "h264", "video/mp4"),
        ("a.webm", "vp9", "video/webm"),
        ("a.mkv", "h264", "video/webm"),
        ("a.avi", "mpeg4", "video/x-msvideo"),
        ("a.ts", "h264", "video/mp2t"),
        ("a.mpg", "mpeg2", "video/mpeg"),
        ("a.mov", "h264", "video/quicktime"),
        ("a.flv", "h264", "video/x-flv"),
    ],
)
def test_what_is_one(tmp_path, name, codec, kind):
    path = moving_square(tmp_path / name, frames=30, codec=codec, fps=25)
    assert media_type(path.read_bytes()[:4096]) == kind
