"""Files of the convolutional encoders: other layouts, what does not fit, what is told."""

import re

import pytest
import torch
from tests.encoders import numbers
from tests.encoders.cases import CASES

import tubelet
from tubelet.clips.transform import view_config
from tubelet.errors import ClipError, KeyMismatch
from tubelet.models.identify import identify
from tubelet.models.weights.files.checkpoint import load_checkpoint


@pytest.fixture
def released(tmp_path):
    def make(name):
        keys, _ = numbers.read(name)
        return numbers.file_of(CASES[name], keys, tmp_path)

    return make


def vmz(key):
    """mmaction2's name of a CSN tensor, as VMZ spells it."""
    part = {"conv": "0", "bn": "1"}
    key = key.removeprefix("backbone.").replace("cls_head.fc_cls", "fc")
    key = re.sub(r"^conv1\.(conv|bn)", lambda m: f"stem.{part[m[1]]}", key)
    key = re.sub(r"\.(conv[13]|downsample)\.(conv|bn)", lambda m: f".{m[1]}.{part[m[2]]}", key)
    key = re.sub(r"\.conv2\.0\.conv", ".conv2.0.0", key)
    key = re.sub(r"\.conv2\.0\.bn", ".conv2.0.1", key)
    key = re.sub(r"\.conv2\.1\.conv", ".conv2.0.2", key)
    return re.sub(r"\.conv2\.1\.bn", ".conv2.1", key)


def test_vmz_spells_the_same_network(released, tmp_path):
    """Both layouts of one ip-CSN give the same tensors."""
    file = released("ip_csn_r50")
    theirs = load_checkpoint(file).tensors
    other = tmp_path / "vmz.pth"
    torch.save({vmz(key): value for key, value in theirs.items()}, other)
    first, second = (numbers.network(CASES["ip_csn_r50"], f).state_dict() for f in (file, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("case", "name"),
    [("mc3_18", "mc3_18"), ("ir_csn_r50", "ir_csn_r50_32x2"), ("s3d_milnce", "s3d_milnce")],
)
def test_a_file_tells_its_network(released, case, name):
    assert identify(released(case)) == name


def test_a_lost_tensor_is_named(released, tmp_path):
    tensors = dict(load_checkpoint(released("mc3_18")).tensors)
    del tensors["layer2.0.downsample.1.running_var"]
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(KeyMismatch, match=r"res3\.0\.shortcut\.0\.bn\.running_var"):
        tubelet.create_model("mc3_18", weights=tmp_path / "x.pth")


def test_inner_widths_of_torchvision_and_tsp_are_told_apart(released):
    with pytest.raises(KeyMismatch, match="misshapen"):
        tubelet.create_model("r2plus1d_34", weights=released("r2plus1d_18"))


def test_tsp_has_rows_and_no_classes():
    model = tubelet.create_model("r2plus1d_34.activitynet_tsp", weights=None)
    assert (model.width, model.num_classes) == (512, 0)
    assert model.clip.long_side == 171


def test_frames_are_squashed_as_the_weights_expect():
    clip = tubelet.create_model("mc3_18", weights=None).clip
    view = view_config(clip)
    assert (view.fit, view.short_side, view.long_side, view.crop) == ("stretch", 128, 171, 112)


def test_milnce_refuses_odd_sizes():
    model = tubelet.create_model("s3d_milnce", weights=None)
    with pytest.raises(ClipError, match="even"):
        model.features(torch.zeros(1, 3, 5, 64, 64))
