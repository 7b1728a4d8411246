"""Two turns far apart: every label is in the order of frames, two of them in a relation only."""

import itertools
from collections import Counter

import numpy as np
import pytest

from tubelet.decode.base import open_video
from tubelet.errors import UsageError
from tubelet.train.relation import CLASSES, relation_set, write_relation_set
from tubelet.train.samples import read_split


@pytest.mark.parametrize("frames", [16, 32, 33])
def test_videos_of_a_set_are_reorderings_of_the_same_pictures(frames):
    made = list(relation_set(np.random.default_rng(0), frames=frames, size=32))
    assert [len(pictures) for _, pictures in made] == [frames] * 4
    bags = [sorted(picture.tobytes() for picture in pictures) for _, pictures in made]
    assert all(bag == bags[0] for bag in bags)
    assert len({tuple(p.tobytes() for p in pictures) for _, pictures in made}) == 4


def test_the_relation_is_an_exclusive_or():
    made = list(relation_set(np.random.default_rng(1), frames=16, size=32))
    assert Counter(label for labels, _ in made for label in labels) == dict.fromkeys(CLASSES, 2)
    for warm, cool, relation in (labels for labels, _ in made):
        same = warm.partition("_")[2] == cool.partition("_")[2]
        assert relation == ("alike" if same else "against")
    # No two labels say anything about the third: every pair of them is as frequent.
    for i, j in itertools.combinations(range(3), 2):
        assert set(Counter((labels[i], labels[j]) for labels, _ in made).values()) == {1}


def test_a_pause_keeps_the_turns_apart():
    for index in range(8):
        for _, pictures in relation_set(np.random.default_rng(index), frames=32, size=32):
            still = [np.array_equal(a, b) for a, b in itertools.pairwise(pictures)]
            assert still == [False] * 12 + [True] * 7 + [False] * 12


def test_the_list_is_read_and_files_are_kept(tmp_path):
    listed = write_relation_set(tmp_path, count=2, frames=16, size=32)
    split = read_split(listed, multi_label=True)
    assert sorted(split.classes) == sorted(CLASSES)
    assert split.counts() == [4] * 6
    with open_video(split.samples[0].path) as reader:
        assert sum(1 for _ in reader.frames()) == 16
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_relation_set(tmp_path, count=2, frames=16, size=32)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert all(before[path] == after[path] for path in after)
    with pytest.raises(UsageError, match="16 frames"):
        write_relation_set(tmp_path, count=1, frames=8)
