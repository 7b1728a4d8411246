"""A run over real files: what is skipped, redone, recorded, and what a failure leaves."""

import json
import os
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests_support import failures, go, tiny, tree, video
from tiny import TinyModel
from tubelet.clips.transform import view_config
from tubelet.clips.windows import WindowConfig
from tubelet.decode.synthetic import number_picture
from tubelet.errors import RecipeMismatch, StoreError, UsageError
from tubelet.inputs import Input, collect
from tubelet.store.folder import CODECS, load


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    video(folder / "one.mp4", seed=1)
    video(folder / "sub" / "two words.mkv", frames=7, seed=2)
    video(folder / "drei.ü.avi", frames=3, seed=3)
    return folder


@pytest.mark.parametrize("fmt", sorted(CODECS))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float16", "taps": ("mid",), "logits": True},
        {"keep": "time"},
        {"keep": "space-time", "taps": ("mid", "pool")},
    ],
    ids=str,
)
def test_stored_is_what_extract_gives(videos, tmp_path, fmt, options):
    extractor = tiny(**options)
    failed, heard = go([videos], tmp_path / "out", extractor, fmt=fmt)
    assert failed == 0
    assert heard.kinds() == dict.fromkeys(["one", "sub/two words", "drei.ü"], "extracted")
    for item in collect([str(videos)]):
        direct, stored = extractor(item.path), load(tmp_path / "out" / f"{item.id}.json")
        np.testing.assert_array_equal(stored.values, direct.values)
        np.testing.assert_array_equal(stored.center_s, direct.center_s)
        assert stored.values.dtype == options.get("dtype", "float32")
        assert set(stored.taps) == set(direct.taps) == ({"mid"} if options.get("taps") else set())
        assert (stored.logits is not None) == options.get("logits", False)
    rows = {o.id: o.rows for o in heard.outcomes}
    assert rows == {"one": 4, "sub/two words": 3, "drei.ü": 1}


def test_provenance(videos, tmp_path):
    go([videos / "one.mp4"], tmp_path)
    record = json.loads((tmp_path / "one.json").read_text())
    recipe = json.loads((tmp_path / "tubelet.json").read_text())
    assert record["recipe"] == recipe["hash"]
    assert record["source"] == str(videos / "one.mp4")
    assert record["size_bytes"] == (videos / "one.mp4").stat().st_size
    assert record["decoded_frames"] == 10
    assert (record["fps"], record["fps_exact"], record["range_s"]) == (25.0, "25", [None, None])
    assert record["padded"] == [0, 0, 0, 0]
    assert record["first_last_frame"] == [[0, 3], [2, 5], [4, 7], [6, 9]]
    assert record["start_s"] == [0.0, 0.08, 0.16, 0.24]
    assert (record["rows"], record["shape"], record["dtype"]) == (4, [4, 8], "float32")
    assert set(record["made_with"]) >= {"torch", "av", "numpy", "tubelet", "device", "batch_size"}
    assert {"model", "weights", "window", "view", "precision", "dtype", "decoder"} <= set(
        recipe["recipe"]
    )
    assert len(recipe["recipe"]["weights"]["sha256"]) == 64
    assert recipe["run"]["workers"] == 1


def test_random_weights_have_their_own_recipe():
    assert tiny().recipe() == tiny().recipe()
    assert tiny().recipe() != tiny(model=TinyModel(seed=1)).recipe()


def test_resume(videos, tmp_path):
    out = tmp_path / "out"
    go([videos], out)
    before, stamps = tree(out), {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}
    failed, heard = go([videos], out)
    assert failed == 0
    assert set(heard.kinds().values()) == {"skipped"}
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")} == stamps

    (out / "one.npy").write_bytes(b"\x93NUMPY broken")
    (out / "sub/two words.npy").unlink()
    (out / "drei.ü.json").write_text('{"half')
    failed, heard = go([videos], out)
    assert set(heard.kinds().values()) == {"extracted"}
    assert tree(out) == before


def test_a_changed_source_is_done_again(tmp_path):
    source = video(tmp_path / "a.mp4", seed=1)
    go([source], tmp_path / "out")
    first = load(tmp_path / "out/a.json")
    data = bytearray(video(tmp_path / "b.mp4", seed=2).read_bytes())
    source.write_bytes(data)
    _, heard = go([source], tmp_path / "out")
    assert heard.kinds() == {"a": "extracted"}
    assert not np.array_equal(load(tmp_path / "out/a.json").values, first.values)
    source.unlink()  # gone, but done: nothing to do
    _, heard = go([Input("a", str(source))], tmp_path / "out")
    assert heard.kinds() == {"a": "skipped"}


def test_a_changed_range_is_done_again(tmp_path):
    source = str(video(tmp_path / "a.mp4", frames=20))
    go([Input("a", source, 0.0, 0.4)], tmp_path / "out")
    assert load(tmp_path / "out/a.json").end_s[-1] == pytest.approx(0.4)
    _, heard = go([Input("a", source, 0.2, 0.6)], tmp_path / "out")
    assert heard.kinds() == {"a": "extracted"}
    stored = load(tmp_path / "out/a.json")
    assert stored.start_s[0] == pytest.approx(0.2)  # absolute
    assert stored.provenance["range_s"] == [0.2, 0.6]


def test_another_recipe_is_refused_with_the_difference(videos, tmp_path):
    go([videos], tmp_path)
    changed = tiny(window=WindowConfig(4, stride=3), dtype="float16")
    with pytest.raises(RecipeMismatch, match=r"window\.stride: 2 -> 3; dtype: 'float32' -> 'float"):
        go([videos], tmp_path, changed)
    with pytest.raises(RecipeMismatch, match="holds npy files, not npz"):
        go([videos], tmp_path, fmt="npz")
    _, heard = go([videos], tmp_path, changed, overwrite=True)
    assert set(heard.kinds().values()) == {"extracted"}
    assert load(tmp_path / "one.json").values.dtype == np.float16


def test_damage_counts_as_done_unless_strict(tmp_path):
    source = video(tmp_path / "a.ts", frames=60, codec="mpeg2", size=(64, 48))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    source.write_bytes(data)
    failed, heard = go([source], tmp_path / "out")
    assert failed == 0
    assert "warning" in heard.outcomes[0].text
    assert load(tmp_path / "out/a.json").provenance["damaged"]
    failed, _ = go([source], tmp_path / "out", strict=True)
    assert failed == 1
    line = failures(tmp_path / "out")["a"]
    assert (line["type"], line["stage"]) == ("DamagedVideo", "decode")
    assert line["frame"] > 0


def test_no_rows_are_an_empty_file_and_a_warning(tmp_path):
    source = video(tmp_path / "a.mp4", frames=3)
    extractor = tiny(
        window=WindowConfig(4, tail="drop"), taps=("mid",), logits=True, keep="space-time"
    )
    failed, heard = go([source], tmp_path / "out", extractor)
    assert failed == 0
    assert "3 frames are fewer than one window of 4" in heard.outcomes[0].text
    stored = load(tmp_path / "out/a.json")
    assert stored.values.shape == (0, 2, 2, 2, 8)
    assert stored.taps["mid"].shape == (0, 2, 2, 2, 5)
    assert stored.logits.shape == (0, 3)
    _, heard = go([source], tmp_path / "out", extractor)
    assert heard.kinds() == {"a": "skipped"}


def test_a_range_without_frames(tmp_path):
    source = str(video(tmp_path / "a.mp4", frames=5))
    failed, heard = go([Input("a", source, 0.05, 0.07)], tmp_path / "out")
    assert failed == 0
    assert "[0.05, 0.07) s has no frame" in heard.outcomes[0].text
    assert load(tmp_path / "out/a.json").values.shape == (0, 8)


def test_several_models_give_equal_row_counts(videos, tmp_path):
    long = tiny(name="long", window=WindowConfig(8, stride=2))
    short = tiny(name="short", window=WindowConfig(4, stride=2, length=8))
    go([videos], tmp_path, long, short)
    for identity in ("one", "drei.ü"):
        a, b = load(tmp_path / f"long/{identity}.json"), load(tmp_path / f"short/{identity}.json")
        np.testing.assert_array_equal(a.start_s, b.start_s)


def test_unusable_out(tmp_path, videos):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match="cannot write there"):
            go([videos], out)


def test_ids_are_checked_before_any_work(tmp_path, videos):
    items = [Input("fine", str(videos / "one.mp4")), Input("../away", str(videos / "one.mp4"))]
    with pytest.raises(UsageError, match="away"):
        go(items, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_views(videos, tmp_path):
    source = videos / "one.mp4"
    view = view_config(TinyModel.clip, crops=3, flip=True)
    kept = tiny(view=view, merge="keep")(str(source))
    mean = tiny(view=view)(str(source))
    assert kept.values.shape == (4, 6, 8)
    np.testing.assert_allclose(kept.values.mean(axis=1), mean.values, rtol=1e-5, atol=1e-6)
    single = tiny()(str(source))
    # The centre crop; six clips in a batch round differently from one.
    np.testing.assert_allclose(kept.values[:, 1], single.values, rtol=1e-4, atol=1e-7)
    assert not np.array_equal(kept.values[:, 0], kept.values[:, 2])


def test_debug_frames_show_what_the_model_saw(tmp_path):
    import av

    out, view = tmp_path / "out", view_config(TinyModel.clip, crops=3)
    item = Input("v", "synthetic:frames=9,width=40,height=20,pattern=flat")
    go([item], out, tiny(view=view), debug_frames=2)
    sheets = sorted((out / "debug/v").iterdir())
    assert [s.name for s in sheets] == ["window-00000.png", "window-00001.png"]
    with av.open(str(sheets[1])) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (3 * 2 * 18 + 2, 2 * 18 + 2, 3)
    for i, frame in enumerate([2, 3, 4, 5]):  # window 1: frames 2..5, three views each
        for v in range(3):
            top, left = (v * 2 + i // 2) * 18 + 2, i % 2 * 18 + 2
            seen = picture[top : top + 16, left : left + 16]
            assert (seen == number_picture(frame, width=16, height=16, pattern="flat")).all()


def test_frame_folders(tmp_path):
    folder = tmp_path / "frames" / "clip.x"
    folder.mkdir(parents=True)
    source = video(tmp_path / "a.mkv", frames=9, codec="ffv1")
    import av

    from tubelet.store.png import write_png

    with av.open(str(source)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            with open(folder / f"{i:05d}.png", "wb") as file:
                write_png(file, frame.to_ndarray(format="rgb24"))
    inputs = collect([str(tmp_path / "frames")], frames_fps=Fraction(25))
    failed, heard = go(inputs, tmp_path / "out")
    assert (failed, heard.kinds()) == (0, {"clip.x": "extracted"})
    stored = load(tmp_path / "out/clip.x.json")
    assert stored.end_s[-1] == pytest.approx(9 / 25)
    failed, _ = go([tmp_path / "frames"], tmp_path / "out2")
    assert failed == 1
    assert failures(tmp_path / "out2")["clip.x"]["stage"] == "open"
    os.unlink(folder / "00003.png")
    _, heard = go(inputs, tmp_path / "out")
    assert heard.kinds() == {"clip.x": "extracted"}
    assert go(inputs, tmp_path / "out")[1].kinds() == {"clip.x": "skipped"}
    # Another rate, or other files as frames, give other rows.
    slow = [replace(inputs[0], fps=Fraction(3))]
    assert go(slow, tmp_path / "out")[1].kinds() == {"clip.x": "extracted"}
    assert load(tmp_path / "out/clip.x.json").end_s[-1] == pytest.approx(9 / 3)
    few = [replace(slow[0], pattern="0000%d.png")]
    assert go(few, tmp_path / "out")[1].kinds() == {"clip.x": "extracted"}
    assert go(slow, tmp_path / "out")[1].kinds() == {"clip.x": "extracted"}


def test_nothing_is_left_behind(videos, tmp_path):
    (tmp_path / "out").mkdir()
    dead = tmp_path / "out/sub/.tubelet-tmp-00000000-1-1-00000000-x.npy"
    dead.parent.mkdir()
    dead.write_bytes(b"half")
    os.utime(dead, (1, 1))
    mine = tmp_path / f"out/.tubelet-tmp-{_machine()}-999999999-1-00000000-x.npy"
    mine.write_bytes(b"half")
    go([videos], tmp_path / "out")
    names = set(tree(tmp_path / "out", hidden=True))
    assert not [n for n in names if "tubelet-tmp" in n]
    assert {n for n in names if n.startswith(".tubelet")} <= {".tubelet/lock"}


def _machine():
    from tubelet.machine.locks import machine

    return machine()


def test_out_that_stops_being_writable_ends_the_run(videos, tmp_path):
    """A failure that cannot even be recorded: nothing more can be kept."""
    out = tmp_path / "out"

    class Sabotage(TinyModel):
        def features(self, clip, taps=("pool",)):
            if (out / "tubelet.json").exists():
                shutil.rmtree(out)
                out.write_text("now a file")
            return super().features(clip, taps)

    with pytest.raises(StoreError, match="cannot write"):
        go([videos], out, tiny(model=Sabotage()))
