"""Names, aliases, errors, and what a created network says of its weights."""

import dataclasses
import importlib
import re
import subprocess
import sys

import pytest
import torch

import tubelet
from tubelet.errors import KeyMismatch, UnknownName, UsageError, WeightsError
from tubelet.extraction.extractor import Extractor
from tubelet.models import class_names, i3d, registry, zoo
from tubelet.models.registry import create_model
from tubelet.models.weights.load import save

DEFAULT = "i3d_inception_rgb_scratch.k400_jax"


def test_listing_needs_no_torch():
    code = "import sys, tubelet; tubelet.list_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_list_models_matches_shell_patterns():
    assert DEFAULT in tubelet.list_models()
    assert DEFAULT in tubelet.list_models("i3d_inception*")
    assert tubelet.list_models("nothing*") == []


def test_aliases():
    for name in ("i3d_inception.k400", "i3d_inception_rgb_scratch_k400_jax", DEFAULT):
        assert zoo.entry_for(name).id == DEFAULT


def test_every_network_of_the_table_is_a_variant_and_the_other_way_round():
    archs = zoo.table().archs
    families = {
        family: importlib.import_module(f"tubelet.models.{family}") for family in archs.values()
    }
    for arch, family in archs.items():
        assert arch in families[family].VARIANTS
    for family, module in families.items():
        assert {a for a, f in archs.items() if f == family} == set(module.VARIANTS)


@pytest.mark.parametrize("name", list(zoo.table().entries))
def test_every_entry_is_an_arch_dot_tag_with_a_configuration(name):
    entry = zoo.table().entries[name]
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
    assert entry.facts["source"]
    assert name.replace(".", "_") == entry.zoo_id
    _, config = registry.config_of(entry.arch, entry)
    assert config.clip == entry.clip
    assert len(config.clip.mean) == len(config.clip.std) == config.clip.channels
    assert entry.activation in ("softmax", "sigmoid", "none")
    assert config.num_classes == entry.classes
    if entry.dataset in class_names.FILES and entry.classes:
        assert len(class_names.labels(entry.dataset)) == entry.classes


def test_a_network_without_weights_is_an_error_that_lists_its_tags():
    with pytest.raises(UsageError, match=r"i3d_inception_rgb_scratch\.k400_jax.*--weights"):
        tubelet.create_model("i3d_inception_rgb_scratch")
    with pytest.raises(UsageError, match="no released weights"):
        tubelet.create_model("x3d_xl")


@pytest.mark.parametrize(
    "name", ["i3d_inceptoin.k400", "i3d_inception_rgb_scratch.k500", "", "nosuch"]
)
def test_unknown_names(name):
    with pytest.raises(UnknownName, match="no model"):
        tubelet.create_model(name)
    with pytest.raises(UnknownName, match="no model"):
        tubelet.create_model(name, weights=None)


def test_near_names_are_suggested():
    with pytest.raises(UnknownName, match=r"did you mean.*'i3d_inception\.k400'"):
        tubelet.create_model("i3d_inceptoin.k400")
    with pytest.raises(UnknownName, match=r"did you mean.*'slowfast_r50_8x8"):
        tubelet.create_model("slowfast_r50_8x8_k4")


def test_random_weights_only_on_request():
    model = tubelet.create_model("i3d_inception_rgb_scratch", weights=None)
    assert not model.training
    assert model.weights_sha256 is None
    assert model.weights_source == "random initialisation"
    assert model.clip.frames == 64


def test_a_file_decides_the_number_of_classes(tmp_path):
    torch.manual_seed(3)
    source = i3d.build(dataclasses.replace(i3d.Config(), num_classes=5))
    path = tmp_path / "five.safetensors"
    save(source, path, metadata={})
    model = tubelet.create_model("i3d_inception_rgb_scratch", weights=path)
    assert model.num_classes == 5
    assert model.dataset is None
    assert len(model.weights_sha256) == 64
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    tagged = tubelet.create_model("i3d_inception.k400", weights=str(path))
    assert (tagged.model_id, tagged.num_classes, tagged.dataset) == (DEFAULT, 5, None)


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "flow.safetensors"
    save(i3d.build(i3d.Config(clip=i3d.FLOW)), path, metadata={})
    with pytest.raises(KeyMismatch, match=r"stem\.conv\.weight"):
        tubelet.create_model("i3d_inception_rgb_scratch", weights=path)
    torch.save({"net.conv": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"no known layout \(net\.conv"):
        tubelet.create_model("i3d_inception_rgb_scratch", weights=tmp_path / "other.pt")
    with pytest.raises(UsageError, match="no such file"):
        tubelet.create_model("i3d_inception_rgb_scratch", weights=tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("dataset", "count", "index", "name"),
    [
        ("kinetics400", 400, 6, "arm wrestling"),
        ("kinetics600", 600, 0, "abseiling"),
        ("kinetics700", 700, 699, "zumba"),
        ("somethingv2", 174, 0, "Approaching something with your camera"),
        ("charades", 157, 2, "Taking some clothes from somewhere"),
    ],
)
def test_class_names(dataset, count, index, name):
    names = class_names.labels(dataset)
    assert (len(names), len(set(names))) == (count, count)
    assert names[index] == name
    with pytest.raises(UnknownName, match="did you mean 'kinetics400'"):
        class_names.labels("kinetics40")


def test_every_released_checkpoint_is_here_with_its_own_clip_or_a_reason(golden):
    rows = golden.table("checkpoints")["entries"]
    refused = {row["zoo_id"]: row["why"] for row in zoo.table().not_runnable}
    assert all(refused.values())
    for row in rows:
        if row["id"] in refused:
            continue
        entry = zoo.entry_for(row["id"])
        clip, expected = entry.clip, {}
        stated = {"frames": "num_frames", "interval": "sampling_rate"}
        expected |= {ours: row[theirs] for ours, theirs in stated.items() if row[theirs]}
        assert {name: getattr(clip, name) for name in expected} == expected, row["id"]
        if row["mean"]:
            scale = 255 if "255" in row["input_range"] else 1
            mean = [x / scale for x in row["mean"]][: clip.channels]
            assert clip.mean == pytest.approx(mean, abs=1e-6), row["id"]
        classes = 0 if entry.classes == 0 else row["num_classes"]
        assert (entry.classes, entry.layout) == (classes, row["layout"]), row["id"]


def test_the_clip_of_the_weights_is_in_the_recipe():
    entry = zoo.entry_for("x3d_s.k400")
    recipe = Extractor(create_model("x3d_s", weights=None), device="cpu").recipe()
    window, view, clip = recipe["window"], recipe["view"], entry.clip
    assert (window["frames"], window["interval"]) == (clip.frames, clip.interval) == (13, 6)
    assert (view["short_side"], view["crop"]) == (clip.short_side, clip.crop) == (182, 160)
    assert (tuple(view["mean"]), tuple(view["std"])) == (clip.mean, clip.std)
