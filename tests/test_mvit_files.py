"""MViT checkpoints as files: the strict load, tables that are not resized, flat kernels."""

import re
from dataclasses import replace

import pytest
import torch

from tubelet.clips.transform import view_config
from tubelet.errors import KeyMismatch
from tubelet.extraction.extractor import Extractor
from tubelet.models import mvit
from tubelet.models.registry import create_model
from tubelet.models.weights.load import load_into

TINY = {"clip": mvit.resized_clip(mvit.CLIP_16X4, frames=4, crop=32), "num_classes": 3}


def tiny():
    trunk = mvit.staged((1, 1), kv=(1, 2, 2), dim=8, every_block=True)
    return mvit.v2(trunk, TINY["clip"], 3)


def written(tmp_path, tensors):
    path = tmp_path / "weights.pyth"
    torch.save({"model_state": tensors, "epoch": 1}, path)
    return path


def pyslowfast_names(model):
    """A checkpoint as PySlowFast writes it, made by undoing the names of our network."""
    undo = [
        (r"\.attention\.relative\.([thw])$", r".attn.rel_pos_\1"),
        (r"\.attention\.pool_([qkv])\.conv\.", r".attn.pool_\1."),
        (r"\.attention\.pool_([qkv])\.norm\.", r".attn.norm_\1."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.norm_attention\.", ".norm1."),
        (r"\.norm_mlp\.", ".norm2."),
        (r"\.widen\.", ".proj."),
        (r"^patch_embed\.", "patch_embed.proj."),
        (r"^tokens\.class_token$", "cls_token"),
        (r"^classifier\.", "head.projection."),
    ]
    found = {}
    for key, value in model.state_dict().items():
        for pattern, replacement in undo:
            key = re.sub(pattern, replacement, key)
        found[key] = value.clone()
    return found


def test_a_file_goes_through_the_strict_load(tmp_path):
    torch.manual_seed(0)
    source, target = mvit.build(tiny()), mvit.build(tiny())
    tensors = pyslowfast_names(source)
    report = load_into(target, written(tmp_path, tensors))
    assert report.layout == "pyslowfast-mvit"
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key
    tensors["blocks.0.attn.pool_x.weight"] = torch.zeros(1)
    with pytest.raises(KeyMismatch, match=r"unexpected: .*pool_x"):
        load_into(target, written(tmp_path, tensors))
    del tensors["blocks.0.attn.pool_x.weight"], tensors["blocks.1.attn.qkv.bias"]
    with pytest.raises(KeyMismatch, match=r"missing: blocks.1.attention.qkv.bias"):
        load_into(target, written(tmp_path, tensors))


def test_files_of_the_time_when_stride_one_was_not_pooled(tmp_path):
    """The network loses those pools; a pool that is there in part, or with a stride, is missed."""
    torch.manual_seed(0)
    source = mvit.build(tiny())
    source.adapt_to(
        [key for key in source.state_dict() if not re.match(r"blocks.1.attention.pool_[kv]", key)]
    )
    tensors = pyslowfast_names(source)
    assert not any(re.match(r"blocks.1.attn.(pool|norm)_[kv]", key) for key in tensors)
    target = mvit.build(tiny())
    load_into(target, written(tmp_path, tensors))
    clip = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(source.eval()(clip), target.eval()(clip))
    assert 1 not in target.resized(crop=48).config.trunk.kv_strides
    strided = {key: value for key, value in tensors.items() if "blocks.0.attn.pool_k" not in key}
    with pytest.raises(KeyMismatch, match=r"missing: blocks.0.attention.pool_k.conv.weight"):
        load_into(mvit.build(tiny()), written(tmp_path, strided))
    whole = pyslowfast_names(mvit.build(tiny()))
    half = {key: value for key, value in whole.items() if "blocks.1.attn.pool_k" not in key}
    with pytest.raises(KeyMismatch, match=r"blocks.1.attention.pool_k.conv.weight"):
        load_into(mvit.build(tiny()), written(tmp_path, half))


def test_a_joint_table_is_not_resized(tmp_path):
    """The reference leaves it out and keeps random values; here the load is refused."""
    config = mvit.VARIANTS["mvit_v1_b_16"]
    trunk = mvit.image(mvit.staged((1, 1), kv=(1, 2, 2), dim=8))
    config = mvit.v1(trunk, mvit.resized_clip(config.clip, frames=1, crop=32), 3)
    tensors = pyslowfast_names(mvit.build(config))
    tensors["pos_embed"] = tensors.pop("tokens.joint")
    load_into(mvit.build(config), written(tmp_path, tensors))
    with pytest.raises(KeyMismatch, match=r"misshapen: tokens.joint"):
        load_into(mvit.build(mvit.resized(config, crop=64)), written(tmp_path, tensors))


def test_image_kernels_get_an_axis_for_time(tmp_path):
    """facebookresearch/mvit keeps patches and pools in two dimensions."""
    config = mvit.v2_image(mvit.staged((1, 1), kv=(1, 2, 2), dim=8, every_block=True), 3)
    config = mvit.resized(config, crop=32)
    source, target = mvit.build(config), mvit.build(config)
    flat = {
        key: value.squeeze(2) if value.ndim == 5 else value
        for key, value in pyslowfast_names(source).items()
    }
    assert flat["patch_embed.proj.weight"].ndim == flat["blocks.0.attn.pool_q.weight"].ndim == 4
    load_into(target, written(tmp_path, flat))
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key


def test_an_extractor_resizes_a_network_to_the_crop_that_is_asked_for():
    model = mvit.build(tiny())
    view = replace(view_config(model.clip), short_side=56, crop=48)
    assert Extractor(model, view=view).model.clip.crop == 48
    assert Extractor(model).model.clip == model.clip
    assert Extractor(model, runtime="reference").model is model


def test_create_model_by_name():
    model = create_model("rev_vit_s", weights=None)
    assert not model.training
    assert (model.width, model.model_id) == (768, "rev_vit_s")
