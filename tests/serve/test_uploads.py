"""Uploads and previews: limited, in processes of their own, and the rows are the run's own."""

import json
import sys

import numpy as np
import pytest

from folders import features, make_folder
from mortal import die, greedy
from rebuilding import rebuild, rebuild_endless, rebuild_other
from serve.conftest import CHANGES, keys, moving_square
from tests_support import go, tiny, tree
from tubelet.decode.base import open_video
from tubelet.errors import StoreError, UsageError
from tubelet.serve.app import SiteSettings, create_app
from tubelet.serve.reader_process import Child, ChildFailed
from tubelet.serve.uploads import Limits
from tubelet.store.folder import load


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return moving_square(tmp_path_factory.mktemp("new") / "new.mp4", shade=55)


def upload(site, data, name="new.mp4", **headers):
    return site.post("/api/uploads", headers={**CHANGES, "x-name": name, **headers}, content=data)


def followed(site, key):
    """Everything that is told of an upload, to its end."""
    with site.stream("GET", "/api/uploads/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    return [upload for now in told for upload in now if upload["key"] == key]


def test_an_upload_has_the_rows_that_a_run_would_give(uploading, out, new, tmp_path):
    before = tree(out)
    answer = upload(uploading, new.read_bytes(), "my <b>holiday</b>.mp4")
    assert answer.status_code == 201
    key = answer.json()["key"]
    told = followed(uploading, key)
    assert told[-1]["state"] == "done"
    order = ["waiting", "loading", "extracting", "done"]
    assert [order.index(t["state"]) for t in told] == sorted(order.index(t["state"]) for t in told)
    shares = [t["done"] for t in told if t["state"] == "extracting" and t["done"] is not None]
    assert shares == sorted(shares)

    go([new], tmp_path / "out", tiny(logits=True))
    wanted = load(tmp_path / "out" / "new.json")
    found = uploading.get(f"/api/videos/{key}").json()
    assert found["name"] == "my <b>holiday</b>.mp4"
    assert found["uploaded"]
    mean = uploading.get("/api/mean", params={"key": key, "start": 0, "stop": 1})
    assert len(found["timeline"]["center_s"]) == len(wanted.values)
    rows = [
        np.frombuffer(mean.content[-32:], np.float32),
        wanted.values[0],
    ]
    assert np.allclose(*rows, rtol=1e-6)

    # Searchable from both sides, and playable.
    hits = uploading.get("/api/search", params={"key": key, "row": 1}).json()["hits"]
    assert {"first", "second"} & {hit["name"] for hit in hits}
    first = keys(uploading)["first"]
    hits = uploading.get("/api/search", params={"key": first, "row": 1, "top": 200}).json()["hits"]
    assert key in {hit["key"] for hit in hits}
    assert uploading.get(f"/media/{key}").content == new.read_bytes()
    assert uploading.get("/api/videos", params={"state": "uploaded"}).json()["total"] == 1
    assert tree(out) == before  # OUT is as it was


def test_a_session_folder_is_an_output_folder_of_the_recipe(served, out, new, tmp_path):
    site = served(out, build=rebuild, session=tmp_path / "session")
    followed(site, upload(site, new.read_bytes()).json()["key"])
    recipes = [
        json.loads((folder / "tubelet.json").read_bytes())["hash"]
        for folder in (out, tmp_path / "session" / "features")
    ]
    assert recipes[0] == recipes[1]


def test_a_session_is_taken_up_again_by_the_same_recipe_only(served, out, new, tmp_path):
    first = served(out, build=rebuild, session=tmp_path / "session")
    followed(first, upload(first, new.read_bytes()).json()["key"])
    again = served(out, build=rebuild, session=tmp_path / "session")
    assert again.get("/api/videos", params={"state": "uploaded"}).json()["total"] == 1
    other = make_folder(tmp_path / "other", {"a": features()})
    with pytest.raises(UsageError, match="holds uploads of the recipe"):
        create_app(other, SiteSettings(session=tmp_path / "session"))


def test_a_session_goes_with_the_server(out, new):
    from starlette.testclient import TestClient

    from serve.conftest import ADDRESS

    app = create_app(out, SiteSettings(build=rebuild))
    session = app.state.site.session
    with TestClient(app, base_url=ADDRESS) as site:
        followed(site, upload(site, new.read_bytes()).json()["key"])
        assert list((session / "videos").iterdir())
    assert not session.exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"#EXTM3U\nfile:///etc/passwd", b"<svg onload=alert(1)>", b"\x7fELF" * 3000],
)
def test_what_is_no_video_is_refused_at_once(uploading, data):
    answer = upload(uploading, data)
    assert answer.status_code == 415
    assert "no video container" in answer.json()["error"]
    assert uploading.get("/api/uploads").json() == []
    assert not list((uploading.app.state.site.session / "videos").iterdir())


def test_what_is_too_large_is_refused(served, out, new):
    site = served(out, build=rebuild, limits=Limits(upload=1000))
    answer = upload(site, new.read_bytes())
    assert answer.status_code == 413
    assert "--max-upload" in answer.json()["error"]

    def pieces():  # without a length in the header
        for _ in range(50):
            yield new.read_bytes()[:100]

    assert upload(site, pieces()).status_code == 413
    assert not list((site.app.state.site.session / "videos").iterdir())


def test_a_session_has_an_end_too(served, out, new):
    data = new.read_bytes()
    limits = Limits(upload=2 * len(data), session=len(data) + 10)
    site = served(out, build=rebuild, limits=limits)
    assert upload(site, data).status_code == 201
    refused = upload(site, data)
    assert refused.status_code == 413
    assert "session" in refused.json()["error"]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a\x00b", "..", "", "%2e%2e%2f", "x" * 5000]
)
def test_a_name_is_only_shown(uploading, new, name):
    from urllib.parse import quote

    answer = upload(uploading, new.read_bytes(), quote(name, safe=""))
    assert answer.status_code == 201
    session = uploading.app.state.site.session
    assert [p.name for p in (session / "videos").iterdir()] == ["upload-001"]
    assert len(answer.json()["name"]) <= 200


def test_a_video_that_cannot_be_decoded_fails_with_its_record(uploading, new):
    data = new.read_bytes()[:600]
    key = upload(uploading, data, "cut.mp4").json()["key"]
    last = followed(uploading, key)[-1]
    assert last["state"] == "failed"
    assert last["message"]
    assert "/videos/upload" not in last["message"]
    found = uploading.get(f"/api/videos/{key}").json()
    assert found["state"] == "failed"
    assert found["failure"]["stage"] in ("open", "decode")
    # And the process is there for the next one.
    good = upload(uploading, new.read_bytes()).json()["key"]
    assert followed(uploading, good)[-1]["state"] == "done"


def test_another_recipe_is_refused(served, out, new):
    site = served(out, build=rebuild_other)
    last = followed(site, upload(site, new.read_bytes()).json()["key"])[-1]
    assert last["state"] == "failed"
    assert "recipe" in last["message"]


def test_a_process_that_does_not_come_back_is_killed(served, out, new):
    site = served(out, build=rebuild_endless, limits=Limits(time_s=3))
    last = followed(site, upload(site, new.read_bytes()).json()["key"])[-1]
    assert last["state"] == "failed"
    assert "longer than 3 s" in last["message"]


def test_an_upload_can_be_stopped(served, out, new):
    site = served(out, build=rebuild_endless)
    key = upload(site, new.read_bytes()).json()["key"]
    waiting = upload(site, new.read_bytes()).json()["key"]
    for one in (waiting, key):
        assert site.delete(f"/api/uploads/{one}", headers=CHANGES).status_code == 200
    assert followed(site, key)[-1]["state"] == "stopped"
    assert followed(site, waiting)[-1]["state"] == "stopped"


def test_uploads_can_be_switched_off(site, new):
    assert upload(site, new.read_bytes()).status_code == 404
    assert site.get("/api/state").json()["uploads"] is None


def test_a_child_that_dies_is_replaced():
    child = Child(die)
    try:
        with pytest.raises(ChildFailed, match="exit code 7"):
            child.ask("exit", limit_s=60, heard=print)
        assert child.ask("hello", limit_s=60, heard=print) == "hello"
        with pytest.raises(ChildFailed):
            child.ask("nonsense", limit_s=60, heard=print)
        assert child.ask("hello", limit_s=60, heard=print) == "hello"
    finally:
        child.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know fewer limits")
def test_a_child_gets_no_more_than_its_limits():
    child = Child(greedy)
    try:
        assert child.ask("memory", limit_s=60, heard=print) == "MemoryError"
        assert child.ask("file", limit_s=60, heard=print) == "OSError"
    finally:
        child.kill()


def preview(site, key):
    state = site.post(f"/api/videos/{key}/preview", headers=CHANGES).json()
    while state["state"] == "working":
        state = site.get(f"/api/videos/{key}/preview").json()
    return state


def test_a_preview_has_the_seconds_of_its_video(site, videos, tmp_path):
    key = keys(site)["old"]
    assert site.get(f"/media/{key}/preview").status_code == 404
    assert preview(site, key)["state"] == "ready"
    answer = site.get(f"/media/{key}/preview")
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "p.mp4").write_bytes(answer.content)
    with open_video(tmp_path / "p.mp4") as small, open_video(videos / "old.avi") as large:
        assert small.info.codec == "h264"
        assert small.info.duration_s == pytest.approx(large.info.duration_s, abs=0.11)
        pairs = zip(small.frames(), large.frames(), strict=True)
        for one, other in pairs:
            assert one.time_s == pytest.approx(other.time_s, abs=0.01)
            assert np.abs(one.rgb().astype(int) - other.rgb()).mean() < 12
    part = site.get(f"/media/{key}/preview", headers={"range": "bytes=0-3"})
    assert part.status_code == 206


def test_a_preview_that_takes_too_long_is_stopped(served, out):
    site = served(out, preview_s=0.0)
    state = preview(site, keys(site)["old"])
    assert state["state"] == "failed"
    assert "longer" in state["message"]
    assert not list((site.app.state.site.session / "previews").iterdir())


def test_previews_make_room(served, out):
    site = served(out, preview_room=1)
    state = preview(site, keys(site)["old"])
    assert state["state"] == "failed"  # one byte is not enough for it


@pytest.mark.parametrize("name", ["/etc/passwd", "../b.npy", "x/../../b.npy"])
def test_a_stored_set_cannot_name_files_elsewhere(tmp_path, name):
    from folders import features, make_folder
    from serve.conftest import change_sidecar

    out = make_folder(tmp_path / "out", {"a": features()})
    change_sidecar(out, "a", files={name: "0"})
    with pytest.raises(StoreError, match="outside"):
        load(out / "a.json")
