"""The data set that needs time: nothing but the order of frames tells its classes apart."""

import itertools

import numpy as np
import pytest
import torch

from tubelet.decode.base import open_video
from tubelet.errors import UsageError
from tubelet.train.order import CLASSES, order_of, pictures, write_order_set
from tubelet.train.recipe_network import SMALL, Network, build
from tubelet.train.samples import read_split


@pytest.mark.parametrize("frames", [8, 32])
def test_every_class_is_a_reordering_of_every_other(frames):
    orders = [order_of(label, frames) for label in range(4)]
    assert all(sorted(order) == list(range(frames)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[3] == orders[0][::-1]
    assert orders[2] == orders[0][frames // 2 :] + orders[0][: frames // 2]
    assert orders[1] == orders[2][::-1]


def test_files_hold_the_same_pictures(tmp_path):
    listed = write_order_set(tmp_path, count=2, frames=8, size=32)
    split = read_split(listed)
    assert sorted(split.classes) == sorted(CLASSES)
    assert split.counts() == [2, 2, 2, 2]
    decoded = {}
    for sample in split.samples[:4]:
        with open_video(sample.path) as reader:
            frames = [frame.rgb().astype(int) for frame in reader.frames()]
        name = sample.path.rpartition("/")[2].partition("-")[0]
        decoded[CLASSES.index(name)] = frames
    for a, b in itertools.combinations(range(4), 2):
        for picture in range(8):
            one = decoded[a][order_of(a, 8).index(picture)]
            other = decoded[b][order_of(b, 8).index(picture)]
            assert np.array_equal(one, other)
    again = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.mp4"))]
    write_order_set(tmp_path, count=2, frames=8, size=32)
    assert again == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.mp4"))]
    with pytest.raises(UsageError, match="even number of frames"):
        write_order_set(tmp_path, count=1, frames=9)


def test_a_turn_is_whole_and_steps_are_equal():
    made = pictures(np.random.default_rng(0), frames=16, size=48)
    steps = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(made[:8])]
    back = np.abs(made[7].astype(int) - made[0]).mean()
    assert back == pytest.approx(np.mean(steps), rel=0.2)


def test_without_kernels_in_time_the_order_is_invisible():
    torch.manual_seed(0)
    model = build(Network("c2d_nopool_small"), num_classes=4, any_size=True).eval()
    clip = torch.randn(1, 3, 8, 64, 64)
    shuffled = clip[:, :, torch.randperm(8)]
    with torch.no_grad():
        assert torch.allclose(model(clip), model(shuffled), atol=1e-5)
        for name in sorted(set(SMALL) - {"c2d_nopool_small", "c2d_nonlocal_small"}):
            other = build(Network(name), num_classes=4, any_size=True).eval()
            clip = torch.randn(1, 3, other.clip.frames, 64, 64)
            backwards = clip.flip(2)
            assert not torch.allclose(other(clip), other(backwards), rtol=1e-6, atol=0), name
