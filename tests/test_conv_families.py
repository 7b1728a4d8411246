"""C2D, I3D, Slow, SlowFast, X3D: the reference's numbers, and what the papers claim."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import ClipError, KeyMismatch, UnknownName, UsageError
from tubelet.models import resnet3d, slowfast, x3d
from tubelet.models.blocks import resnet as pathway
from tubelet.models.blocks.layers import scores
from tubelet.models.blocks.nonlocal_block import FORMS, NonLocal, NonLocals, insert_nonlocal
from tubelet.models.weights.layouts.pyslowfast import pyslowfast_name
from tubelet.models.weights.load import load_into
from tubelet.types import ClipSpec

FAMILIES = (resnet3d, slowfast, x3d)
VARIANTS = {
    name: (family, config) for family in FAMILIES for name, config in family.VARIANTS.items()
}

# One small configuration of every kind; `make conformance` runs them all.
GOLDEN = {
    "Kinetics/C2D_8x8_R50": "c2d_r50_8x8",
    "Kinetics/I3D_NLN_8x8_R50": "i3d_nln_r50_8x8",
    "Kinetics/SLOW_4x16_R50": "slow_r50_4x16",
    "Kinetics/X3D_XS": "x3d_xs",
}
STAGES = {"s1": "stem", "s2": "res2", "s3": "res3", "s4": "res4", "s5": "res5"}
ENDS = {"": "", "0": "_slow", "1": "_fast"}


def tiny(family, **changes):
    """A small random network of a family with statistics and weights that all matter."""
    torch.manual_seed(0)
    clip = ClipSpec(8, 2, 64, 64)
    if family is x3d:
        config = x3d.Config(clip, 64, width=1.0, depth=1.0, lin5=32, num_classes=5)
    elif family is slowfast:
        slow, fast = (
            pathway.trunk(times, width=16, depth=18, beta_inv=beta)
            for times, beta in ((pathway.SLOW, 1), (slowfast.FAST, 8))
        )
        config = slowfast.Config(replace(clip, alpha=4), slow, fast, head=(2, 2), num_classes=5)
    else:
        spec = pathway.trunk(pathway.I3D, width=8, depth=18)
        config = resnet3d.Config(clip, spec, time_pool=2, head=(4, 2, 2), num_classes=5)
    model = family.build(replace(config, **changes)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def clips(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pyth(path, weights):
    torch.save({"model_state": {key: torch.from_numpy(w) for key, w in weights.items()}}, path)
    return path


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_of_the_reference(name, golden, tmp_path):
    facts, want = golden.facts(name), golden.expected(name)
    family, config = VARIANTS[GOLDEN[name]]
    model = family.build(config).eval()
    load_into(model, pyth(tmp_path / "weights.pyth", golden.weights(name)))
    clip = torch.from_numpy(golden.inputs(name, clips=1)[-1])
    with torch.inference_mode():
        got = model.features(clip, model.taps)
    output = scores(got["dense_logits"], model.activation)  # what predict gives: see below
    assert golden.error(output, want["output"][:1]) < golden.TOLERANCE
    assert golden.error(got["pool"], want["features"][:1]) < golden.TOLERANCE
    assert ("head_pool" in got) == ("features_headpool" in want)
    if "head_pool" in got:
        assert golden.error(got["head_pool"], want["features_headpool"][:1]) < golden.TOLERANCE
    assert golden.error(got["dense_logits"], want["logits"][:1]) < golden.TOLERANCE
    compare_stages(golden, got, want)
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]


def compare_stages(golden, got, want):
    for key in want:
        stage, _, pathway = key.removeprefix("stage/").partition(".")
        if stage in STAGES:
            value = got[STAGES[stage] + ENDS[pathway]]
            assert golden.error(golden.summarise(value), want[key]) < golden.TOLERANCE, key


def test_slowfast_numbers_at_another_size(golden, tmp_path):
    """16 frames of 158 pixels through a network whose head averages the whole grid."""
    name = "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid"
    want = golden.arrays("sizes", f"{name.replace('/', '__')}@16x158x158")
    model = slowfast.build(slowfast.VARIANTS["slowfast_r50_8x8_stepwise_multigrid"]).eval()
    load_into(model, pyth(tmp_path / "weights.pyth", golden.weights(name)))
    clip = torch.from_numpy(golden.fill.make_input(0, (1, 3, 16, 158, 158)))
    with torch.inference_mode():
        got = model.features(clip, model.taps)
        assert golden.error(model.predict(clip), want["output"]) < golden.TOLERANCE
    assert golden.error(got["pool"], want["features"]) < golden.TOLERANCE
    assert golden.error(got["dense_logits"], want["logits"]) < golden.TOLERANCE
    compare_stages(golden, got, want)


# What the papers claim


def test_time_enters_c2d_without_pooling_in_the_last_mean_only():
    spec = pathway.trunk(pathway.C2D, width=8, depth=18)
    clip, shuffled = clips(1, 3, 8, 64, 64), torch.randperm(8)
    c2d = tiny(resnet3d, trunk=spec, time_pool=1, head=(8, 2, 2))
    torch.testing.assert_close(c2d(clip), c2d(clip[:, :, shuffled]))
    i3d = tiny(resnet3d)
    assert (i3d(clip) - i3d(clip[:, :, shuffled])).abs().max() > 1e-3 * i3d(clip).abs().max()


def test_fast_pathway_has_an_eighth_of_the_channels_and_alpha_times_the_frames():
    config = slowfast.VARIANTS["slowfast_r50_4x16"]
    with torch.device("meta"):
        model = slowfast.build(config).eval()
        taps = model.features(torch.zeros(1, 3, 32, 224, 224), model.taps)
    assert config.clip.alpha == 8
    for stage in pathway.STAGES:
        slow, fast = taps[f"{stage}_slow"], taps[f"{stage}_fast"]
        assert slow.shape[1] == 8 * fast.shape[1]
        assert fast.shape[2] == 8 * slow.shape[2]
        assert taps[stage].shape[1:3] == (slow.shape[1] + fast.shape[1], slow.shape[2])


@pytest.mark.parametrize(
    ("arch", "params_m", "gflops"),  # 2004.04730, table 4: one centre view of the training crop
    [
        ("x3d_xs", 3.8, 0.60),
        ("x3d_s", 3.8, 1.96),
        ("x3d_m", 3.8, 4.73),
        ("x3d_l", 6.1, 18.37),
        ("x3d_xl", 11.0, 35.84),
    ],
)
def test_x3d_expansion_gives_the_published_size_and_cost(arch, params_m, gflops):
    config = x3d.VARIANTS[arch]
    with torch.device("meta"):
        model = x3d.build(config).eval()
        clip = torch.zeros(1, 3, config.clip.frames, config.train_crop, config.train_crop)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(clip)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(params_m, rel=0.015)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gflops, abs=0.01)


# Non-local blocks


def naive_nonlocal(block, x, pool):
    """Equation 1, one pair of positions at a time."""
    keys = torch.nn.functional.max_pool3d(x, pool)
    xs, ks = x[0].flatten(1).T, keys[0].flatten(1).T
    g = block.g(keys)[0].flatten(1).T
    if block.form != "gaussian":
        theta, phi = block.theta(x)[0].flatten(1).T, block.phi(keys)[0].flatten(1).T
    rows = []
    for i in range(len(xs)):
        if block.form == "gaussian":
            f = torch.stack([torch.exp(xs[i] @ k) for k in ks])
        elif block.form == "softmax":
            f = torch.stack([torch.exp(theta[i] @ p / block.inner**0.5) for p in phi])
        elif block.form == "dot_product":
            f = torch.stack([theta[i] @ p for p in phi])
        else:
            f = torch.stack([(block.pair.weight[0] @ torch.cat([theta[i], p])).relu() for p in phi])
        total = f.sum() if block.form in ("gaussian", "softmax") else len(ks)
        rows.append((f / total) @ g)
    y = torch.stack(rows).T.reshape(1, -1, *x.shape[2:])
    return x + block.bn(block.out(y))


@pytest.mark.parametrize("pool", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("form", FORMS)
def test_nonlocal_forms_are_the_papers_equations(form, pool):
    torch.manual_seed(0)
    block = NonLocal(6, form=form, pool=pool).eval()
    torch.nn.init.uniform_(block.bn.weight, 0.5, 1.5)
    x = clips(1, 6, 4, 3, 4)
    torch.testing.assert_close(block(x), naive_nonlocal(block, x, pool))


def test_nonlocal_groups_do_not_see_each_other():
    block = NonLocal(4, groups=2).eval()
    torch.nn.init.ones_(block.bn.weight)
    x = clips(2, 4, 6, 3, 3)
    alone = NonLocal(4).eval()
    alone.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), torch.cat([alone(x[:, :, :3]), alone(x[:, :, 3:])], dim=2))
    with pytest.raises(ClipError, match="2 groups"):
        block(x[:, :, :5])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
def test_inserting_nonlocal_blocks_changes_nothing(family, form):
    model, clip = tiny(family), clips(2, 3, 8, 64, 64)
    with torch.inference_mode():
        before = model.features(clip, model.taps)
        stages = ("slow.res3", "fast.res4") if family is slowfast else ("res3", "res4")
        insert_nonlocal(model, dict.fromkeys(stages, (0, 1)), form=form)
        after = model.features(clip, model.taps)
        assert sum(isinstance(m, NonLocal) for m in model.modules()) == 4
    for tap, value in before.items():
        assert torch.equal(value, after[tap]), tap


def test_inserting_is_what_a_configuration_with_them_builds():
    """Same keys, same places: weights of one load into the other."""
    plain = tiny(resnet3d)
    insert_nonlocal(plain, {"res4": (1,)}, form="dot_product")
    nonlocals = (NonLocals(), NonLocals(), NonLocals((1,), "dot_product"), NonLocals())
    built = tiny(resnet3d, trunk=replace(plain.config.trunk, nonlocals=nonlocals))
    torch.nn.init.ones_(plain.res4.nonlocal1.bn.weight)
    built.load_state_dict(plain.state_dict())
    clip = clips(1, 3, 8, 64, 64)
    assert torch.equal(built(clip), plain(clip))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ({"res6": (0,)}, "no stage 'res6'"),
        ({"res3": (9,)}, "no block 9"),
        ({"res3": (0,)}, "already"),
    ],
)
def test_inserting_at_a_wrong_place_is_refused_before_anything_changes(positions, message):
    model = insert_nonlocal(tiny(resnet3d), {"res3": (0,)})
    keys = list(model.state_dict())
    with pytest.raises(UsageError, match=message):
        insert_nonlocal(model, {"res4": (0,), **positions})
    assert list(model.state_dict()) == keys


# Taps


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
def test_taps_in_one_pass_agree_with_taps_one_by_one(family):
    model, clip = tiny(family), clips(2, 3, 8, 64, 80)
    with torch.inference_mode():
        together = model.features(clip, model.taps)
        assert tuple(together) == model.taps
        for tap in model.taps:
            assert torch.equal(model.features(clip, (tap,))[tap], together[tap]), tap
        torch.testing.assert_close(together["grid"].mean(dim=(2, 3, 4)), together["pool"])
        torch.testing.assert_close(model.classifier(together["pool"]), model(clip))
        per_position = together["dense_logits"].softmax(-1).mean(dim=(1, 2, 3))
        torch.testing.assert_close(model.predict(clip), per_position)
        if "head_pool" in together:
            mean = together["dense_logits"].mean(dim=(1, 2, 3))
            torch.testing.assert_close(model.classifier(together["head_pool"]), mean)
    assert together["pool"].shape == (2, model.width)


def test_nothing_is_computed_behind_the_last_tap():
    model = tiny(resnet3d)
    model.res4.register_forward_hook(lambda *_: pytest.fail("res4 ran"))
    assert list(model.features(clips(1, 3, 8, 64, 64), ("res3", "stem"))) == ["res3", "stem"]


@pytest.mark.parametrize("frames", range(4, 68, 4))
@pytest.mark.parametrize("alpha", [2, 4])
def test_slow_frames_are_spread_from_first_to_last(frames, alpha):
    chosen = slowfast.slow_frames(frames, alpha=alpha).tolist()
    count = frames // alpha
    assert len(chosen) == count
    assert chosen[0] == 0
    assert count == 1 or chosen[-1] == frames - 1
    exact = [i * (frames - 1) // max(count - 1, 1) for i in range(count)]
    assert all(abs(a - b) <= 1 for a, b in zip(chosen, exact, strict=True))


def test_slow_frames_of_the_reference(golden):
    for name in golden.names():
        given = golden.facts(name)["input"]
        if given.get("slow_indices"):
            chosen = slowfast.slow_frames(given["num_frames"], alpha=given["alpha"])
            assert chosen.tolist() == given["slow_indices"], name


# Bad input


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
@pytest.mark.parametrize(
    ("clip", "rule"),
    [
        (torch.zeros(3, 8, 64, 64), r"\[batch, 3, frames, height, width\]"),
        (torch.zeros(1, 4, 8, 64, 64), r"\[batch, 3, frames, height, width\]"),
        (torch.zeros(1, 3, 8, 64, 64, dtype=torch.uint8), "floating"),
        (torch.zeros(1, 3, 8, 64, 64, dtype=torch.float64), r"clip.float\(\)"),
        (torch.zeros(1, 3, 8, 64, 64, device="meta"), r"clip.to\(device\)"),
        (torch.zeros(1, 3, 4, 64, 64), "8 frames or more"),
        (torch.zeros(1, 3, 8, 64, 16), "32 x 32 pixels or more"),
        (torch.zeros(0, 3, 8, 64, 64), "no clip"),
    ],
)
def test_a_clip_that_does_not_fit_is_refused_by_rule(family, clip, rule):
    model = tiny(family)
    for call in (model, model.predict, model.features):
        with pytest.raises(ClipError, match=rule):
            call(clip)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
def test_a_crop_below_the_window_of_the_test_head_is_refused(family):
    with pytest.raises(ClipError, match=r"windows of \d x 2 x 2 cells"):
        tiny(family).predict(clips(1, 3, 8, 32, 64))


def test_two_pathways_need_matching_frames():
    model = tiny(slowfast)
    with pytest.raises(ClipError, match="multiple of 4"):
        model(clips(1, 3, 9, 64, 64))
    with pytest.raises(ClipError, match="averaged over 8 frames"):
        model.predict(clips(1, 3, 12, 64, 64))
    assert model(clips(1, 3, 12, 64, 64)).shape == (1, 5)


def test_impossible_configurations_are_refused():
    with pytest.raises(UsageError, match="must be odd"):
        tiny(slowfast, lateral_kernel=4)
    with pytest.raises(UsageError, match="depth 34"):
        pathway.trunk(pathway.SLOW, depth=34)
    with pytest.raises(UsageError, match="3 blocks"):
        pathway.trunk(pathway.SLOW, temporal_blocks=(4, 4, 6, 3))
    with pytest.raises(UsageError, match="did you mean 'softmax'"):
        NonLocal(4, form="softmacs")


def test_unknown_taps_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'res3'"):
        tiny(resnet3d).features(clips(1, 3, 8, 64, 64), ("res33",))


# Loading


def saved_under_their_names(model, path):
    state = {pyslowfast_name(key): value for key, value in model.state_dict().items()}
    torch.save({"model_state": state}, path)
    return state


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
def test_names_go_both_ways(family, tmp_path):
    model = insert_nonlocal(tiny(family), {"slow.res3" if family is slowfast else "res3": (0,)})
    saved_under_their_names(model, tmp_path / "theirs.pyth")
    other = insert_nonlocal(tiny(family), {"slow.res3" if family is slowfast else "res3": (0,)})
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    assert load_into(other, tmp_path / "theirs.pyth").layout == "pyslowfast"
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        ("missing.*res3.0.conv_a.weight", "s3.pathway0_res0.branch2.a.weight", None),
        ("unexpected.*s3.pathway0_res9.branch2.a", "s3.pathway0_res9.branch2.a.weight", 1),
        ("misshapen.*res2.1.conv_a.weight", "s2.pathway0_res1.branch2.a.weight", 1),
    ],
)
def test_keys_that_do_not_fit_are_refused_by_name(message, key, value, tmp_path):
    model = tiny(resnet3d)
    state = saved_under_their_names(model, tmp_path / "whole.pyth")
    state.pop(key, None)
    if value is not None:
        state[key] = torch.zeros(value)
    torch.save({"model_state": state}, tmp_path / "changed.pyth")
    with pytest.raises(KeyMismatch, match=message):
        load_into(model, tmp_path / "changed.pyth")


def test_autocast_and_networks_of_other_precision_take_their_clips():
    model, clip = tiny(resnet3d), clips(1, 3, 8, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(clip)).all()
        assert torch.isfinite(model(clip.bfloat16())).all()
    assert model.double()(clip.double()).dtype == torch.float64
