"""Every checkpoint layout: complete key lists, one to one, and refusal of what does not belong."""

import pickle
import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from tubelet.cli import convert
from tubelet.errors import KeyMismatch
from tubelet.models import zoo
from tubelet.models.registry import config_of, create_model
from tubelet.models.weights import load
from tubelet.models.weights.files.checkpoint import Checkpoint
from tubelet.models.weights.layouts import pyslowfast, pyslowfast_mvit

# complete list -> an entry of the table whose network has it
NETWORKS = {
    "pytorchvideo.slow_r50": "slow_r50_8x8_k400_ptv",
    "pytorchvideo.i3d_r50": "i3d_r50_8x8_k400_ptv",
    "pytorchvideo.c2d_r50": "c2d_r50_8x8_k400_ptv",
    "pytorchvideo.slowfast_r50": "slowfast_r50_8x8_k400_ptv",
    "pytorchvideo.slowfast_r101": "slowfast_r101_8x8_k400_ptv",
    "pytorchvideo.slowfast_16x8_r101_50_50": "slowfast_r101_50_50_16x8_k400_ptv",
    "pytorchvideo.slow_r50_detection": "slow_r50_4x16_ava22_ptv",
    "pytorchvideo.slowfast_r50_detection": "slowfast_r50_8x8_ava22_ptv",
    "pytorchvideo.x3d_m (also xs, s)": "x3d_m_k400_ptv",
    "pytorchvideo.x3d_l": "x3d_l_k400_ptv",
    "pytorchvideo.mvit_base_16x4": "mvit_v1_b_16x4_k400_ptv",
    "torchvision.mvit_v1_b": "mvit_v1_b_16x4_k400_tv",
    "torchvision.mvit_v2_s": "mvit_v2_s_16x4_k400_tv",
    "mmaction2.slowonly_r50": "slowonly_r50_8xb16_8x8x1_256e_kinetics400_rgb_mm1",
    "mmaction2.slowfast_r50_8x8_steplr (lateral_norm)":
        "slowfast_r50_8xb8_8x8x1_steplr_256e_kinetics400_rgb_mm1",
    "mmaction2.slowfast_r50_8x8": "slowfast_r50_8xb8_8x8x1_256e_kinetics400_rgb_mm1",
    "mmaction2.i3d_r50": "i3d_imagenet_pretrained_r50_8xb8_32x2x1_100e_kinetics400_rgb_mm1",
    "mmaction2.i3d_r50_nl_dot_product":
        "i3d_imagenet_pretrained_r50_nl_dot_product_8xb8_32x2x1_100e_kinetics400_rgb_mm1",
    "mmaction2.c2d_r50": "c2d_r50_in1k_pre_8xb32_8x8x1_100e_kinetics400_rgb_mm1",
    "mmaction2.x3d_m": "x3d_m_16x5x1_facebook_kinetics400_rgb_mm1",
    "mmaction2.mvit_small": "mvit_small_p244_32xb16_16x4x1_200e_kinetics400_rgb_mm1",
    "caffe2.c2d_r50_nopool": "c2d_nopool_r50_8x8_k400",
    "caffe2.i3d_r50": "i3d_r50_8x8_k400",
    "caffe2.i3d_nln_r50": "i3d_nln_r50_8x8_k400",
    "caffe2.slow_r50": "slow_r50_8x8_k400",
    "caffe2.slowfast_r50": "slowfast_r50_8x8_k400",
    "caffe2.slowfast_nln_r101_50_50": "slowfast_r101_nln_8x8_ava21",
}  # fmt: skip
# The list was made of the network with a Kinetics head; its released weights are a detector's.
CLASSES = {"caffe2.slowfast_nln_r101_50_50": 400}
IDENTITY_NORM = "res2.0.shortcut_bn."


@pytest.fixture(scope="module")
def maps(golden):
    return golden.table("layouts")["complete_maps"]


def network(zoo_id, classes=None):
    """The network of an entry, without memory for its weights."""
    entry = zoo.entry_for(zoo_id)
    family, config = config_of(entry.arch, entry)
    if classes is not None:
        config = replace(config, num_classes=classes)
    with torch.device("meta"):
        return family.build(config), entry


def constants(pairs):
    """{source key: a tensor full of one number, its own}, {PySlowFast key: that number}."""
    source, expected = {}, {}
    for number, pair in enumerate(pairs, start=1):
        source[pair[0]] = torch.tensor(float(number)).expand(pair[2])
        expected[pair[1]] = float(number)
    return source, expected


def first(tensor):
    return float(tensor.flatten()[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_complete_key_lists_map_one_to_one(maps, tmp_path, name):
    pairs = maps[name]["pairs"]
    model, entry = network(NETWORKS[name], CLASSES.get(name))
    source, expected = constants(pairs)
    layout = load.find_layout(Checkpoint(tmp_path, "test", source, ""))
    assert layout.name.split("-")[0] in (entry.layout, name.split(".")[0])
    found = layout.convert(source, model)
    assert not found.dropped
    load.load_strictly(model, found.tensors, where=name)
    if "mvit" in name:
        check_transformer(found.tensors, expected)
        return
    filled = {key for key in found.tensors if key.startswith(IDENTITY_NORM)}
    for ours, value in found.tensors.items():
        if ours in filled and "x3d" in name and "pytorchvideo" in name:
            continue
        assert first(value) == expected.pop(pyslowfast.pyslowfast_name(ours)), ours
    assert not expected


def check_transformer(tensors, expected):
    want = {}
    for key, number in expected.items():
        base, _, part = key.partition("[")
        want.setdefault(pyslowfast_mvit.rename(base), {})[part] = number
    assert set(want) == set(tensors)
    for key, value in tensors.items():
        if "" in want[key]:
            assert first(value) == want[key][""], key
        else:
            rows = value.unflatten(0, (3, -1))
            assert [first(row) for row in rows] == [want[key][f"{x}]"] for x in "qkv"], key


@pytest.mark.parametrize(
    "name", ["pytorchvideo.slow_r50", "mmaction2.x3d_m", "torchvision.mvit_v2_s"]
)
def test_a_missing_or_added_key_is_refused(maps, name):
    model, _ = network(NETWORKS[name])
    source, _ = constants(maps[name]["pairs"])
    layout = load.find_layout(Checkpoint(None, "test", source, ""))
    for change in ({"backbone.extra.weight": torch.zeros(1)}, {"blocks.77.attn.x": torch.zeros(1)}):
        with pytest.raises(KeyMismatch, match=r"1 unexpected: .*(extra|77)"):
            load.load_strictly(model, layout.convert(source | change, model).tensors, where="x")
    removed = dict(source)
    removed.pop(next(key for key in removed if re.search(r"norm|bn|\.1\.conv1", key)))
    with pytest.raises(KeyMismatch, match="missing"):
        load.load_strictly(model, layout.convert(removed, model).tensors, where="x")


def test_wrapped_copies_and_aliases_of_pytorchvideo(maps):
    model, _ = network("slowfast_r50_8x8_k400_ptv_pysf")
    source, _ = constants(maps["pytorchvideo.slowfast_r50"]["pairs"])
    wrapped = {f"model.{key}": value for key, value in source.items()}
    layout = load.find_layout(Checkpoint(None, "test", wrapped, ""))
    load.load_strictly(model, layout.convert(wrapped, model).tensors, where="x")

    model, _ = network("mvit_v1_b_16x4_k400_ptv")
    source, _ = constants(maps["pytorchvideo.mvit_base_16x4"]["pairs"])
    aliases = {
        key.replace(".pool_k.", "._attention_pool_k.pool."): value
        for key, value in source.items()
        if ".pool_k." in key
    }
    layout = load.find_layout(Checkpoint(None, "test", source, ""))
    found = layout.convert(source | aliases, model)
    assert found.dropped == list(aliases)
    load.load_strictly(model, found.tensors, where="x")


def test_the_missing_norm_of_pytorchvideos_x3d_is_the_identity(maps):
    model, _ = network("x3d_s_k400_ptv")
    source, _ = constants(maps["pytorchvideo.x3d_m (also xs, s)"]["pairs"])
    tensors = load.find_layout(Checkpoint(None, "t", source, "")).convert(source, model).tensors
    norm = torch.nn.BatchNorm3d(24).eval()
    norm.load_state_dict(
        {k.removeprefix(IDENTITY_NORM): v for k, v in tensors.items() if IDENTITY_NORM in k}
    )
    x = torch.randn(1, 24, 2, 3, 3)
    torch.testing.assert_close(norm(x), x, rtol=0, atol=1e-7)


def test_columns_of_mmaction2s_slowfast_are_swapped(maps):
    name = "mmaction2.slowfast_r50_8x8"
    model, _ = network(NETWORKS[name])
    source, _ = constants(maps[name]["pairs"])
    source["cls_head.fc_cls.weight"] = torch.arange(2304.0).expand(400, 2304)
    tensors = load.find_layout(Checkpoint(None, "t", source, "")).convert(source, model).tensors
    row = tensors["classifier.weight"][0]
    assert torch.equal(row, torch.cat([torch.arange(256.0, 2304), torch.arange(256.0)]))


def test_detection_heads_of_mmaction2_are_left_out(maps):
    model, _ = network("slowfast_kinetics_pretrained_r50_8x8x1_20e_ava_rgb_mm0")
    source, _ = constants(maps["mmaction2.slowfast_r50_8x8"]["pairs"])
    source = {key: value for key, value in source.items() if not key.startswith("cls_head.")}
    head = {"roi_head.bbox_head.fc_cls.weight": torch.zeros(81, 2304)}
    found = load.find_layout(Checkpoint(None, "t", source, "")).convert(source | head, model)
    assert found.dropped == list(head)
    load.load_strictly(model, found.tensors, where="x")


def test_contrastive_checkpoints_give_the_backbone(maps):
    model, _ = network("slow_r50_8x8_moco_rho2_k400_ssl")
    source, _ = constants(
        [[f"backbone.{p[1]}", *p[1:]] for p in maps["pytorchvideo.slow_r50"]["pairs"]]
    )
    head = {key: value for key, value in source.items() if key.startswith("backbone.head.")}
    extra = {
        key: torch.zeros(1)
        for key in (
            "backbone_hist.s1.pathway0_stem.conv.weight",
            "queue_x",
            "ptr",
            "iter",
            "knn_mem.memory",
        )
    }
    found = load.find_layout(Checkpoint(None, "t", source, "")).convert(source | extra, model)
    assert set(found.dropped) == set(head) | set(extra)
    load.load_strictly(model, found.tensors, where="x")
    odd = source | {"optimizer_q": torch.zeros(1)}
    tensors = load.find_layout(Checkpoint(None, "t", odd, "")).convert(odd, model).tensors
    with pytest.raises(KeyMismatch, match="optimizer_q"):
        load.load_strictly(model, tensors, where="x")


def test_maskfeat_checkpoints_give_the_backbone():
    model, _ = network("mvit_v2_s_16x4_maskfeat_k400_pt")
    names = {pyslowfast_mvit.rename(key): key for key in PYSLOWFAST_MVIT_KEYS}
    source = {
        names.get(key, key): torch.zeros(value.shape)
        for key, value in model.state_dict().items()
        if not key.startswith("norm.")
    }
    source = {unrenamed(key): value for key, value in source.items()}
    extra = {"mask_token": torch.zeros(1, 1, 96), "pred_head.projections.0.weight": torch.zeros(2)}
    found = load.find_layout(Checkpoint(None, "t", source | extra, "")).convert(
        source | extra, model
    )
    assert set(found.dropped) == set(extra)
    load.load_strictly(model, found.tensors, where="x")
    assert torch.equal(found.tensors["norm.weight"], torch.ones(768))


PYSLOWFAST_MVIT_KEYS = ("cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias")


def unrenamed(key):
    """PySlowFast's name of one of our MViT keys."""
    key = key.replace(".norm_attention.", ".norm1.").replace(".norm_mlp.", ".norm2.")
    key = key.replace(".widen.", ".proj.").replace(".attention.out.", ".attn.proj.")
    key = re.sub(r"\.attention\.pool_([qkv])\.conv\.", r".attn.pool_\1.", key)
    key = re.sub(r"\.attention\.pool_([qkv])\.norm\.", r".attn.norm_\1.", key)
    key = re.sub(r"\.attention\.relative\.([thw])$", r".attn.rel_pos_\1", key)
    return key.replace(".attention.", ".attn.")


def test_every_complete_list_has_a_network(maps):
    assert set(maps) == set(NETWORKS)


def test_the_network_for_pictures_and_videos_has_names_of_its_own():
    model, entry = network("slowonly_r50_8xb16_8x8x1_256e_imagenet_kinetics400_rgb_mm1")
    spelled = {"classifier.0": "fc3d.2", "classifier.1": "fc3d.3", "classifier.3": "fc3d.6"}
    source, expected = {}, {}
    for number, (ours, tensor) in enumerate(model.state_dict().items(), start=1):
        module, _, kind = ours.rpartition(".")
        place = re.sub(r"^res(\d)", lambda m: f"layer{int(m[1]) - 1}", module)
        place = re.sub(r"(conv|bn)_([abc])$", lambda m: m[1] + str("abc".index(m[2]) + 1), place)
        place = place.replace("shortcut_bn", "downsample.1").replace("shortcut", "downsample.0")
        place = place.replace("stem.conv", "conv1").replace("stem.bn", "bn1")
        theirs = f"cls_head.{spelled[module]}" if module in spelled else f"backbone.{place}"
        source[f"{theirs}.{kind}"] = torch.tensor(float(number)).expand(tensor.shape)
        expected[ours] = float(number)
    source["cls_head.fc2d.4.weight"] = torch.zeros(1000, 2048)
    layout = load.find_layout(Checkpoint(None, "test", source, ""))
    assert layout.name == "mmaction2-omni"
    found = layout.convert(source, model)
    assert found.dropped == ["cls_head.fc2d.4.weight"]
    load.load_strictly(model, found.tensors, where="x")
    assert {key: first(value) for key, value in found.tensors.items()} == expected
    assert model.classify(torch.zeros(2, 2048, device="meta")).shape == (2, entry.classes)
    clip = torch.zeros(1, 3, 8, 64, 64, device="meta")
    dense = model.eval().features(clip, ("dense_logits",))["dense_logits"]
    assert dense.shape == (1, 1, 1, 1, entry.classes)


def random_tensors(pairs):
    generator = torch.Generator().manual_seed(0)
    return {pair[0]: torch.rand(pair[2], generator=generator) for pair in pairs}


@pytest.mark.parametrize(
    "name",
    [
        "pytorchvideo.x3d_m (also xs, s)",
        "mmaction2.x3d_m",
        "torchvision.mvit_v2_s",
        "caffe2.c2d_r50_nopool",
    ],
)
def test_converted_files_are_bit_equal(maps, tmp_path, name):
    source, target = tmp_path / "weights", tmp_path / "x.safetensors"
    tensors = random_tensors(maps[name]["pairs"])
    if name.startswith("caffe2"):
        blobs = {key: value.numpy() for key, value in tensors.items()}
        source.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    else:
        wrapped = {"state_dict": tensors} if name.startswith("mmaction2") else tensors
        torch.save(wrapped, source)
    entry = zoo.entry_for(NETWORKS[name])
    arguments = [str(source), "-o", str(target), "-m", entry.id]
    assert CliRunner().invoke(convert.command, arguments, standalone_mode=False).exception is None
    first, again = (create_model(entry.id, weights=str(p)).state_dict() for p in (source, target))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
