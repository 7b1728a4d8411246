"""What one OUT holds: one recipe at a time, whoever writes it and whenever a run stopped."""

import json

import pytest

from tests_support import failures, go, tiny, tree
from tubelet.clips.windows import WindowConfig
from tubelet.errors import RecipeMismatch
from tubelet.run.out import Target, open_out
from tubelet.store.failures import Failure
from tubelet.store.folder import load

OLD, NEW = WindowConfig(4, stride=2), WindowConfig(4, stride=3)


def counts(out):
    return {p.stem: len(load(p).values) for p in out.glob("v*.json")}


def test_rows_of_the_old_recipe_are_done_again_after_an_overwrite_that_stopped(videos, tmp_path):
    """Take OUT over with another recipe, stop behind the first video, go on without --overwrite."""
    out, calm = tmp_path / "out", tmp_path / "calm"
    two = [videos / "v0.mp4", videos / "v1.mp4"]
    go(two, out, tiny(window=OLD))
    go(two, calm, tiny(window=NEW))
    go(two[:1], out, tiny(window=NEW), overwrite=True)
    assert counts(out) != counts(calm)  # v1 has its old rows
    failed, heard = go(two, out, tiny(window=NEW))
    assert (failed, heard.kinds()) == (0, {"v0": "skipped", "v1": "extracted"})
    assert tree(out) == tree(calm)


TARGETS = [Target("", {"model": "another"}, {})]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_writer_with_another_recipe_is_refused_before_it_writes(
    videos, tmp_path, overwrite
):
    out = tmp_path / "out"
    with open_out(out, TARGETS):
        before = tree(out)
        with pytest.raises(RecipeMismatch, match=r"another recipe"):
            go([videos], out, overwrite=overwrite)
        assert tree(out) == before
        with open_out(out, TARGETS):  # the same recipe shares the work
            pass
    assert go([videos / "v0.mp4"], out, overwrite=True)[0] == 0


def test_several_models_have_failures_of_their_own(tmp_path):
    targets = [Target(name, {"model": name}, {}) for name in ("a", "b")]
    failure = Failure("v", "v.mp4", "model", "FeatureError", "NaN")
    with open_out(tmp_path, targets) as out:
        out.fail(failure, {1: failure})
        assert (set(failures(tmp_path)), set(failures(tmp_path / "a"))) == ({"v"}, set())
        assert out.failures()["v"]["message"] == "NaN"
        out.fail(failure)
        assert out.attempts() == {"v": 2}
        assert json.loads((tmp_path / "a/failures.jsonl").read_text())["attempts"] == 1
        out.forget("v")
    assert failures(tmp_path) == failures(tmp_path / "b") == {}
