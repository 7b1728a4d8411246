"""Lists, batches and clips for training."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tubelet.errors import UsageError
from tubelet.train.augment import Augment, mix, training_clip
from tubelet.train.batch_plan import epoch_batches
from tubelet.train.data import Bad, BadSamples, ClipMaker, Loader, training_indices
from tubelet.train.multigrid import Base, Multigrid, Shape, plan
from tubelet.train.randaugment import OPERATIONS, RandAugment
from tubelet.train.samples import check_splits, read_split
from tubelet.train.schedule import LearningRate
from tubelet.types import ClipSpec

SPEC = ClipSpec(4, 2, 40, 32)
ONE = plan(Base(4, 4, 32, 2, (34, 40)), LearningRate(0.1, 1)).phases[0]


def listed(folder, text, **options):
    for name in ("a.mp4", "b b.mp4", "c, d.mp4"):
        (folder / name).write_bytes(b"x")
    (folder / "list.csv").write_text(text)
    return read_split(folder / "list.csv", **options)


@pytest.mark.parametrize(
    ("text", "options", "labels", "classes"),
    [
        ("a.mp4 1\nb b.mp4 0\n", {}, [(1,), (0,)], 2),
        ("a.mp4 1,0\nb b.mp4\t2\n", {"multi_label": True}, [(0, 1), (2,)], 3),
        ("path,label\na.mp4,run\nb b.mp4,jump up\n", {}, [(1,), (0,)], 2),
        ('"c, d.mp4",run,jump\n', {"multi_label": True}, [(0, 1)], 2),
        ("# a comment\n\na.mp4 run\n", {"classes": ["jump", "run"]}, [(1,)], 2),
        ("a.mp4 3\n", {"classes": 10}, [(3,)], 10),
        ("\ufeffa.mp4 0\r\n", {}, [(0,)], 1),
    ],
)
def test_lists(tmp_path, text, options, labels, classes):
    split = listed(tmp_path, text, **options)
    assert [sample.labels for sample in split.samples] == labels
    assert len(split.classes) == classes


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "empty split"),
        ("a.mp4 7\n", {"classes": 3}, "line 1: label 7 is out of range"),
        ("a.mp4 -1\n", {}, "out of range"),
        ("a.mp4,rum\n", {"classes": ["run"]}, "did you mean 'run'"),
        ("a.mp4 0,1\n", {}, "multi_label=True"),
        ("gone.mp4 0\na.mp4 1\n", {}, "1 of 2 videos are missing"),
        ("a.mp4\n", {}, "no label"),
    ],
)
def test_bad_lists_are_refused_before_training(tmp_path, text, options, says):
    with pytest.raises(UsageError, match=says):
        listed(tmp_path, text, **options)


def test_a_folder_per_class_and_absent_classes(tmp_path):
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(b"x")
    train = read_split(tmp_path / "train")
    assert train.classes == ("jump", "run")
    assert train.counts() == [1, 2]
    check_splits(train, train)
    more = read_split(tmp_path / "train", classes=["jump", "run", "swim"])
    with pytest.raises(UsageError, match="swim"):
        check_splits(more, None)
    check_splits(more, None, allow_absent=True)
    (tmp_path / "val.csv").write_text(f"{tmp_path}/train/run/a.mp4,swim\n")
    val = read_split(tmp_path / "val.csv", classes=more.classes)
    with pytest.raises(UsageError, match="cannot be learned"):
        check_splits(more, val, allow_absent=True)


@given(
    samples=st.integers(130, 300),
    devices=st.sampled_from([1, 2, 4]),
    repeats=st.sampled_from([1, 2]),
    epoch=st.integers(0, 29),
    seed=st.integers(0, 5),
)
def test_devices_share_the_batches_of_one(samples, devices, repeats, epoch, seed):
    rate = LearningRate(0.1, 20, policy="steps", steps=(0, 8, 14), factors=(1, 0.1, 0.01))
    grid = Multigrid(epoch_factor=1.5, long_factors=((0.5, 0.5**0.5), (1, 1)))
    phase = plan(Base(4 * devices, 8, 64, 2, (64, 80), devices), rate, grid).phase(epoch)
    options = {"seed": seed, "epoch": epoch, "devices": devices, "repeats": repeats}
    each = [epoch_batches(samples, phase, device=d, **options) for d in range(devices)]
    assert len({len(batches) for batches in each}) == 1
    used = Counter()
    for together in zip(*each, strict=True):
        assert len({batch.shape for batch in together}) == 1
        draws = [draw for batch in together for draw in batch.draws]
        assert len({draw.seed for draw in draws}) == len(draws)
        used.update(draw.sample for draw in draws)
    assert set(used.values()) <= {repeats}


def test_too_few_samples_for_a_batch():
    with pytest.raises(UsageError, match="do not fill one batch"):
        epoch_batches(3, ONE, seed=0, epoch=0)


def noise(frames=4, height=40, width=48, seed=0):
    shape = (frames, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


HEAVY = Augment(
    area=(0.3, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, rand=RandAugment(),
    erase=1.0, mixup=0.8, cutmix=1.0,
)  # fmt: skip


@given(seed=st.integers(0, 200), height=st.integers(33, 60), width=st.integers(33, 60))
def test_clips_are_sound_and_repeatable(seed, height, width):
    for augment in (Augment(), HEAVY):
        made = [
            training_clip(
                noise(2, height, width),
                Shape(1, 2, 32, (33, 50)),
                spec=SPEC,
                augment=augment,
                generator=np.random.default_rng(seed),
            )
            for _ in range(2)
        ]
        assert made[0].shape == (3, 2, 32, 32)
        assert torch.isfinite(made[0]).all()
        assert torch.equal(*made)


def test_one_draw_for_all_frames():
    still = np.repeat(noise(1), 5, axis=0)
    for seed in range(20):
        clip = training_clip(
            still, Shape(1, 5, 32, (34, 40)), spec=SPEC, augment=replace(HEAVY, erase=0.0),
            generator=np.random.default_rng(seed),
        )  # fmt: skip
        assert (clip - clip[:, :1]).abs().max() < 1e-4


def test_plain_clip_is_a_crop_of_the_resized_frames():
    frames = noise(2, 40, 40)
    clip = training_clip(
        frames, Shape(1, 2, 40, (40, 40)), spec=SPEC, augment=Augment(),
        generator=np.random.default_rng(0),
    )  # fmt: skip
    want = (torch.from_numpy(frames).float() / 255 - 0.45) / 0.225
    assert torch.allclose(clip, want.permute(3, 0, 1, 2), atol=1e-5)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("level", [-1.0, 0.3, 1.0])
def test_every_operation_keeps_the_range(name, level):
    clip = torch.from_numpy(noise(2)).permute(0, 3, 1, 2).float() / 255
    out = OPERATIONS[name](clip, level)
    assert out.shape == clip.shape
    assert out.min() >= -1e-5
    assert out.max() <= 1 + 1e-5


@pytest.mark.parametrize("augment", [Augment(mixup=0.8), Augment(cutmix=1.0)])
def test_mixing_does_not_depend_on_the_number_of_devices(augment):
    clips = torch.randn(8, 3, 2, 16, 16)
    targets = torch.eye(8)
    whole = mix(clips, targets, augment=augment, seed=(1, 2), first=0)
    halves = [
        mix(clips[i : i + 4], targets[i : i + 4], augment=augment, seed=(1, 2), first=i)
        for i in (0, 4)
    ]
    assert torch.equal(whole[0], torch.cat([h[0] for h in halves]))
    assert torch.equal(whole[1], torch.cat([h[1] for h in halves]))
    assert torch.allclose(whole[1].sum(dim=1), torch.ones(8))
    if augment.cutmix:  # the share of a label is the share of the picture
        own = (whole[0][0, 0, 0] == clips[0, 0, 0]).float().mean()
        assert own.item() == pytest.approx(whole[1][0, 0].item(), abs=1e-6)


@given(
    n=st.integers(1, 200),
    fps=st.floats(5, 120),
    sampling=st.sampled_from(["dense", "uniform", "every-kth"]),
    seed=st.integers(0, 50),
)
def test_indices_rise_inside_the_video(n, fps, sampling, seed):
    clip = ClipSpec(8, 4, 40, 32, sampling=sampling)
    found = training_indices(n, fps, clip, np.random.default_rng(seed))
    assert len(found) == 8
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] < n


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_real_files_and_a_bad_one(clips, tmp_path, workers):
    split = read_split(clips / "train.csv")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((clips / "v0.mp4").read_bytes()[:300])
    samples = (*split.samples[:7], replace(split.samples[0], path=str(broken)))
    make = ClipMaker(samples, 2, SPEC, Augment(flip=0.5))
    batches = epoch_batches(8, ONE, seed=0, epoch=0)
    loaded = list(Loader(make, workers=workers).epoch(batches))
    assert [len(one.clips) for one in loaded].count(4) == 1  # the other batch lacks one clip
    assert sum(len(one.clips) for one in loaded) == 7
    bad = [b for one in loaded for b in one.bad]
    assert [b.path for b in bad] == [str(broken)]
    again = [make(batch) for batch in batches]
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(loaded, again, strict=True))


def test_too_many_bad_samples_stop_the_run(clips):
    from tubelet.train.data import Bad

    bad = BadSamples(limit=0.1, patience=10)
    bad.add(9, [Bad("x", "x: broken"), Bad("y", "y: broken")])
    with pytest.raises(UsageError, match="2 of the 13 samples"):
        bad.add(4, [])


def test_too_many_bad_samples_end_even_a_short_epoch():
    bad = BadSamples(limit=0.5)
    bad.add(4, [Bad("a.mp4", "a.mp4: broken")] * 2)
    bad.check()
    bad.add(4, [Bad("b.mp4", "b.mp4: broken")] * 3)
    with pytest.raises(UsageError, match="5 of the 8"):
        bad.check()
