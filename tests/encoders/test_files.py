"""Files of the convolutional encoders: other layouts, what does not fit, what is told."""

import re
from dataclasses import replace

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


def test_transformers_5_writes_vivit_under_new_names(released, tmp_path):
    """The published names and those that transformers writes today give the same tensors."""
    theirs = load_checkpoint(released("vivit_short")).tensors
    new = {
        "encoder.layer": "layers", "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj", "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }  # fmt: skip

    def rename(key):
        for published, today in new.items():
            key = key.replace(published, today)
        return key

    other = tmp_path / "today.pth"
    pooler = {"vivit.pooler.dense.weight": torch.ones(96, 96)}  # random in every file: left out
    torch.save({rename(key): value for key, value in theirs.items()} | pooler, other)
    files = (released("vivit_short"), other)
    first, second = (numbers.network(CASES["vivit_short"], f).state_dict() for f in files)
    assert all(torch.equal(first[key], second[key]) for key in first)


def authors_timesformer(key):
    """transformers' name of a TimeSformer tensor, as the authors' files spell it."""
    for pattern, replacement in (
        (r"^timesformer\.embeddings\.cls_token", "cls_token"),
        (r"^timesformer\.embeddings\.position_embeddings", "pos_embed"),
        (r"^timesformer\.embeddings\.time_embeddings", "time_embed"),
        (r"^timesformer\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^timesformer\.encoder\.layer", "blocks"),
        (r"^timesformer\.layernorm", "norm"),
        (r"^classifier", "head"),
        (r"\.temporal_layernorm\.", ".temporal_norm1."),
        (r"\.temporal_attention\.attention\.", ".temporal_attn."),
        (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
        (r"\.temporal_dense\.", ".temporal_fc."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    ):
        key = re.sub(pattern, replacement, key)
    return f"model.{key}"


def test_the_authors_spell_timesformer(released, tmp_path):
    file = released("timesformer_short")
    theirs = load_checkpoint(file).tensors
    other = tmp_path / "authors.pyth"
    torch.save({"model_state": {authors_timesformer(k): v for k, v in theirs.items()}}, other)
    case = CASES["timesformer_short"]
    first, second = (numbers.network(case, f).state_dict() for f in (file, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_hiera_of_masked_pretraining_has_neither_norm_nor_classes(released, tmp_path):
    case = CASES["hiera_short"]
    tensors = dict(load_checkpoint(released("hiera_short")).tensors)
    fine = numbers.network(case, released("hiera_short"))
    for key in ("norm.weight", "norm.bias", "head.projection.weight", "head.projection.bias"):
        del tensors[key]
    tensors |= {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8),
                "encoder_norm.weight": torch.ones(256)}  # fmt: skip
    file = tmp_path / "mae.pth"
    torch.save({"model_state": tensors}, file)
    changes = {**case.changes, "pretrained": True, "num_classes": 0}
    model = numbers.network(replace(case, model="hiera_b_16x4_mae", changes=changes), file)
    clip = numbers.clip(case.shape)
    with torch.inference_mode():
        row = model.features(clip)["pool"]
        grid = fine.features(clip, ("grid",))["grid"]
    assert torch.allclose(row, grid.mean(dim=(2, 3, 4)), rtol=1e-5, atol=1e-6)
    with pytest.raises(KeyMismatch, match="norm"):
        numbers.network(case, file)


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
