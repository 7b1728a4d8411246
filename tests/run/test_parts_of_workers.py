"""`--workers N` shares a long video: the files of one pass, and nothing left of its parts."""

from ray_cluster import damage, features, movie
from tests_support import go, tiny
from tubelet.clips.windows import WindowConfig
from tubelet.run.driver import Driver


def test_a_long_video_is_shared_by_workers(tmp_path, monkeypatch):
    """A whole one, and one that no parts can be made of, which is then read in one pass."""
    steps, give = [], Driver._next

    def next_(self, unit, value):
        steps.append((unit.items[0].id, unit.step))
        give(self, unit, value)

    monkeypatch.setattr(Driver, "_next", next_)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("long", "damaged"):
        movie(folder / f"{name}.mp4", frames=150, gop=12)
    damage(folder / "damaged.mp4")
    extractor = tiny(window=WindowConfig(4, stride=2), taps=("mid",))
    plain, _ = go([folder], tmp_path / "plain", extractor)
    steps.clear()
    failed, heard = go([folder], tmp_path / "out", extractor, workers=2, part_s=1.0)
    assert (failed, plain) == (0, 0)
    assert features(tmp_path / "out") == features(tmp_path / "plain")
    made = [step for name, step in steps if name == "long"]
    assert (made[0], made[-1]) == ("plan", "join")
    assert set(made[1:-1]) == {"part"}
    assert len(made) > 3
    (note,) = heard.notes
    assert note.startswith("damaged: read as a whole: ")
    assert not list((tmp_path / "out/.tubelet").rglob("*.npz"))
    _, heard = go([folder], tmp_path / "out", extractor, workers=2, part_s=1.0)
    assert set(heard.kinds().values()) == {"skipped"}
