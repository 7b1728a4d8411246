"""`--shard i/n`: shares are disjoint, complete and balanced; their folders are one folder again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests_support import go, tree, video
from tubelet.errors import UsageError
from tubelet.inputs import Input
from tubelet.run.share.durations import lengths
from tubelet.run.share.shard import Shard, assign, parse_shard, plan_hash, weights
from tubelet.store.folder import read_record
from tubelet.store.merge import merge

SECONDS = st.lists(st.none() | st.floats(0, 1e5), max_size=60)


@given(SECONDS, st.integers(1, 12))
def test_disjoint_and_complete(seconds, count):
    shares = assign(seconds, count)
    assert len(shares) == count
    assert sorted(i for share in shares for i in share) == list(range(len(seconds)))


@given(SECONDS, st.integers(1, 12))
def test_balanced(seconds, count):
    """No shard is beyond the perfect cut by more than the longest video (greedy bound)."""
    loads = weights(seconds)
    shares = [sum(loads[i] for i in share) for share in assign(seconds, count)]
    assert max(shares) <= sum(loads) / count + max(loads, default=0) * (1 - 1 / count) + 1e-6
    equal = assign([None] * len(seconds), count)
    assert max(map(len, equal)) - min(map(len, equal)) <= 1


@given(SECONDS, st.integers(1, 12))
def test_each_share_is_longest_first(seconds, count):
    loads = weights(seconds)
    for share in assign(seconds, count):
        assert [loads[i] for i in share] == sorted((loads[i] for i in share), reverse=True)


def test_the_drawing():
    assert assign([9, 7, 6, 5, 5, 2], 2) == [[0, 3, 5], [1, 2, 4]]


def test_equal_plans_have_equal_hashes_and_others_do_not():
    ids = ["a", "b", "c"]
    plan = plan_hash(ids, assign([3, 2, 1], 2))
    assert plan == plan_hash(ids, assign([3, 2, 1], 2))
    assert plan != plan_hash(ids, assign([1, 2, 3], 2))
    assert plan != plan_hash(ids, assign([3, 2, 1], 3))


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/", "/2", "0/0", "1/2/3", "½/2"])
def test_what_is_no_shard(text):
    with pytest.raises(UsageError, match="need i/n"):
        parse_shard(text)


def test_what_is_a_shard():
    assert parse_shard("3/8") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in [("a", 30), ("b", 10), ("sub/c", 24), ("d", 50), ("e", 12)]:
        video(folder / f"{name}.mp4", frames=frames)
    (folder / "broken.mp4").write_text("x")
    return folder


def test_lengths(videos):
    a = str(videos / "a.mp4")
    items = [
        Input("a", a),
        Input("part", a, 0.2, None),
        Input("both", a, 0.2, 0.5),
        Input("beyond", a, 9.0, None),
        Input("broken", str(videos / "broken.mp4")),
        Input("gone", str(videos / "gone.mp4")),
        Input("url", "https://example.org/a.mp4"),
        Input("synthetic", "synthetic:frames=50,fps=25,width=32,height=24"),
    ]
    found, notes = lengths(items), []
    assert lengths(items, limit=60, note=notes.append) == found  # read in another process
    assert notes == []
    assert found[:4] == pytest.approx([1.2, 1.0, 0.3, 0.0])
    assert found[4:7] == [None, None, None]
    assert found[7] == pytest.approx(2.0)


def test_shards_merge_to_what_one_run_gives(videos, tmp_path):
    whole, _ = go([videos], tmp_path / "whole")
    plans = []
    for k in range(3):
        failed, heard = go([videos], tmp_path / f"part{k}", shard=Shard(k, 3))
        (note,) = heard.notes
        plans.append(note.partition("plan ")[2][:16])
        run = read_record(tmp_path / f"part{k}/tubelet.json")["run"]
        assert (run["shard"], run["shard_plan"]) == (f"{k}/3", plans[-1])
        assert heard.expected == len(heard.outcomes)
        whole -= failed
    assert whole == 0
    assert len(set(plans)) == 1
    parts = [tmp_path / f"part{k}" for k in range(3)]
    merged = merge(parts, tmp_path / "merged")
    assert merged.notes == []
    assert len(merged.copied) == 5
    expected = tree(tmp_path / "whole")
    found = tree(tmp_path / "merged")
    assert {k: v for k, v in found.items() if k != "tubelet.json"} == {
        k: v for k, v in expected.items() if k != "tubelet.json"
    }
    assert found.keys() == expected.keys()


def test_shards_into_one_folder_need_no_merge(videos, tmp_path):
    go([videos], tmp_path / "whole")
    for k in (1, 0):
        go([videos], tmp_path / "out", shard=Shard(k, 2))
    found, expected = tree(tmp_path / "out"), tree(tmp_path / "whole")
    assert {k for k in found if found[k] != expected.get(k)} == {"tubelet.json"}


def test_merge_says_which_shard_is_missing(videos, tmp_path):
    for k in (0, 2):
        go([videos], tmp_path / f"part{k}", shard=Shard(k, 3))
    go([videos / "a.mp4"], tmp_path / "other", shard=Shard(0, 2))
    notes = merge([tmp_path / "part0", tmp_path / "part2"], tmp_path / "merged").notes
    assert notes == ["shard 1/3 is not among these folders"]
    notes = merge([tmp_path / "part0", tmp_path / "other"], tmp_path / "mixed").notes
    assert "2 different plans" in notes[0]
