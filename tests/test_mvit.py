"""MViT-v1 and v2: the reference's numbers, the papers' tables, properties of the attention."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.errors import ClipError, UnknownName, UsageError
from tubelet.models import mvit
from tubelet.models.blocks.layers import scores
from tubelet.models.blocks.mvit_schedule import (
    Kernel,
    Pooling,
    patch_grid,
    pooling_schedule,
    width_schedule,
)
from tubelet.models.blocks.pooling_attention import (
    Mlp,
    attend,
    attend_written_out,
)
from tubelet.models.blocks.positions import RelativePosition, resize_table, table_rows
from tubelet.models.weights.layouts.pyslowfast_mvit import recognises, rename, to_ours

CONFORMANCE = {
    "ImageNet/MVIT_B_16_CONV": "mvit_v1_b_16",
    "ImageNet/MVITv2_T": "mvit_v2_t",
    "ImageNet/MVITv2_S": "mvit_v2_s",
    "ImageNet/MVITv2_B": "mvit_v2_b",
    "Kinetics/MVIT_B_16x4_CONV": "mvit_v1_b_16x4",
    "Kinetics/MVIT_B_32x3_CONV": "mvit_v1_b_32x3",
    "Kinetics/MVITv2_S_16x4": "mvit_v2_s_16x4",
    "Kinetics/MVITv2_L_40x3_test": "mvit_v2_l_40x3",
    "SSv2/MVITv2_S_16x4": "mvit_v2_s_16x4",
    "SSv2/MVITv2_L_40x3": "mvit_v2_l_40x3",
}


@functools.cache
def tensors(name):
    from conformance import golden

    return {key: torch.from_numpy(value) for key, value in golden.weights(name).items()}


def loaded(name, config):
    """A network with the weights of seed 0, and those weights under our names."""
    model = mvit.build(config).eval()
    ours = to_ours(tensors(name), model)
    model.load_state_dict(ours)
    return model, ours


def stage(taps, name):
    if name == "patch_embed":
        return taps["stem"].flatten(2).transpose(1, 2)
    return taps[f"block{name.split('.')[1]}_tokens"]


@torch.inference_mode()
def compare(golden, model, clip, want):
    """Everything the reference recorded, to the tolerance for a CPU."""
    got = model.features(clip, model.taps)
    prediction = scores(got["dense_logits"], model.activation)
    assert torch.equal(prediction, model.predict(clip))
    for name, value in {
        "logits": got["dense_logits"],
        "output": prediction,
        "features": got["pool"],
        "features_patch_mean": got["grid"].mean(dim=(2, 3, 4)),
    }.items():
        assert golden.error(value.numpy(), want[name][:1]) < 2e-5, name
    for key in want:
        if key.startswith("stage/"):
            summary = golden.summarise(stage(got, key.removeprefix("stage/")).numpy())
            assert golden.error(summary, want[key]) < 2e-5, key


@pytest.mark.parametrize("name", ["ImageNet/MVIT_B_16_CONV", "ImageNet/MVITv2_T"])
def test_images_have_the_references_numbers(golden, name):
    model, _ = loaded(name, mvit.VARIANTS[CONFORMANCE[name]])
    clip = torch.from_numpy(golden.inputs(name, clips=1)[0])[:, :, None]
    compare(golden, model, clip, golden.expected(name))


@pytest.mark.parametrize(
    "case",
    [
        "Kinetics__MVITv2_S_16x4@8x160x160",
        "Kinetics__MVITv2_S_16x4@8x208x208",
        "Kinetics__MVIT_B_16x4_CONV@8x160x160",
        "ImageNet__MVITv2_T@1x288x288",
        pytest.param("Kinetics__MVITv2_S_16x4@24x256x256", marks=pytest.mark.slow),
        pytest.param("Kinetics__MVIT_B_16x4_CONV@24x256x256", marks=pytest.mark.slow),
    ],
)
def test_other_sizes_resize_the_tables(golden, case):
    cases = golden.table("sizes")["cases"]
    facts = next(found for found in cases if found["case"] == case)
    name, size = facts["name"], facts["built_for"]
    config = mvit.resized(
        mvit.VARIANTS[CONFORMANCE[name]], frames=size["num_frames"], crop=size["crop"]
    )
    model, ours = loaded(name, config)
    if case == "Kinetics__MVITv2_S_16x4@8x160x160":  # the same from a network loaded already
        again = loaded(name, mvit.VARIANTS[CONFORMANCE[name]])[0]
        again = again.resized(frames=size["num_frames"], crop=size["crop"])
        assert not again.training
        assert again.clip == model.clip
        state = again.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    want = golden.arrays("sizes", case)
    for key, (_, shape) in facts["resized"].items():
        table = ours[rename(key)]
        assert list(table.shape) == shape
        assert golden.error(golden.summarise(table.numpy()), want[f"adapted/{key}"]) < 1e-6
        if f"adapted_full/{key}" in want:
            assert golden.error(table.numpy(), want[f"adapted_full/{key}"]) < 1e-6
    clip = torch.from_numpy(golden.fill.make_input(0, facts["input_shape"]))
    compare(golden, model, clip if clip.ndim == 5 else clip[:, :, None], want)


@pytest.mark.parametrize("name", sorted(CONFORMANCE))
def test_blocks_are_built_as_the_reference_builds_them(golden, name):
    facts = golden.facts(name)
    config = mvit.VARIANTS[CONFORMANCE[name]]
    trunk, layout = config.trunk, facts["layout"]
    grid = patch_grid(trunk, config.clip)
    assert list(grid) == layout["patch_grid"]
    assert config.class_token == layout["class_token"]
    widths = width_schedule(trunk, in_attention=config.widen_in_attention)
    for width, pooling, block in zip(
        widths, pooling_schedule(trunk, grid), layout["blocks"], strict=True
    ):
        attention = block["attention"]
        assert (width.dim, width.dim_out) == (block["dim"], block["dim_out"])
        assert (width.heads, width.dim_attention) == (attention["heads"], attention["dim_out"])
        assert [list(pooling.grid), list(pooling.q_grid)] == block["grid"]
        for kernel, built in ((pooling.q, attention["pool_q"]), (pooling.kv, attention["pool_kv"])):
            assert (kernel is None) == (built is None)
            if kernel:
                assert list(kernel.size) == built["kernel"]
                assert list(kernel.stride) == built["stride"]
        if config.attention.rel_spatial:
            assert pooling.tables[1] == attention["rel_pos_spatial_length"]
        if config.attention.rel_temporal:
            assert pooling.tables[0] == attention["rel_pos_temporal_length"]


@pytest.mark.parametrize("name", sorted(CONFORMANCE))
def test_names_map_one_to_one(golden, name):
    facts = golden.facts(name)
    with torch.device("meta"):
        config = replace(mvit.VARIANTS[CONFORMANCE[name]], num_classes=facts["num_classes"])
        model = mvit.build(config)
        source = {key: torch.empty(shape) for key, shape, _ in facts["state_dict"]}
    assert recognises(source)
    ours = to_ours(source, model)
    assert len(ours) == len(source)
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]


# Millions of parameters, counted on the networks that the sources build, of what has no golden.
SIZES = {
    "mvit_v2_b_32x3": 51.230,
    "mvit_v2_l": 217.993,
    "mvit_v2_s_16x4_maskfeat": 36.475,
    "mvit_v2_l_16x4_maskfeat": 217.578,
}


@pytest.mark.parametrize("name", sorted(SIZES))
def test_parameters(name):
    with torch.device("meta"):
        model = mvit.build(mvit.VARIANTS[name])
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == SIZES[name]


def test_tokens_and_channels_of_table_1():
    """MViT-S of 2112.01526: 8 x 56^2, 28^2, 14^2, 7^2 cells of 96, 192, 384, 768 channels."""
    config = mvit.VARIANTS["mvit_v2_s_16x4"]
    grids = [
        p.q_grid for p in pooling_schedule(config.trunk, patch_grid(config.trunk, config.clip))
    ]
    dims = [w.dim_out for w in width_schedule(config.trunk, in_attention=True)]
    stages = list(dict.fromkeys(zip(grids, dims, strict=True)))
    assert stages == [((8, 56 >> i, 56 >> i), 96 << i) for i in range(4)]


# A network of two blocks that has everything: class token, tables, pooling, growth.
TINY = replace(
    mvit.VARIANTS["mvit_v2_s_16x4"],
    clip=replace(mvit.CLIP_16X4, frames=4, crop=32),
    num_classes=5,
    trunk=mvit.staged((1, 1), kv=(1, 2, 2), dim=16, every_block=True),
)


def test_taps_and_their_shapes():
    torch.manual_seed(0)
    model = mvit.build(TINY).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    taps = model.features(clip, model.taps)
    assert tuple(taps) == model.taps
    assert {name: tuple(value.shape) for name, value in taps.items()} == {
        "stem": (2, 16, 2, 8, 8),
        "block0": (2, 16, 2, 8, 8), "block0_tokens": (2, 129, 16),
        "block1": (2, 32, 2, 4, 4), "block1_tokens": (2, 33, 32),
        "grid": (2, 32, 2, 4, 4), "dense_logits": (2, 5), "pool": (2, 32),
    }  # fmt: skip
    tokens = taps["block1_tokens"]
    assert torch.equal(taps["block1"].flatten(2).transpose(1, 2), tokens[:, 1:])
    assert torch.equal(model.norm(tokens)[:, 0], taps["pool"])
    assert torch.equal(model(clip), taps["dense_logits"])
    assert torch.allclose(model.predict(clip), taps["dense_logits"].softmax(-1))


@pytest.mark.parametrize("class_token", [True, False])
def test_pool_is_the_mean_of_the_grid_even_when_the_norm_comes_last(class_token):
    torch.manual_seed(0)
    for mean_pooling in (True, False):
        model = mvit.build(replace(TINY, class_token=class_token, mean_pooling=mean_pooling))
        torch.nn.init.normal_(model.norm.weight)
        taps = model.eval().features(torch.randn(2, 3, 4, 32, 32), ("grid", "pool", "block1"))
        mean = taps["grid"].mean(dim=(2, 3, 4))
        same = torch.allclose(mean, taps["pool"], atol=1e-5)
        assert same == (mean_pooling or not class_token)
        if mean_pooling:
            wanted = model.norm(taps["block1"].mean(dim=(2, 3, 4)))
            assert torch.allclose(taps["pool"], wanted, atol=1e-5)


def test_a_clip_of_another_size_is_refused():
    model = mvit.build(TINY).eval()
    with pytest.raises(ClipError, match=r"built for clips of 4 x 32 x 32.*36 x 32"):
        model(torch.zeros(1, 3, 4, 36, 32))
    with pytest.raises(ClipError, match="4 frames"):
        model(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(UnknownName, match="block0"):
        model.features(torch.zeros(1, 3, 4, 32, 32), ("block7",))
    with pytest.raises(UsageError, match=r"crop=30.*multiple of 4"):
        mvit.build(mvit.resized(TINY, crop=30))
    with pytest.raises(UsageError, match=r"frames=5.*multiple of 2"):
        mvit.build(mvit.resized(TINY, frames=5))


def test_a_network_for_another_size_keeps_what_it_can_and_refuses_the_rest():
    model = mvit.build(TINY).eval()
    model.model_id = "mine"
    other = model.resized(frames=6, crop=48)
    assert (other.clip.frames, other.clip.crop, other.clip.short_side) == (6, 48, 384)
    assert other.model_id == "mine"
    assert other(torch.zeros(1, 3, 6, 48, 48)).shape == (1, 5)
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    joint = replace(TINY, trunk=replace(TINY.trunk, position="joint"))
    with pytest.raises(UsageError, match=r"tokens.joint .*not resized.* 4 x 32 x 32 only"):
        mvit.build(joint).resized(crop=48)
    with pytest.raises(UsageError, match=r"frames=2: .*one frame"):
        mvit.resized(mvit.VARIANTS["mvit_v2_t"], frames=2)


def test_norms_and_gelu_are_the_references():
    """The tolerance cannot see a norm's epsilon, and hardly GELU's tanh form."""
    model = mvit.build(TINY)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 11
    assert all(norm.eps == 1e-6 for norm in norms)
    mlp = Mlp(1, 1, 1)
    for linear in (mlp.fc1, mlp.fc2):
        torch.nn.init.ones_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    x = torch.linspace(-4, 4, 101).double()[:, None]
    exact = torch.tensor([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[:, 0].tolist()])
    assert torch.allclose(mlp.double()(x)[:, 0], exact.double(), atol=1e-12)


grids = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
strides = st.tuples(st.just(1), st.integers(1, 3), st.integers(1, 3))


def relative(pooling, width=8):
    torch.manual_seed(0)
    module = RelativePosition(width, pooling=pooling, spatial=True, temporal=True).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@settings(max_examples=40, deadline=None)
@given(grids, strides, strides, st.integers(1, 4), st.integers(0, 1))
def test_one_dot_product_equals_the_formula(grid, q_stride, kv_stride, heads, class_token):
    pooling = Pooling(
        grid,
        q=Kernel((1, 3, 3), q_stride),
        kv=Kernel((1, 3, 3), kv_stride),
        tables=(2 * grid[0] - 1, 2 * grid[1] - 1),
    )
    module = relative(pooling)
    queries, keys = math.prod(pooling.q_grid), math.prod(pooling.kv_grid)
    q = torch.randn(2, heads, queries, 8, dtype=torch.float64)
    k, v = torch.randn(2, 2, heads, keys + class_token, 8, dtype=torch.float64)
    with torch.no_grad():
        logits = module(q)
        q = torch.cat([q[:, :, :class_token], q], dim=2)
        logits = torch.nn.functional.pad(logits, (0, 0, class_token, 0))
        axes = torch.nn.functional.pad(module.axes, (0, 0, class_token, 0))
        fast = attend(q, k, v, logits=logits, axes=axes)
        readable = attend_written_out(q, k, v, logits=logits, axes=axes)
        masked = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=logits @ axes.t()
        )
    assert torch.allclose(fast, readable, atol=1e-12)
    assert torch.allclose(masked, readable, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(grids, st.data())
def test_relative_logits_depend_on_differences_only(grid, data):
    """Shift the query's and the key's cell together: the same query vector gets the same bias."""
    pooling = Pooling(grid, q=None, kv=None, tables=tuple(2 * n - 1 for n in grid[:2]))
    module = relative(pooling)

    def cell():
        return [data.draw(st.integers(0, n - 1)) for n in grid]

    a, b = cell(), cell()
    shift = [
        data.draw(st.integers(-min(i, j), n - 1 - max(i, j)))
        for i, j, n in zip(a, b, grid, strict=True)
    ]

    def number(cell):
        return (cell[0] * grid[1] + cell[1]) * grid[2] + cell[2]

    vector = torch.randn(8, dtype=torch.float64)
    q = vector.expand(1, 1, math.prod(grid), 8)
    with torch.no_grad():
        bias = (module(q) @ module.axes.t())[0, 0]
    moved = [[i + d for i, d in zip(c, shift, strict=True)] for c in (a, b)]
    assert torch.allclose(
        bias[number(a), number(b)], bias[number(moved[0]), number(moved[1])], atol=1e-12
    )


@given(st.integers(1, 80), st.integers(1, 80))
def test_table_rows_stay_in_the_table(q, k):
    rows = table_rows(q, k)
    assert rows.shape == (q, k)
    assert rows.min() >= 0
    assert rows.max() <= 2 * max(q, k) - 2


def test_a_resized_table_is_itself_or_a_line():
    table = torch.arange(7.0)[:, None].expand(7, 3)
    assert resize_table(table, 7) is table
    longer = resize_table(table, 21)
    assert torch.allclose(longer[1:-1, 0], torch.linspace(0, 6, 19), atol=1e-6)
