"""What mmaction2's and video-nonlocal-net's networks do otherwise, as fields of configurations."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import tubelet
from tubelet.errors import UsageError
from tubelet.models import slowfast, zoo
from tubelet.models.blocks.nonlocal_block import NonLocal
from tubelet.models.registry import changed, config_of


def config(zoo_id):
    entry = zoo.entry_for(zoo_id)
    return config_of(entry.arch, entry)[1]


@pytest.mark.parametrize("form", ["softmax", "dot_product", "gaussian"])
@pytest.mark.parametrize("scale", [True, False])
def test_pooling_behind_phi_and_g(form, scale):
    torch.manual_seed(0)
    block = NonLocal(8, form=form, pool=(1, 2, 2), pool_last=True, scale=scale, out_bias=False)
    block.bn.weight.data.fill_(1.0)
    block.eval()
    x = torch.randn(2, 8, 3, 4, 6)
    pool = torch.nn.MaxPool3d((1, 2, 2))
    g = pool(block.g(x)).flatten(2)
    if form == "gaussian":
        pairs = torch.einsum("bcn,bcm->bnm", x.flatten(2), pool(x).flatten(2))
    else:
        theta, phi = block.theta(x).flatten(2), pool(block.phi(x)).flatten(2)
        pairs = torch.einsum("bcn,bcm->bnm", theta, phi)
        pairs = pairs / 2.0 if scale and form == "softmax" else pairs
    weights = pairs / g.shape[-1] if form == "dot_product" else pairs.softmax(-1)
    y = torch.einsum("bnm,bcm->bcn", weights, g).view(2, 4, 3, 4, 6)
    want = x + block.bn(F.conv3d(y, block.out.weight))
    torch.testing.assert_close(block(x), want)
    assert block.out.bias is None


def test_a_lateral_without_norm_is_the_convolution_alone():
    torch.manual_seed(0)
    lateral = slowfast.Lateral(2, ratio=2, kernel=5, alpha=4, norm=False)
    x = torch.randn(1, 2, 8, 3, 3)
    want = F.conv3d(x, lateral.conv.weight, stride=(4, 1, 1), padding=(2, 0, 0))
    torch.testing.assert_close(lateral(x), want)
    assert (want < 0).any()


@pytest.mark.parametrize(("frames", "alpha"), [(32, 8), (32, 4), (64, 4)])
def test_strided_slow_frames(frames, alpha):
    seen = slowfast.slow_frames(frames, alpha=alpha, rule="strided")
    assert seen.tolist() == list(range(frames))[::alpha]


@pytest.mark.parametrize(
    ("zoo_id", "time", "side"),
    [
        ("i3d_imagenet_pretrained_r50_8xb8_32x2x1_100e_kinetics400_rgb_mm1", 8, 56),
        ("i3d_r50_32x2_inpre_400k_k400_nlnet", 8, 55),
        ("i3d_r50_8x8_inpre_400k_k400_nlnet", 8, 55),
        ("c2d_r50_in1k_pre_8xb32_8x8x1_100e_kinetics400_rgb_mm1", 8, 55),
        ("c2d_r50_in1k_pre_nopool_8xb32_8x8x1_100e_kinetics400_rgb_mm1", 8, 56),
        ("slowonly_imagenet_pretrained_r50_8x4x1_64e_sthv1_rgb_mm0", 8, 112),
    ],
)
def test_stems(zoo_id, time, side):
    entry = zoo.entry_for(zoo_id)
    family, settings = config_of(entry.arch, entry)
    with torch.device("meta"), torch.no_grad():
        model = family.build(settings)
        found = model.features(torch.zeros(1, 3, entry.clip.frames, 224, 224), ["stem", "pool"])
    assert found["stem"].shape == (1, 64, time, side, side)


def test_fields_of_entries():
    mm = config("i3d_imagenet_pretrained_r50_nl_gaussian_8xb8_32x2x1_100e_kinetics400_rgb_mm1")
    assert {s.form for s in mm.trunk.nonlocals} == {"gaussian"}
    assert [s.after for s in mm.trunk.nonlocals] == [(), (1, 3), (1, 3, 5), ()]
    slow = config("slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb_mm0")
    assert [s.after for s in slow.trunk.nonlocals] == [(), (0, 2), (0, 2, 4), ()]
    assert all(s.scale and s.pool_last and not s.out_bias for s in slow.trunk.nonlocals)
    flow = config("slowonly_r50_4x16x1_256e_kinetics400_flow_mm0")
    assert (flow.clip.channels, len(flow.clip.mean)) == (2, 2)
    steps = config("slowfast_r50_8xb8_8x8x1_steplr_256e_kinetics400_rgb_mm1")
    assert (steps.lateral_norm, steps.slow_frames, steps.lateral_kernel) == (True, "strided", 7)
    moves = zoo.entry_for("slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow_mm0").clip
    assert (moves.frames, moves.interval, moves.mean) == (4, 16, (0.501961, 0.501961))
    mixed = config("slowfast_r152_4x16x1_256e_kinetics400_rgb_mm0")
    assert (len(mixed.slow.times[2]), len(mixed.fast.times[2])) == (36, 6)


def test_changed_replaces_one_part():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        a: int = 1

    @dataclasses.dataclass(frozen=True)
    class Outer:
        parts: tuple = (Inner(), Inner())
        b: object = None

    assert changed(Outer(), ["parts", "*", "a"], 2).parts == (Inner(2), Inner(2))
    assert changed(Outer(), ["parts", "1", "a"], 2).parts == (Inner(1), Inner(2))
    assert changed(Outer(), ["b"], [1, 2]).b == (1, 2)


def test_a_backbone_has_features_and_refuses_logits():
    model = tubelet.create_model("slow_r50_4x16", weights=None)
    entry = zoo.entry_for("slowonly_kinetics_pretrained_r50_4x16x1_20e_ava_rgb_mm0")
    family, settings = config_of(entry.arch, entry)
    backbone = family.build(settings).eval()
    assert (backbone.num_classes, backbone.width) == (0, model.width)
    clip = torch.zeros(1, 3, 4, 64, 64)
    with torch.no_grad():
        assert backbone.features(clip)["pool"].shape == (1, 2048)
        with pytest.raises(UsageError, match="without a classifier"):
            backbone(clip)
