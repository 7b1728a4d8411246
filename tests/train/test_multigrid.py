"""The multigrid schedule against the reference's, and where the reference has none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tubelet.errors import UsageError
from tubelet.train.multigrid import Base, Multigrid, plan
from tubelet.train.schedule import LearningRate

CONFIGURATIONS = [
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid",
    "SSv2/SLOWFAST_16x8_R50_multigrid",
    "Charades/SLOWFAST_16x8_R50_multigrid",
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid (4 GPUs)",
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid (batch 16)",
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid (short cycle only)",
]
NORMS = {"batch": "batchnorm", "sub": "sub_batchnorm", "sync": "sync_batchnorm"}


@pytest.fixture(scope="module")
def reference(golden):
    return golden.table("multigrid")


def rate_of(solver):
    cosine = solver["LR_POLICY"] == "cosine"
    return LearningRate(
        solver["BASE_LR"],
        solver["MAX_EPOCH"],
        policy="cosine" if cosine else "steps",
        steps=(0,) if cosine else tuple(solver["STEPS"]),
        factors=(1.0,) if cosine else tuple(solver["LRS"]),
        warmup_epochs=solver["WARMUP_EPOCHS"],
        warmup_start=solver["WARMUP_START_LR"],
        end=solver.get("COSINE_END_LR", 0.0),
        after_warmup=solver.get("COSINE_AFTER_WARMUP", False),
    )


def planned(settings):
    grid = settings["MULTIGRID"]
    base = Base(
        settings["batch_size"],
        settings["num_frames"],
        settings["crop"],
        settings["sampling_rate"],
        tuple(settings["jitter_scales"]),
        settings["NUM_GPUS"],
    )
    multigrid = Multigrid(
        grid["LONG_CYCLE"],
        grid["SHORT_CYCLE"],
        grid["EPOCH_FACTOR"],
        tuple(map(tuple, grid["LONG_CYCLE_FACTORS"])),
        tuple(grid["SHORT_CYCLE_FACTORS"]),
        grid["BN_BASE_SIZE"],
        grid["EVAL_FREQ"],
    )
    return plan(base, rate_of(settings["SOLVER"]), multigrid)


def as_reference(phase, devices):
    """A phase in the words of multigrid.json."""
    splits = phase.norm.groups if phase.norm.kind == "sub" else None
    sync = phase.norm.groups if phase.norm.kind == "sync" else None
    sizes = [[phase.shape(i).batch, i % 3] for i in range(7)]
    return {
        "from_epoch": phase.start,
        "batch_size": phase.shapes[-1].batch * devices,
        "batch_per_device": phase.shapes[-1].batch,
        "num_frames": phase.frames,
        "crop": phase.crop,
        "norm_type": NORMS[phase.norm.kind],
        "norm_splits": splits,
        "norm_sync_devices": sync,
        "sampling_rate_range": list(phase.intervals),
        "short_cycle_batch_sizes": [shape.batch for shape in phase.shapes],
        "short_cycle": [{"crop": s.crop, "jitter_scales": list(s.jitter)} for s in phase.shapes],
        "first_batches_size_and_index": sizes,
        "batches_for_30000_samples_per_device": phase.iterations(30000),
    }


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_phases_equal_the_reference(reference, name):
    facts = reference["configurations"][name]
    found = planned(facts["settings"])
    devices = facts["settings"]["NUM_GPUS"]
    phases: list[dict] = []
    for phase in found.phases:  # the reference lists changes of shape, not of learning rate
        new = as_reference(phase, devices)
        if not phases or {**new, "from_epoch": 0} != {**phases[-1], "from_epoch": 0}:
            phases.append(new)
    assert phases == facts["phases"]
    assert found.rate.epochs == facts["solver_after_init"]["MAX_EPOCH"]
    assert list(found.rate.steps) == facts["solver_after_init"]["STEPS"]
    assert found.rate.factors == pytest.approx(facts["solver_after_init"]["LRS"], rel=1e-9)
    if facts["long_cycle_schedule"]:
        wanted = [
            (cell["step_index"], cell["start_epoch"], cell["end_epoch"])
            for cell in facts["long_cycle_schedule"]
        ]
        assert list(found.schedule) == wanted
        assert list(found.evaluations) == facts["evaluation_epochs"] == facts["checkpoint_epochs"]
    for epoch, rate in facts["learning_rate"]:
        assert found.rate.at(epoch) == pytest.approx(rate, rel=1e-9)


def test_learning_rates_equal_the_reference(reference):
    for name, facts in reference["learning_rate_policies"].items():
        rate = rate_of(facts["solver"])
        for epoch, value in facts["learning_rate"]:
            assert rate.at(epoch) == pytest.approx(value, rel=1e-9), (name, epoch)


RATE = LearningRate(0.1, 20, policy="steps", steps=(0, 8, 14), factors=(1, 0.1, 0.01))
BASE = Base(8, 16, 64, 2, (64, 80))


def test_a_long_cycle_without_a_short_one():
    found = plan(BASE, RATE, Multigrid(short_cycle=False))
    assert {len(phase.shapes) for phase in found.phases} == {1}
    assert [phase.multiplier for phase in found.phases[:4]] == [8, 4, 2, 1]
    assert found.phases[-1].shapes[0].batch == 8
    assert found.phases[-1].end == found.rate.epochs == 30
    # Iterations of the base schedule over ours, and volumes per epoch, by hand.
    assert found.volume_saving == pytest.approx(
        20 * 16 * 64**2 / sum((p.end - p.start) * p.frames * p.crop**2 for p in found.phases)
    )


def test_small_batches_are_synchronised_as_far_as_there_are_devices():
    few = Base(2, 16, 64, 2, (64, 80), devices=1)
    assert plan(few, RATE, Multigrid()).phases[3].norm.kind == "batch"
    many = Base(8, 16, 64, 2, (64, 80), devices=4)
    assert plan(many, RATE, Multigrid()).phases[3].norm.groups == 4


@given(
    batch=st.integers(1, 64),
    frames=st.sampled_from([4, 5, 8, 16, 32, 64]),
    crop=st.sampled_from([32, 56, 112, 160, 224, 312]),
    epochs=st.integers(12, 300),
    factor=st.floats(0.8, 3),
    long_cycle=st.booleans(),
    short_cycle=st.booleans(),
    smallest=st.sampled_from([0.25, 0.4, 0.5, 0.5**0.5]),
)
def test_every_plan_is_sound(
    batch, frames, crop, epochs, factor, long_cycle, short_cycle, smallest
):
    steps = (0, epochs // 3, 2 * epochs // 3)
    rate = LearningRate(0.1, epochs, policy="steps", steps=steps, factors=(1, 0.1, 0.01))
    grid = Multigrid(long_cycle, short_cycle, factor, ((0.25, smallest), (0.5, 1.0), (1.0, 1.0)))
    found = plan(Base(batch, frames, crop, 2, (crop, crop * 2)), rate, grid)
    edges = [edge for phase in found.phases for edge in (phase.start, phase.end)]
    assert edges[0] == 0
    assert edges[-1] == math.ceil(found.rate.epochs)
    assert all(a < b for a, b in zip(edges[::2], edges[1::2], strict=True))
    assert edges[1:-1:2] == edges[2::2]
    assert found.evaluations[-1] == edges[-1] - 1
    for phase in found.phases:
        assert phase.intervals[0] <= phase.intervals[1]
        for shape in phase.shapes:
            assert shape.batch >= 1
            assert shape.crop <= crop
            assert phase.norm.kind != "sub" or shape.batch % phase.norm.groups == 0
            assert shape.jitter[0] >= shape.crop
    last = found.phases[-1]
    assert (last.frames, last.crop) == (frames, crop)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: plan(BASE, LearningRate(0.1, 20), Multigrid()), "long_cycle=False"),
        (lambda: Base(9, 8, 64, 2, (64, 80), devices=2), "divide"),
        (lambda: LearningRate(0.1, 10, policy="steps", steps=(0, 12), factors=(1, 2)), "12"),
        (lambda: LearningRate(0.1, 10, warmup_epochs=12), "warm-up"),
        (lambda: Multigrid(epoch_factor=0), "epoch_factor"),
        (lambda: LearningRate(0.1, 10, policy="linear"), "cosine or steps"),
    ],
)
def test_mistakes_are_named(make, says):
    with pytest.raises(UsageError, match=says):
        make()
