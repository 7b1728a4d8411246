"""Training runs: resumed exactly, equal on two devices, with every kind of schedule."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tubelet
from tubelet.errors import RecipeMismatch, UsageError
from tubelet.train.config import (
    Augment,
    Data,
    LearningRate,
    Multigrid,
    Network,
    Optim,
    TrainConfig,
    load_recipe,
    plan_of,
)
from tubelet.train.devices import Device
from tubelet.train.loop import Run, read_splits
from tubelet.train.norm import weights_of
from tubelet.train.recipe_network import build
from tubelet.train.run_folder import train

TINY = Network("c2d_nopool_small", frames=4, interval=1, crop=32, short_side=36)
CONFIG = TrainConfig(
    network=TINY,
    data=Data("train.csv", val="val.csv"),
    rate=LearningRate(0.05, 3, warmup_epochs=1),
    batch_size=4,
)


def started(config, clips):
    splits = read_splits(config, clips)
    return Run(config, train=splits[0], val=splits[1], device=Device("cpu"))


def same(a, b, **tolerance):
    assert set(a) == set(b)
    for key in a:
        if tolerance:
            assert torch.allclose(a[key], b[key], **tolerance), key
        else:
            assert torch.equal(a[key], b[key]), key


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_as_if_it_had_not_been(clips, tmp_path, monkeypatch):
    config = replace(
        CONFIG,
        network=replace(TINY, dropout=0.2, drop_path=0.2),
        augment=Augment(flip=0.5, mixup=0.4, cutmix=0.5, repeats=2),
        optim=Optim("adamw", layer_decay=0.8, ema=0.9, accumulate=2, clip_norm=1.0),
        precise_norm=1,
        save_every=1,
    )
    whole = train(config, tmp_path / "a", folder=clips)
    step = Run.step

    def stops(self, made, rate):
        if (self.epoch, made.batch.index) == (1, 2):
            raise Stopped
        return step(self, made, rate)

    monkeypatch.setattr(Run, "step", stops)
    with pytest.raises(Stopped):
        train(config, tmp_path / "b", folder=clips)
    monkeypatch.setattr(Run, "step", step)
    resumed = train(config, tmp_path / "b", folder=clips)
    assert [r["losses"] for r in resumed.history] == [r["losses"] for r in whole.history]
    assert [r["val"] for r in resumed.history] == [r["val"] for r in whole.history]
    same(resumed.model.state_dict(), whole.model.state_dict())
    same(resumed.final_weights(), whole.final_weights())
    assert (tmp_path / "b" / "best.safetensors").exists()
    # Another recipe in the same folder is refused, and so is another network.
    with pytest.raises(RecipeMismatch, match="another recipe"):
        train(replace(config, batch_size=6), tmp_path / "b", folder=clips)
    other = replace(config, network=replace(TINY, name="i3d_small"))
    with pytest.raises(RecipeMismatch, match="checkpoint of c2d_nopool_small"):
        train(other, tmp_path / "b", folder=clips)


RECIPE = """
from tubelet.train.config import Augment, Data, LearningRate, Network, TrainConfig

def recipe():
    return TrainConfig(
        network=Network("i3d_small", frames=4, interval=1, crop=32, short_side=36),
        data=Data("{folder}/train.csv", val="{folder}/val.csv"),
        rate=LearningRate(0.002, 2),
        augment=Augment(flip=0.5, cutmix=1.0),
        batch_size=4,
        norm="{norm}",
    )
"""


def test_two_processes_are_one(clips, tmp_path):
    """Losses, gradients (through the weights that they make) and metrics."""
    (tmp_path / "recipe.py").write_text(RECIPE.format(folder=clips, norm="sync"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command += ["-m", "tubelet", "train", "recipe.py", "-o", "two"]
    source = str(Path(tubelet.__file__).parents[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (tmp_path / "one.py").write_text(RECIPE.format(folder=clips, norm="batch"))
    one = train(load_recipe(tmp_path / "one.py"), tmp_path / "one", folder=tmp_path)
    two = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)
    for a, b in zip(one.history, two["history"], strict=True):
        assert a["losses"] == pytest.approx(b["losses"], rel=1e-4)
        assert a["val"] == pytest.approx(b["val"], rel=1e-6)
    weights = {k: v for k, v in weights_of(one.model).items() if "tracked" not in k}
    same(weights, {k: two["model"][k] for k in weights}, rtol=1e-3, atol=2e-5)


def test_multigrid_end_to_end(clips, tmp_path):
    config = replace(
        CONFIG,
        network=Network("slowfast_small", frames=16, interval=1, crop=64, short_side=64),
        rate=LearningRate(0.01, 3, policy="steps", steps=(0, 2), factors=(1, 0.1)),
        batch_size=1,
        multigrid=Multigrid(epoch_factor=1.0, long_factors=((0.5, 0.75), (1, 1)), norm_size=2),
    )
    run = train(config, tmp_path, folder=clips)
    assert [r["phase"] for r in run.history] == [f"{p.frames}x{p.crop}" for p in phases(run)]
    assert {r["phase"] for r in run.history} == {"8x48", "16x64"}
    assert all(loss == loss for r in run.history for loss in r["losses"])
    assert run.plan.volume_saving > 1
    assert all(r["bound_by"] in ("decode", "compute") for r in run.history)


def phases(run):
    return [run.plan.phase(r["epoch"]) for r in run.history]


@pytest.mark.parametrize("name", ["mvit_v2_small", "rev_mvit_small"])
def test_a_long_cycle_of_a_transformer(clips, name):
    config = replace(
        CONFIG,
        network=Network(name, frames=8, interval=1, crop=64, short_side=64, drop_path=0.1),
        rate=LearningRate(0.01, 2, policy="steps", steps=(0, 1), factors=(1, 0.1)),
        optim=Optim("adamw"),
        batch_size=1,
        multigrid=Multigrid(True, False, 1.0, ((0.5, 0.5), (1, 1))),
        data=replace(CONFIG.data, val=None),
    )
    run = started(config, clips)
    sizes = [(run.model.clip.frames, run.model.clip.crop) for _ in run.epochs()]
    assert sizes[-1] == (8, 64)
    assert (4, 32) in sizes
    with pytest.raises(UsageError, match="short_cycle=False"):
        plan_of(replace(config, multigrid=Multigrid()))


@pytest.mark.parametrize("tune", ["head", 1])
def test_only_what_is_tuned_changes(clips, tune):
    run = started(replace(CONFIG, tune=tune, data=replace(CONFIG.data, val=None)), clips)
    before = {k: v.clone() for k, v in weights_of(run.model).items()}
    next(run.epochs())
    changed = {k for k, v in weights_of(run.model).items() if not torch.equal(v, before[k])}
    kinds = {key.partition(".")[0] for key in changed}
    assert kinds == ({"classifier"} if tune == "head" else {"classifier", "res5"})


def gradients(config, clips):
    run = started(config, clips)
    run.enter(run.plan.phases[0])
    torch.manual_seed(0)
    made = next(run.loader.epoch(run.batches(run.plan.phases[0], 0)))
    run.step(made, 0.0)
    return {n: p.grad.clone() for n, p in run.model.named_parameters()}, run.model.state_dict()


def test_recomputed_activations_and_parts_give_the_same_gradients(clips):
    plain, statistics = gradients(CONFIG, clips)
    again, counted = gradients(replace(CONFIG, checkpoint_activations=True), clips)
    same(plain, again, rtol=1e-4, atol=1e-6)
    same(statistics, counted, rtol=1e-5, atol=1e-6)
    frozen = replace(CONFIG, norm="frozen")
    whole, parts = (
        {k: p.grad for k, p in stepped(replace(frozen, optim=Optim(accumulate=n)), clips)}
        for n in (1, 4)
    )
    same(whole, parts, rtol=1e-3, atol=1e-5)


def stepped(config, clips):
    run = started(config, clips)
    run.enter(run.plan.phases[0])
    run.step(next(run.loader.epoch(run.batches(run.plan.phases[0], 0))), 0.0)
    return [(k, p) for k, p in run.model.named_parameters() if p.grad is not None]


def test_bfloat16_and_several_labels(clips, tmp_path):
    rows = [f"{clips}/v{i}.mp4 {i % 2},{2 + i % 3}" for i in range(12)]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    config = replace(
        CONFIG,
        data=Data("train.csv", val="train.csv", multi_label=True),
        precision="bf16",
        class_weights="balanced",
        rate=LearningRate(0.05, 1),
        views=(2, 3),
    )
    run = train(config, tmp_path / "out", folder=tmp_path)
    assert 0 < run.history[0]["val"]["map"] <= 1
    assert run.model.activation == "sigmoid"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_from_fewer_frames_than_a_kernel_has(clips, precision):
    network = Network("i3d_small", frames=4, interval=1, crop=32, short_side=36)
    run = started(replace(CONFIG, network=network, precision=precision), clips)
    for record in run.epochs():
        assert None not in record["losses"]
    conv, clip = run.model.stem.conv, torch.randn(2, 3, 4, 32, 32)

    def gradient(enabled):
        conv.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = conv(clip)
        out.backward(torch.ones_like(out))
        return conv.weight.grad

    assert torch.allclose(gradient(True), gradient(False))


def test_tensorboard_reads_the_log(clips, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(replace(CONFIG, tensorboard=True), tmp_path, folder=clips)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/rate", "val/top1"} <= set(events.Tags()["scalars"])
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([record["loss"] for record in run.history])


def test_bad_samples_are_left_out_and_listed(clips, tmp_path):
    (tmp_path / "bad.mp4").write_bytes((clips / "v0.mp4").read_bytes()[:400])
    rows = [f"{clips}/v{i}.mp4 {i % 2}" for i in range(12)] + ["bad.mp4 0"] * 4
    (tmp_path / "train.csv").write_text("\n".join(rows))
    config = replace(CONFIG, data=Data("train.csv", max_bad=0.5), rate=LearningRate(0.05, 1))
    run = train(config, tmp_path / "out", folder=tmp_path)
    assert run.history[0]["clips"] == 12
    assert run.bad.count == 4
    listed = (tmp_path / "out" / "bad_samples.jsonl").read_text()
    assert listed.count("\n") == 1
    assert "bad.mp4" in listed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": replace(TINY, name="i3d_smal")}, "did you mean"),
        ({"network": replace(TINY, weights="gone.pt")}, "no such file"),
        ({"batch_size": 40}, "do not fill one batch"),
        ({"tune": 9}, "last stages"),
        ({"class_weights": (1.0,)}, "1 class_weights for 2 classes"),
        ({"jitter": (20, 40)}, "jitter"),
        ({"data": Data("gone.csv")}, "no such list"),
    ],
)
def test_mistakes_are_found_before_the_first_iteration(clips, tmp_path, change, says):
    with pytest.raises(UsageError, match=says):
        train(replace(CONFIG, **change), tmp_path, folder=clips)


def test_weights_of_another_architecture_are_refused(clips, tmp_path):
    from tubelet.errors import KeyMismatch

    torch.save(build(Network("i3d_small"), num_classes=3).state_dict(), tmp_path / "w.pt")
    config = replace(CONFIG, network=replace(TINY, weights=str(tmp_path / "w.pt")))
    with pytest.raises(KeyMismatch, match="misshapen"):
        train(config, tmp_path, folder=clips)


def test_recipes(tmp_path, clips):
    recipe = tmp_path / "r.py"
    recipe.write_text(RECIPE.format(folder=clips, norm="batch").replace("batch_size", "bach_size"))
    with pytest.raises(UsageError, match="TrainConfig has no field 'bach_size'; did you mean"):
        load_recipe(recipe)
    for own, says in (
        ("import nothing_there", "r.py, line 1: ModuleNotFoundError: No module named"),
        ("def recipe():\n    return {}['name']", "r.py, line 2: KeyError: 'name'"),
        ("def recipe():\n    return len(3)", "r.py, line 2: TypeError: object of type"),
        ("def recipe(:", "r.py, line 1: invalid syntax"),
    ):
        recipe.write_text(own)
        with pytest.raises(UsageError, match=says):
            load_recipe(recipe)
    recipe.write_text("x = 1")
    with pytest.raises(UsageError, match="defines a function"):
        load_recipe(recipe)
    with pytest.raises(UsageError, match="no such recipe"):
        load_recipe(tmp_path / "none.py")


def test_the_plan_is_printed_and_nothing_runs(clips, tmp_path):
    from click.testing import CliRunner

    from tubelet.cli.train import command

    rate = "LearningRate(0.05, 9, policy='steps', steps=(0, 6), factors=(1, .1))"
    text = RECIPE.format(folder=clips, norm="batch")
    text = text.replace("import ", "import Multigrid, ")
    text = text.replace("batch_size=4", "multigrid=Multigrid(long_factors=((0.5, 1), (1, 1)))")
    text = text.replace("LearningRate(0.002, 2)", f"{rate}, batch_size=1")
    text = text.replace("crop=32, short_side=36", "crop=64, short_side=64")
    (tmp_path / "r.py").write_text(text)
    result = CliRunner().invoke(command, [str(tmp_path / "r.py"), "--plan"])
    assert result.exit_code == 0, result.output
    assert "2 x 64" in result.output
    assert "predicted saving" in result.output
    assert not (tmp_path / "r").exists()
