"""The transformers rebuilt for inference against the reference's numbers and the readable ones."""

import pickle
from dataclasses import replace

import pytest
import torch

import test_mvit
import test_revmvit
from tubelet.errors import ClipError, UnknownName
from tubelet.models import mvit, revmvit
from tubelet.models.blocks.mvit_schedule import Kernel
from tubelet.models.blocks.pooling_attention import Pool
from tubelet.models.fast import accelerate
from tubelet.models.fast.mvit import FastMViT
from tubelet.models.fast.network import FastNetwork
from tubelet.models.fast.tokens import PIECE, TokenPool, pieces

BOUND = 2e-5
"""Largest difference over largest value, float32."""

AVX512_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def shaken(model):
    """Weights that make every branch, table and norm count."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            torch.nn.init.normal_(parameter, std=fan**-0.5)
    return model.eval()


def tiny(**changes):
    """Two blocks; keys and values of the first are pooled with a stride wider than the kernel."""
    trunk = mvit.staged((1, 2), kv=(1, 4, 4), dim=16, heads=2, every_block=True)
    trunk = replace(trunk, **changes.pop("trunk", {}))
    clip = replace(mvit.CLIP_16X4, frames=4, crop=64)
    return shaken(mvit.build(replace(test_mvit.TINY, trunk=trunk, clip=clip, **changes)))


def tiny_v1(**changes):
    trunk = mvit.staged((1, 2), kv=(1, 8, 8), dim=16)
    config = mvit.v1(trunk, replace(mvit.CLIP_16X4, frames=4, crop=64), 5)
    return shaken(mvit.build(replace(config, **changes)))


def tiny_rev(**changes):
    trunk = mvit.staged((3, 3), kv=(1, 2, 2), dim=16)
    trunk = replace(trunk, position="separate")
    clip = replace(mvit.CLIP_16X4, frames=4, crop=64)
    return shaken(revmvit.build(revmvit.Config(clip, 5, trunk, transitions=(3,), **changes)))


NETWORKS = {
    "v2": tiny,
    "v2 without a class token": lambda: tiny(class_token=False),
    "v2 wide in the MLP, mean": lambda: tiny(widen_in_attention=False, mean_pooling=True),
    "v2 without residual pooling": lambda: tiny(
        attention=replace(mvit.V2_VIDEO, residual_pooling=False)
    ),
    "v2 pooled in time": lambda: tiny(
        trunk={"q_strides": {1: (2, 2, 2)}, "kv_strides": {0: (2, 4, 4), 2: (1, 3, 3)}}
    ),
    "v1": tiny_v1,
    "v1 with kernels wider than the stride": lambda: tiny_v1(
        trunk=replace(tiny_v1().config.trunk, pool_kernel=None)
    ),
    "v1 without a class token": lambda: tiny_v1(class_token=False),
    "rev": tiny_rev,
    "rev fused by an MLP": lambda: tiny_rev(fusion="mlp", fusion_ratio=2.0),
    "rev side by side, mean": lambda: tiny_rev(fusion="concat", mean_pooling=True),
}

CLIP = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1))


def error(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tap_is_the_readable_networks(name):
    model = NETWORKS[name]()
    fast = accelerate(model)
    assert isinstance(fast, FastNetwork)
    assert isinstance(fast.network, FastMViT)
    with torch.inference_mode():
        want = model.features(CLIP, model.taps)
        got = fast.features(CLIP, model.taps)
        assert tuple(got) == model.taps
        for tap in model.taps:
            assert got[tap].dtype == torch.float32
            assert error(got[tap], want[tap]) < BOUND, tap
        assert torch.equal(fast.features(CLIP)["pool"], got["pool"])
        assert error(fast(CLIP), model(CLIP)) < BOUND
        assert error(fast.predict(CLIP), model.predict(CLIP)) < BOUND


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_is_the_same_bytes_whatever_its_neighbours_and_its_process(name):
    fast = accelerate(NETWORKS[name]())
    both = fast.features(CLIP, fast.taps)
    alone = pickle.loads(pickle.dumps(fast)).features(CLIP[1:], fast.taps)
    assert all(torch.equal(both[tap][1:], alone[tap]) for tap in fast.taps)


@pytest.mark.skipif(not AVX512_BF16, reason="needs a CPU with AVX-512")
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_rows_point_where_float32_rows_do(name):
    model = NETWORKS[name]()
    with torch.inference_mode():
        want = model.features(CLIP)["pool"]
        got = accelerate(model, precision="bf16").features(CLIP)["pool"]
    assert torch.cosine_similarity(got, want).min() >= 0.999


def test_a_pool_that_reads_few_cells_is_given_only_those():
    """MViT's first keys: 20 of 56 rows and columns."""
    kernel = Kernel((3, 3, 3), (1, 8, 8))
    pool = Pool(4, kernel=kernel, grid=(2, 56, 56), class_token=True).eval()
    x = torch.randn(1 + 2 * 56 * 56, 8)
    fast = TokenPool(pool, heads=2, sparse=True, dtype=torch.float32)
    assert fast.keep is not None
    assert len(fast.keep) == 1 + 2 * 20 * 20
    with torch.inference_mode():
        want = pool(x.unflatten(1, (2, 4)).transpose(0, 1)[None])[0].transpose(0, 1).flatten(1)
        assert error(fast(x[fast.keep]), want) < BOUND


def test_pieces_are_the_rows_in_order_and_bounded():
    for rows, width in ((1, 1), (7, PIECE), (25089, 393), (121680, 1521)):
        cut = pieces(rows, width)
        assert [i for piece in cut[:3] for i in range(rows)[piece]] == list(range(cut[:3][-1].stop))
        assert cut[-1].stop == rows
        assert max(piece.stop - piece.start for piece in cut) <= max(1, PIECE // width + 1)


def test_what_the_readable_network_refuses_is_refused():
    fast = accelerate(tiny())
    with pytest.raises(ClipError, match=r"built for clips of 4 x 64 x 64"):
        fast.features(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(UnknownName, match="block0"):
        fast.features(CLIP, ("block9",))


SLOW = pytest.mark.slow
GOLDEN = [
    "ImageNet/MVIT_B_16_CONV",
    "ImageNet/MVITv2_T",
    *(
        pytest.param(name, marks=SLOW)
        for name in (
            "ImageNet/MVITv2_S",
            "ImageNet/MVITv2_B",
            "Kinetics/MVIT_B_16x4_CONV",
            "Kinetics/MVIT_B_32x3_CONV",
            "Kinetics/MVITv2_S_16x4",
            "Kinetics/MVITv2_L_40x3_test",
            "SSv2/MVITv2_S_16x4",
            "SSv2/MVITv2_L_40x3",
        )
    ),
]


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_of_the_reference(golden, name):
    facts = golden.facts(name)
    config = mvit.VARIANTS[test_mvit.CONFORMANCE[name]]
    activation = "sigmoid" if facts.get("head_activation") == "sigmoid" else "softmax"
    config = replace(config, num_classes=facts["num_classes"], activation=activation)
    fast = accelerate(test_mvit.loaded(name, config)[0])
    clip = torch.from_numpy(golden.inputs(name, clips=1)[0])
    clip = clip if clip.ndim == 5 else clip[:, :, None]
    test_mvit.compare(golden, fast, clip, golden.expected(name))


@pytest.mark.parametrize(
    "case", ["Kinetics__MVITv2_S_16x4@8x160x160", "Kinetics__MVIT_B_16x4_CONV@8x160x160"]
)
def test_numbers_of_the_reference_at_other_sizes(golden, case):
    cases = golden.table("sizes")["cases"]
    facts = next(found for found in cases if found["case"] == case)
    size, name = facts["built_for"], facts["name"]
    config = mvit.VARIANTS[test_mvit.CONFORMANCE[name]]
    config = mvit.resized(config, frames=size["num_frames"], crop=size["crop"])
    fast = accelerate(test_mvit.loaded(name, config)[0])
    clip = torch.from_numpy(golden.fill.make_input(0, facts["input_shape"]))
    want = golden.arrays("sizes", case)
    test_mvit.compare(golden, fast, clip, want)


@pytest.mark.parametrize(
    "name", [*test_revmvit.SMALL_ONES, pytest.param("ImageNet/REV_VIT_B", marks=SLOW),
             test_revmvit.VIDEO]
)  # fmt: skip
@torch.inference_mode()
def test_numbers_of_the_reversible_reference(golden, name):
    model, clip = test_revmvit.loaded(golden, name)
    fast = accelerate(model)
    want, got = golden.expected(name), fast.features(clip, fast.taps)
    for key, value in {
        "logits": got["dense_logits"],
        "output": fast.predict(clip),
        "features": got["pool"],
    }.items():
        assert golden.error(value.numpy(), want[key][:1]) < BOUND, key
    for key in want:
        if key.startswith("stage/"):
            stage = test_revmvit.stage(got, key.removeprefix("stage/"))
            assert golden.error(golden.summarise(stage.numpy()), want[key]) < BOUND, key
