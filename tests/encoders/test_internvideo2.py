"""InternVideo2: numbers of the authors' class, its files, and its positions for other clips."""

import re
from dataclasses import replace

import pytest
import torch
from tests.encoders import draw, folders, vit_peers

from tubelet.errors import KeyMismatch
from tubelet.models import internvideo2
from tubelet.models.blocks.vit import Sizes
from tubelet.models.identify import identify
from tubelet.models.registry import create_model
from tubelet.models.weights.load import load_into

CLIP = replace(internvideo2.clip_of(8, 2), crop=56, short_side=56)
TINY = internvideo2.Config(CLIP, 7, Sizes(96, 3, 4, 418))


@pytest.mark.parametrize("wrap", ["module", "model", None])
def test_authors_file_has_their_numbers(tmp_path, wrap):
    tensors = folders.weights("internvideo2-tiny")
    path = folders.checkpoint(tmp_path / "ft.pth", {wrap: tensors} if wrap else tensors)
    network = internvideo2.build(TINY).eval()
    assert load_into(network, path).layout == "internvideo2"
    folders.assert_equal(network, "internvideo2-tiny")


def test_pretrained_file_has_no_norm_and_no_classes(tmp_path):
    tensors = folders.weights("internvideo2-tiny")
    tensors = {k: v for k, v in tensors.items() if not k.startswith(("fc_norm.", "head."))}
    tensors |= {"clip_decoder.0.head.weight": torch.ones(4, 4), "clip_pos_embed": torch.ones(1, 4)}
    network = internvideo2.build(TINY).eval()
    report = load_into(network, folders.checkpoint(tmp_path / "dist.bin", {"module": tensors}))
    assert set(report.dropped) == {"clip_decoder.0.head.weight", "clip_pos_embed"}
    assert network.num_classes == 0
    assert network.features(draw.clips((1, 3, 8, 56, 56)))["pool"].shape == (1, 768)


def test_a_probe_is_added_behind_the_projector(tmp_path):
    tensors = folders.weights("internvideo2-tiny")
    shapes = {"0.weight": (768,), "0.bias": (768,), "1.fc1.weight": (3072, 768)}
    shapes |= {"1.fc1.bias": (3072,), "1.fc2.weight": (768, 3072), "1.fc2.bias": (768,)}
    probe = draw.tensors({f"extra_mlp.{name}": shape for name, shape in shapes.items()})
    network = internvideo2.build(TINY).eval()
    load_into(network, folders.checkpoint(tmp_path / "ap.pth", {"module": {**tensors, **probe}}))
    x = draw.clips((1, 3, 8, 56, 56))
    tokens = network.features(x, ("block2_tokens",))["block2_tokens"]
    before = network.projector(tokens)
    normed = torch.nn.functional.layer_norm(
        before, (768,), probe["extra_mlp.0.weight"], probe["extra_mlp.0.bias"]
    )
    hidden = torch.nn.functional.gelu(
        normed @ probe["extra_mlp.1.fc1.weight"].T + probe["extra_mlp.1.fc1.bias"]
    )
    after = before + hidden @ probe["extra_mlp.1.fc2.weight"].T + probe["extra_mlp.1.fc2.bias"]
    assert torch.allclose(network.features(x)["pool"], network.norm(after), atol=1e-4)


def test_a_missing_tensor_is_refused_by_name(tmp_path):
    tensors = folders.weights("internvideo2-tiny")
    del tensors["clip_projector.cross_attn.q_bias"]
    with pytest.raises(KeyMismatch, match=r"projector\.q\.bias"):
        load_into(internvideo2.build(TINY), folders.checkpoint(tmp_path / "odd.pth", tensors))


def test_positions_for_other_clips(tmp_path):
    path = folders.checkpoint(tmp_path / "ft.pth", folders.weights("internvideo2-tiny"))
    network = internvideo2.build(TINY).eval()
    load_into(network, path)
    other = network.resized(frames=16, crop=84)
    table = network.positions[0, 1:].reshape(8, 16, 96).permute(1, 2, 0)
    times = torch.nn.functional.interpolate(table, size=16, mode="linear").permute(2, 1, 0)
    places = torch.nn.functional.interpolate(
        times.reshape(16, 96, 4, 4), size=(6, 6), mode="bicubic"
    )
    assert torch.allclose(
        other.positions[0, 1:], places.permute(0, 2, 3, 1).reshape(-1, 96), atol=1e-6
    )
    assert torch.equal(other.positions[0, 0], network.positions[0, 0])
    loaded = internvideo2.build(replace(TINY, clip=other.clip))
    load_into(loaded, path)  # a file of 8 frames, for a network of 16
    assert torch.allclose(loaded.positions, other.positions, atol=1e-6)


def test_small_at_its_released_width(tmp_path):
    tensors = folders.weights("internvideo2-s")
    path = folders.checkpoint(tmp_path / "pytorch_model.bin", {"module": tensors})
    assert identify(path) == "internvideo2_s_8"
    folders.assert_equal(create_model("internvideo2_s_8", weights=path), "internvideo2-s")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["internvideo2_1b_8", "internvideo2_6b_8"])
def test_large_shapes_at_one_block(name):
    config = internvideo2.VARIANTS[name]
    network = internvideo2.build(replace(config, sizes=replace(config.sizes, depth=1))).eval()
    with torch.inference_mode():
        found = network.features(torch.zeros(1, 3, 8, 224, 224), ("grid", "pool"))
    assert found["grid"].shape == (1, config.sizes.width, 8, 16, 16)
    assert found["pool"].isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [name for name in vit_peers.CASES if re.match("internvideo2", name)]
)
def test_peers_still_compute_what_is_stored(case):
    try:
        assert vit_peers.check(case) < 1e-5
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
