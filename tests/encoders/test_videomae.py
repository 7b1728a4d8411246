"""VideoMAE: numbers of transformers and of the authors' code, layouts, and lost biases."""

import re

import pytest
import torch
from tests.encoders import draw, folders, vit_peers

import tubelet
from tubelet.errors import KeyMismatch, UsageError, WeightsError
from tubelet.models import videomae
from tubelet.models.blocks.vit import Sizes
from tubelet.models.identify import identify
from tubelet.models.weights.load import load_into

GIANT_LIKE = videomae.Config(videomae.CLIP_16X4, 9, Sizes(352, 2, 4, 1536), patch=14)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.hub_folder(tmp_path_factory.mktemp("hub") / "tiny", "videomae-tiny")


def test_hub_folder_has_transformers_numbers(folder):
    network = tubelet.create_model(str(folder))
    folders.assert_equal(network, "videomae-tiny")
    assert network.weights_layout == "videomae-transformers"
    assert (network.clip.frames, network.clip.crop, network.clip.mean) == (
        8,
        64,
        (0.485, 0.456, 0.406),
    )


def test_old_bias_names_are_the_same_network(folder, tmp_path):
    old = folders.weights(
        "videomae-tiny",
        rename=lambda key: re.sub(r"(query|value)\.bias", lambda m: f"{m[1][0]}_bias", key),
    )
    assert any("q_bias" in key for key in old)
    values = {
        key.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): key for key in old
    }
    new = folders.weights("videomae-tiny")
    before = folders.hub_folder(
        tmp_path / "old", "videomae-tiny", tensors={values[k]: v for k, v in new.items()}, shards=3
    )
    folders.assert_equal(tubelet.create_model(str(before)), "videomae-tiny")


def test_pretrained_folder_leaves_the_decoder_out(tmp_path):
    there = folders.hub_folder(tmp_path / "pre", "videomae-tiny-pretrained")
    network = tubelet.create_model(str(there))
    folders.assert_equal(network, "videomae-tiny-pretrained")
    assert network.num_classes == 0
    with pytest.raises(UsageError, match="without a classifier"):
        network(draw.clips((1, 3, 8, 64, 64)))


@pytest.mark.parametrize("wrap", ["module", "model", None])
def test_authors_file(tmp_path, wrap):
    tensors = folders.weights("videomae-v2-giant-like")
    content = (
        {wrap: tensors, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}} if wrap else tensors
    )
    path = folders.checkpoint(tmp_path / "vit.pth", content)
    network = videomae.build(GIANT_LIKE).eval()
    assert load_into(network, path).layout == "videomae"
    folders.assert_equal(network, "videomae-v2-giant-like")


def test_authors_pretrained_file(tmp_path):
    tensors = folders.weights(
        "videomae-v2-giant-like", rename=lambda k: f"encoder.{k.replace('fc_norm', 'norm')}"
    )
    tensors = {k: v for k, v in tensors.items() if ".head." not in k}
    tensors |= {
        "mask_token": torch.ones(1, 1, 8),
        "encoder_to_decoder.weight": torch.ones(8, 352),
        "decoder.norm.weight": torch.ones(8),
    }
    network = videomae.build(GIANT_LIKE).eval()
    report = load_into(network, folders.checkpoint(tmp_path / "pre.pth", {"model": tensors}))
    assert network.num_classes == 0
    assert set(report.dropped) == {"mask_token", "encoder_to_decoder.weight", "decoder.norm.weight"}
    grid = network.features(draw.clips((1, 3, 16, 224, 224)), ("grid", "pool"))
    assert torch.allclose(grid["grid"].mean((2, 3, 4)), grid["pool"], atol=1e-5)


def test_mmaction2_file(tmp_path):
    def rename(key):
        key = key.replace("patch_embed.proj", "patch_embed.projection")
        key = key.replace("mlp.fc1", "mlp.layers.0.0").replace("mlp.fc2", "mlp.layers.1")
        return (
            key.replace("head.", "cls_head.fc_cls.")
            if key.startswith("head.")
            else f"backbone.{key}"
        )

    network = videomae.build(GIANT_LIKE).eval()
    tensors = folders.weights("videomae-v2-giant-like", rename=rename)
    tensors["backbone.pos_embed"] = network.positions.clone()
    path = folders.checkpoint(tmp_path / "mm.pth", {"state_dict": tensors, "meta": {}})
    assert load_into(network, path).layout == "videomae-mmaction2"
    folders.assert_equal(network, "videomae-v2-giant-like")
    tensors["backbone.pos_embed"] += 0.1  # a learned table is another network
    with pytest.raises(KeyMismatch, match="pos_embed"):
        load_into(network, folders.checkpoint(tmp_path / "learned.pth", tensors))


@pytest.mark.parametrize("lost", ["query.bias", "value.bias"])
def test_lost_biases_are_refused_by_name(tmp_path, lost):
    tensors = {k: v for k, v in folders.weights("videomae-tiny").items() if not k.endswith(lost)}
    there = folders.hub_folder(tmp_path / "lost", "videomae-tiny", tensors=tensors)
    with pytest.raises(KeyMismatch, match=rf"blocks\.0\.attn\.{lost[0]}_bias.*transformers"):
        tubelet.create_model(str(there))


def test_missing_and_unknown_tensors_are_refused_by_name(tmp_path):
    tensors = folders.weights("videomae-tiny")
    del tensors["fc_norm.weight"]
    tensors["videomae.encoder.layer.0.gamma_1"] = torch.ones(96)
    there = folders.hub_folder(tmp_path / "odd", "videomae-tiny", tensors=tensors)
    with pytest.raises(KeyMismatch, match=r"pool_norm\.weight.*gamma_1"):
        tubelet.create_model(str(there))


def test_lora_is_refused_with_the_way_out(tmp_path):
    tensors = folders.weights("videomae-tiny")
    tensors["base_model.model.videomae.encoder.layer.0.attention.attention.query.lora_A.weight"] = (
        torch.ones(4, 96)
    )
    there = folders.hub_folder(tmp_path / "lora", "videomae-tiny", tensors=tensors)
    with pytest.raises(WeightsError, match=r"lora_A.*merge_and_unload"):
        tubelet.create_model(str(there))


def test_folder_and_named_network_must_agree(folder):
    with pytest.raises(UsageError, match="Sizes"):
        tubelet.create_model("videomae_b_16x4", weights=str(folder))


def test_another_crop_resizes_the_table(folder):
    network = tubelet.create_model(str(folder))
    larger = network.resized(crop=96, frames=4)
    assert tuple(larger.positions.shape) == (1, 2 * 6 * 6, 96)
    assert torch.equal(network.resized(crop=64).positions, network.positions)
    assert larger.features(draw.clips((1, 3, 4, 96, 96)), ("block2",))["block2"].shape == (
        1,
        96,
        2,
        6,
        6,
    )


def test_token_rows_keep_time_and_space(folder, tmp_path):
    from tubelet.extraction.extractor import Extractor, Options

    network = tubelet.create_model(str(folder))
    for keep, shape in (("time", (4, 96)), ("space-time", (4, 4, 4, 96))):
        extractor = Extractor(network, options=Options(taps=("block1",), keep=keep), device="cpu")
        assert extractor.row_shapes() == {"pool": shape, "block1": shape}


def test_identify_names_the_network(tmp_path):
    tensors = folders.weights("videomae-s")
    path = folders.checkpoint(tmp_path / "vit_s_k710_dl_from_giant.pth", {"module": tensors})
    assert identify(path) == "videomae_s_16x4"
    network = tubelet.create_model("videomae_v2_s_16x4", weights=path)
    assert network.num_classes == 710
    folders.assert_equal(network, "videomae-s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "arch"), [("videomae-b", "videomae_b_16x4"), ("videomae-l", "videomae_l_16x4")]
)
def test_released_widths(tmp_path, case, arch):
    there = folders.hub_folder(tmp_path / "hub", case)
    folders.assert_equal(tubelet.create_model(arch, weights=str(there)), case)


@pytest.mark.slow
def test_giant_at_two_blocks(tmp_path):
    sizes = Sizes(1408, 2, 16, 6144)
    network = videomae.build(videomae.Config(videomae.CLIP_16X4, 710, sizes, patch=14)).eval()
    load_into(
        network,
        folders.checkpoint(tmp_path / "g.pth", {"module": folders.weights("videomae-v2-g")}),
    )
    folders.assert_equal(network, "videomae-v2-g")


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in vit_peers.CASES if name.startswith("videomae")])
def test_peers_still_compute_what_is_stored(case):
    try:
        assert vit_peers.check(case) < 1e-5
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
