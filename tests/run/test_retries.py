"""Nothing is tried for ever: every exception is the failure of an input, every retry is counted."""

import io
import json
import multiprocessing
import os
import signal
import sys
import tarfile

import pytest

from tests_support import failures, go, video
from tubelet.inputs import Input
from tubelet.run.worker import Worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def tar_without_time(path, member):
    """A tar whose member has the time "nan"."""
    data = member.read_bytes()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("odd.mp4")
        entry.size, entry.pax_headers = len(data), {"mtime": "nan"}
        archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_what_raises_while_an_input_is_looked_at(launcher, tmp_path, workers):
    """A member of a tar without a time; a JSON of OUT that is nested beyond Python's stack."""
    good = video(tmp_path / "good.mp4")
    out, archive = tmp_path / "out", tar_without_time(tmp_path / "a.tar", good)
    out.mkdir()
    (out / "deep.json").write_text("[" * 200_000)
    inputs = (archive, good, video(tmp_path / "deep.mp4"))
    command = ("extract", *inputs, "-o", out, "-m", "tiny", "--workers", workers, "--json")
    code, text = launcher.run(*command)
    counts = json.loads(text.splitlines()[-1])
    assert "Traceback" not in text
    assert counts["videos"] + counts["failed"] == 3
    assert set(failures(out)) <= {"odd", "deep"}
    assert code == (1 if counts["failed"] else 0)
    assert (out / "good.npy").exists()


def test_an_exception_that_is_not_ours_is_recorded(videos, tmp_path, monkeypatch):
    def broken(self, item, mark):
        raise RecursionError("too deep")

    monkeypatch.setattr(Worker, "_missing", broken)
    failed, _ = go([videos / "v0.mp4"], tmp_path / "out")
    line = failures(tmp_path / "out")["v0"]
    assert (failed, line["type"], line["unexpected"]) == (1, "RecursionError", True)


class Poison(str):
    """An id of which a worker dies while it looks whether its features are there."""

    def __format__(self, spec):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(self)


def test_a_worker_that_dies_over_nothing_in_particular_is_not_replaced_for_ever(videos, tmp_path):
    items = [Input(name, str(videos / "v0.mp4")) for name in (Poison("p"), "v1")]
    failed, heard = go(items, tmp_path / "out", workers=2)
    assert (failed, heard.kinds()) == (1, {"p": "failed", "v1": "extracted"})
    assert failures(tmp_path / "out")["p"]["type"] == "WorkerDied"
