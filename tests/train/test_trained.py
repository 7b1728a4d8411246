"""What `tubelet train` wrote is a model for every verb, from the file alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from safetensors import safe_open

import tubelet
from tubelet.cli import group
from tubelet.config import from_plain, to_plain
from tubelet.errors import UnknownName, UsageError, WeightsError
from tubelet.models import zoo
from tubelet.models.blocks.nonlocal_block import NonLocals
from tubelet.models.described import KEY, Description, loads, read_description
from tubelet.models.fast import accelerate
from tubelet.models.registry import config_of
from tubelet.train.recipe_network import SMALL, Network, build, describe, find_config
from tubelet.train.run_state import save_weights

YAML = """
MODEL: {ARCH: i3d, MODEL_NAME: ResNet, NUM_CLASSES: 7, LOSS_FUNC: cross_entropy}
RESNET: {DEPTH: 50, NUM_BLOCK_TEMP_KERNEL: [[3], [4], [6], [3]], WIDTH_PER_GROUP: 8}
NONLOCAL: {LOCATION: [[[]], [[1]], [[]], [[]]], GROUP: [[1], [1], [1], [1]], INSTANTIATION: softmax}
DATA: {NUM_FRAMES: 4, SAMPLING_RATE: 1, TRAIN_CROP_SIZE: 32, TEST_CROP_SIZE: 32}
TRAIN: {DATASET: kinetics}
"""
RECIPE = """
from tubelet.models.blocks.nonlocal_block import NonLocals
from tubelet.train.config import Data, LearningRate, Network, TrainConfig

def recipe():
    return TrainConfig(
        network=Network({name!r}, frames=4, interval=1, crop=32, short_side=36{more}),
        data=Data("train.csv", val="val.csv", classes=("dark", "light", "no"), allow_absent=True),
        rate=LearningRate(0.01, 1),
        batch_size=4,
    )
"""


@pytest.mark.parametrize("name", [*SMALL, *zoo.table().archs])
def test_every_configuration_comes_back(name):
    family, config = find_config(name)
    if not hasattr(family, "Config"):
        pytest.skip("not trained as a whole")
    plain = json.loads(json.dumps(to_plain(config)))
    assert from_plain(family.Config, plain) == config


def test_settings_of_released_checkpoints_come_back():
    for entry in zoo.table().entries.values():
        family, config = config_of(entry.arch, entry)
        assert from_plain(family.Config, json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize("name", SMALL)
def test_a_trained_file_is_a_model(name, tmp_path):
    stage = {"slowfast_small": "slow.res3"}.get(name, "res3")
    blocks = {stage: NonLocals((0,), "dot_product", groups=2)}
    if "mvit" in name or "nonlocal" in name:
        blocks = None
    network = Network(name, frames=16 if name == "slowfast_small" else 8, nonlocals=blocks)
    torch.manual_seed(0)
    model = build(network, num_classes=5, multi_label=True).eval()
    about = describe(network, model, classes=tuple("abcde"), multi_label=True)
    path = tmp_path / "best.safetensors"
    save_weights(path, model.state_dict(), about)
    clip = torch.randn(1, 3, model.clip.frames, 64, 64)
    for given in (path, tmp_path):
        again = tubelet.create_model(str(given))
        assert again.clip == model.clip
        told = (again.class_names, again.activation, again.model_id)
        assert told == (tuple("abcde"), "sigmoid", name)
        fast = accelerate(again, device="cpu", precision="fp32")
        assert (fast.class_names, fast.model_id) == (tuple("abcde"), name)
        with torch.no_grad():
            assert torch.equal(again(clip), model(clip))
    assert tubelet.create_model(name, weights=path).num_classes == 5
    with pytest.raises(UsageError, match="alone is enough"):
        tubelet.create_model("x3d_m", weights=path)
    with pytest.raises(UsageError, match="weights of its own"):
        tubelet.create_model(str(path), weights=path)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("slow_small", ', nonlocals={"res3": NonLocals((0,), form="gaussian")}'),
        ("rev_mvit_small", ""),
        ("own.yaml", ""),
    ],
)
def test_train_then_every_verb(name, more, clips, tmp_path, monkeypatch):
    recipe = clips / f"{name.partition('.')[0]}.py"
    recipe.write_text(RECIPE.format(name=name, more=more))
    (clips / "own.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    videos = [str(clips / f"v{i}.mp4") for i in range(2)]
    run = CliRunner().invoke

    def done(*words):
        result = run(group, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result

    done("train", recipe, "-o", "run")
    (clips / "own.yaml").unlink()
    best = "run/best.safetensors"
    done("extract", *videos, "-m", best, "-o", "features", "--logits")
    rows = tubelet.load("features/v0.npy")
    assert rows.values.shape[0] == 3  # 12 frames in windows of 4
    by_verb = json.loads(done("classify", videos[0], "-m", "run", "--json").stdout)
    assert {name for name, _ in by_verb["top"]} == {"dark", "light", "no"}
    want = np.load("features/logits/v0.npy").mean(axis=0)
    shares = np.exp(want - want.max()) / np.exp(want - want.max()).sum()
    got = dict(by_verb["top"])
    assert [got[n] for n in ("dark", "light", "no")] == pytest.approx(shares, abs=2e-5)
    listed = clips / "val.csv"
    table = json.loads(done("evaluate", best, listed, "-o", "scores", "--json").stdout)
    logged = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert table["top1"] == logged["val"]["top1"]
    assert "-> 3 rows" in done("plan", videos[0], "-m", best).output
    with pytest.raises(UsageError, match="leave weights="):
        tubelet.create_model(best, weights=best)


def test_what_a_stranger_may_have_written(tmp_path):
    network = Network("slow_small")
    model = build(network, num_classes=2)
    about = describe(network, model, classes=("a", "b"), multi_label=False)
    path = tmp_path / "w.safetensors"
    save_weights(path, model.state_dict(), about)
    assert read_description(path) == about

    def header(**changes):
        plain = {**to_plain(about), **changes}
        return json.dumps(plain)

    for text, words in [
        ("[]", "cannot be used"),
        ("[" * 100_000, "cannot be used"),
        (header(family="os"), "no family 'os'"),
        (header(config={"clip": 3}), "config.clip is 3"),
        (header(config={**to_plain(about.config), "more": 1}), "no field config.more"),
        (header(config={**to_plain(about.config), "num_classes": 10**9}), "is 1000000000"),
        (header(classes=[1]), "classes.0 is 1, not str"),
    ]:
        with pytest.raises(WeightsError, match=words):
            loads(text, where="w")
    # A network whose tensors are not in the file is refused before it takes memory.
    wide = replace(about.config, trunk=replace(about.config.trunk, widths=(60000,) * 4))
    safetensors.torch.save_file(
        model.state_dict(), path, {KEY: Description("x", "resnet3d", wide, ("a", "b")).dumps()}
    )
    with pytest.raises(WeightsError, match="do not fit"):
        tubelet.create_model(str(path))
    safetensors.torch.save_file(model.state_dict(), path, {"format": "pt"})
    with pytest.raises(UsageError, match="name that with -m"):
        tubelet.create_model(str(path))
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(WeightsError, match="damaged"):
        tubelet.create_model(str(path))


def test_the_file_tells_its_classes_in_plain_json(tmp_path):
    network = Network("c2d_nopool_small")
    model = build(network, num_classes=2)
    path = tmp_path / "w.safetensors"
    save_weights(
        path,
        model.state_dict(),
        describe(network, model, classes=("a", "b"), multi_label=False),
    )
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["trained"])["classes"] == ["a", "b"]


@pytest.mark.parametrize("name", ["i3d_inception_flow", "i3d_inception_two_stream"])
def test_networks_of_flow_are_refused_before_training(name):
    with pytest.raises(UsageError, match="training decodes RGB"):
        build(Network(name), num_classes=2)


def test_a_trained_file_is_not_converted(tmp_path):
    network = Network("c2d_nopool_small")
    model = build(network, num_classes=2)
    path = tmp_path / "w.safetensors"
    about = describe(network, model, classes=("a", "b"), multi_label=False)
    save_weights(path, model.state_dict(), about)
    again = CliRunner().invoke(group, ["convert", str(path), "-o", str(tmp_path / "c.safetensors")])
    assert "tubelet train" in str(again.exception)
    with pytest.raises(UnknownName, match="small variants are for training"):
        tubelet.create_model("slow_small")
