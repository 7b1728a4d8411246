"""What goes wrong with one input of a run: recorded, and the others are done."""

import shutil

import pytest

from tests_support import bright_and_dark, failures, go, tiny, video
from tiny import BrokenModel, TinyModel
from tubelet.store.folder import load


def test_bad_inputs_are_recorded_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "in"
    good = video(folder / "good.mp4", frames=40, codec="h264")
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "empty.mp4").touch()
    whole = good.read_bytes()
    (folder / "header.mp4").write_bytes(whole[:40])
    out = tmp_path / "out"
    (tmp_path / "list.txt").write_text("absent.mp4")
    inputs = [folder, tmp_path / "list.txt"]
    failed, heard = go(inputs, out)
    assert failed == 4
    assert heard.kinds()["good"] == "extracted"
    lines = failures(out)
    assert set(lines) == {"text", "empty", "header", "absent"}
    assert lines["text"]["type"] == "NotAVideo"
    assert lines["empty"]["type"] == "EmptyVideo"
    assert lines["absent"]["message"].endswith("no such file")
    assert {line["stage"] for line in lines.values()} == {"open"}
    assert all(line["attempts"] == 1 for line in lines.values())

    shutil.copy(good, folder / "text.mp4")
    failed, heard = go(inputs, out, retry_failed=True)
    assert failed == 3
    assert heard.kinds() == {
        "text": "extracted", "empty": "failed", "header": "failed", "absent": "failed"
    }  # fmt: skip
    assert {k: v["attempts"] for k, v in failures(out).items()} == {
        "empty": 2, "header": 2, "absent": 2
    }  # fmt: skip
    failed, heard = go([folder / "good.mp4"], out, retry_failed=True)
    assert (failed, heard.outcomes) == (0, [])


def test_fail_fast(tmp_path):
    for name in "abc":
        (tmp_path / f"in/{name}.mp4").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.mp4").write_text("nothing")
    failed, heard = go([tmp_path / "in"], tmp_path / "out", fail_fast=True)
    assert (failed, list(heard.kinds())) == (1, ["a"])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_nan_is_a_failure_of_that_input_alone(tmp_path, batch_size):
    folder = bright_and_dark(tmp_path / "in")
    broken = tiny(model=BrokenModel(), batch_size=batch_size)
    failed, heard = go([folder], tmp_path / "out", broken)
    assert failed == 1
    assert heard.kinds() == {"bright": "failed", "dark": "extracted"}
    line = failures(tmp_path / "out")["bright"]
    assert (line["type"], line["stage"], line["frame"]) == ("FeatureError", "model", 3)
    assert "row 0, 0.000 - 0.160 s" in line["message"]
    assert not (tmp_path / "out/bright.npy").exists()


def test_float16_overflow_is_a_failure(tmp_path):
    model = TinyModel()
    model.grid.data *= 1e6
    failed, _ = go(
        [video(tmp_path / "a.mp4")], tmp_path / "out", tiny(model=model, dtype="float16")
    )
    assert failed == 1
    assert "--dtype float32" in failures(tmp_path / "out")["a"]["message"]


def test_one_models_failure_keeps_the_others_features(tmp_path):
    folder, out = bright_and_dark(tmp_path / "in"), tmp_path / "out"
    models = [tiny(name="good"), tiny(model=BrokenModel(), name="org/broken")]
    failed, heard = go([folder], out, *models)
    assert failed == 1
    assert heard.kinds() == {"bright": "failed", "dark": "extracted"}
    assert len(load(out / "good/bright.json").values) == 3
    assert not (out / "org_broken/bright.json").exists()
    assert failures(out / "good") == {}
    assert set(failures(out / "org_broken")) == {"bright"}
    assert "(model org/broken)" in failures(out)["bright"]["message"]
    stamp = (out / "good/bright.npy").stat().st_mtime_ns
    models[1] = tiny(model=BrokenModel(), name="org/broken")
    failed, heard = go([folder], out, *models)
    assert heard.kinds() == {"bright": "failed", "dark": "skipped"}
    assert (out / "good/bright.npy").stat().st_mtime_ns == stamp  # only what is missing is done


class Buggy(TinyModel):
    def features(self, clip, taps=("pool",)):
        raise MemoryError if clip.mean() > 0 else ZeroDivisionError("a bug")


def test_bugs_and_memory_errors_are_recorded(tmp_path):
    failed, heard = go([bright_and_dark(tmp_path / "in")], tmp_path / "out", tiny(model=Buggy()))
    assert failed == 2
    lines = failures(tmp_path / "out")
    assert lines["bright"]["type"] == "MemoryError"
    assert lines["dark"]["message"] == "a bug"
    assert lines["dark"]["unexpected"]
    assert "ZeroDivisionError: a bug" in [o.text for o in heard.outcomes]
    _, heard = go([tmp_path / "in"], tmp_path / "out", tiny(model=Buggy()), debug=True)
    assert "Traceback" in heard.outcomes[0].traceback


def test_a_file_that_changes_or_vanishes_while_it_is_read(tmp_path):
    for what in ("change", "vanish"):
        source = video(tmp_path / f"{what}.mp4", frames=30)

        class Meddling(TinyModel):
            done = False

            def features(self, clip, taps=("pool",), *, source=source, what=what):
                if not self.done:
                    source.write_bytes(b"other") if what == "change" else source.unlink()
                    self.done = True
                return super().features(clip, taps)

        failed, _ = go([source], tmp_path / "out", tiny(model=Meddling()))
        assert failed == 1
        assert f"{what.removesuffix('e')}ed while it was read" in str(failures(tmp_path / "out"))
        assert not (tmp_path / f"out/{what}.npy").exists()
