"""V-JEPA 2 and 2.1: numbers of transformers and of Meta's code, two rotary rules, heads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.encoders import draw, folders, vit_peers

import tubelet
from tubelet.errors import ClipError, KeyMismatch, WeightsError
from tubelet.models import vjepa2
from tubelet.models.blocks.vit import Sizes
from tubelet.models.identify import network_of
from tubelet.models.weights.files.checkpoint import Checkpoint
from tubelet.models.weights.load import load_into

TINY = vjepa2.Config(vjepa2.clip_of(64), 0, Sizes(88, 2, 4, 384))
TINY_2_1 = replace(TINY, sizes=Sizes(64, 12, 2, 256), levels=vjepa2.LEVELS[12], joined=1)


def meta_file(path, case, *, key="target_encoder"):
    """As Meta's training writes it: two encoders, a predictor, prefixes of two wrappers."""
    tensors = folders.weights(case, rename=lambda name: f"module.backbone.{name}")
    tensors["module.backbone.pos_embed"] = torch.ones(1, 4, 8)
    other = {name: value + 1 for name, value in tensors.items()}
    content = {"encoder": other, key: tensors, "predictor": {"module.backbone.x": torch.ones(2)}}
    return folders.checkpoint(path, {**content, "epoch": 1})


@pytest.mark.parametrize("case", ["vjepa2-tiny", "vjepa2-tiny-classifier"])
def test_hub_folder_has_transformers_numbers(tmp_path, case):
    network = tubelet.create_model(str(folders.hub_folder(tmp_path / "hub", case, shards=2)))
    folders.assert_equal(network, case)
    assert network.num_classes == (9 if "classifier" in case else 0)


@pytest.mark.parametrize("key", ["target_encoder", "ema_encoder"])
def test_meta_file_of_2_has_metas_numbers(tmp_path, key):
    network = vjepa2.build(TINY).eval()
    report = load_into(network, meta_file(tmp_path / "vit.pt", "vjepa2-meta-tiny", key=key))
    assert report.layout == "vjepa2"
    assert "predictor/module.backbone.x" in report.dropped
    folders.assert_equal(network, "vjepa2-meta-tiny")


@pytest.mark.parametrize("case", ["vjepa2_1-meta-tiny", "vjepa2_1-meta-tiny-picture"])
def test_meta_file_of_2_1_has_its_numbers(tmp_path, case):
    joined = 4 if "picture" in case else 1
    network = vjepa2.build(replace(TINY_2_1, joined=joined)).eval()
    load_into(network, meta_file(tmp_path / "vit.pt", case))
    folders.assert_equal(network, case)


def test_the_versions_rotate_differently():
    grid, like = (2, 4, 4), torch.zeros(1)
    two = vjepa2.rotation(grid, 22, config=TINY, like=like)[0]
    fixed = vjepa2.rotation(grid, 22, config=TINY_2_1, like=like)[0]
    assert torch.equal(fixed[:, 0], fixed[:, 1])  # a pair is turned by one angle
    assert not torch.equal(two[:, 0], two[:, 1])  # the mistake that the weights need
    assert torch.equal(two[:, 0], two[:, 3])
    assert torch.all(two[:, 18:] == 1)  # 22 = 3 x 6 numbers and a rest that is not turned


def test_a_single_frame_is_shown_twice_by_2_only():
    clip = draw.clips((1, 3, 1, 64, 64))
    network = draw.fill(vjepa2.build(TINY))
    assert torch.equal(
        network.features(clip)["pool"], network.features(clip.repeat(1, 1, 2, 1, 1))["pool"]
    )
    network = draw.fill(vjepa2.build(TINY_2_1))
    one, two = (network.features(clip.repeat(1, 1, n, 1, 1))["pool"] for n in (1, 2))
    assert (one - two).abs().max() > 0.01


@pytest.mark.parametrize(
    ("shape", "words"), [((3, 64, 64), "tubelets of 2"), ((4, 64, 72), "multiple of 16")]
)
def test_what_a_convolution_would_drop_is_refused(shape, words):
    with pytest.raises(ClipError, match=words):
        vjepa2.build(TINY).features(torch.zeros(1, 3, *shape))


def test_one_row_of_patches_has_no_scale():
    with pytest.raises(ClipError, match="two rows"):
        vjepa2.build(TINY_2_1).features(torch.zeros(1, 3, 2, 16, 64))


META_NAMES = {
    ".norm_attention.": ".norm1.", ".norm_mlp.": ".norm2.", ".attention.out.": ".attn.proj.",
    ".attention.": ".attn.", "norms.0.": "norm.", "patch_embed.": "patch_embed.proj.",
}  # fmt: skip


def test_heads_of_the_giant_are_not_in_the_file():
    with torch.device("meta"):  # a file of four gigabytes, without its numbers
        state = vjepa2.build(vjepa2.VARIANTS["vjepa2_g_256"]).state_dict()
    tensors = {}
    for name, value in state.items():
        for ours, theirs in META_NAMES.items():
            name = name.replace(ours, theirs)
        tensors[f"target_encoder/module.backbone.{name}"] = value
    file = Checkpoint(Path("vitg.pt"), "torch zip", tensors, "0" * 64)
    with pytest.raises(WeightsError, match=r"vjepa2_g_256 \(22 heads\), vjepa2_g16_256 \(16 heads"):
        network_of(file)


def test_a_probe_without_an_encoder_is_refused(tmp_path):
    head = {"module.pooler.cross_attention_block.xattn.q.weight": torch.ones(8, 8)}
    path = folders.checkpoint(tmp_path / "ssv2-vitl-16x2x3.pt", {"classifiers": [head], "epoch": 1})
    with pytest.raises(WeightsError, match="without an encoder"):
        tubelet.create_model("vjepa2_l_256", weights=path)


def test_missing_and_renamed_tensors_are_refused_by_name(tmp_path):
    tensors = folders.weights("vjepa2-tiny-classifier")
    tensors["pooler.query"] = tensors.pop("pooler.query_tokens")
    del tensors["vjepa2.encoder.layer.1.attention.key.bias"]
    there = folders.hub_folder(tmp_path / "odd", "vjepa2-tiny-classifier", tensors=tensors)
    with pytest.raises(KeyMismatch, match=r"blocks\.1\.attention\.qkv\.bias.*unexpected"):
        tubelet.create_model(str(there))


@pytest.mark.slow
def test_giant_at_two_blocks(tmp_path):
    config = replace(vjepa2.VARIANTS["vjepa2_g_256"], sizes=Sizes(1408, 2, 22, 6144))
    network = vjepa2.build(config).eval()
    load_into(network, meta_file(tmp_path / "vit.pt", "vjepa2-g"))
    folders.assert_equal(network, "vjepa2-g")


@pytest.mark.slow
def test_released_width_of_transformers(tmp_path):
    there = folders.hub_folder(tmp_path / "hub", "vjepa2-l")
    folders.assert_equal(tubelet.create_model("vjepa2_l_256", weights=str(there)), "vjepa2-l")


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in vit_peers.CASES if name.startswith("vjepa2")])
def test_peers_still_compute_what_is_stored(case):
    try:
        assert vit_peers.check(case) < 1e-5
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
