"""Rev-ViT and Rev-MViT: the reference's numbers, inverses, gradients without kept activations."""

from dataclasses import replace

import pytest
import torch

from tubelet.errors import UsageError
from tubelet.models import mvit, revmvit
from tubelet.models.blocks.mvit_schedule import patch_grid, pooling_schedule, staged, width_schedule
from tubelet.models.blocks.reversible import run_plain, run_reversible
from tubelet.models.weights.layouts.pyslowfast_mvit import recognises, rename, to_ours

CONFORMANCE = {
    "ImageNet/REV_VIT_S": "rev_vit_s",
    "ImageNet/REV_VIT_B": "rev_vit_b",
    "ImageNet/REV_MVIT_B_16_CONV": "rev_mvit_b",
    "Kinetics/REV_MVIT_B_16x4_CONV": "rev_mvit_b_16x4",
}
SMALL_ONES = ["ImageNet/REV_VIT_S", "ImageNet/REV_MVIT_B_16_CONV"]
VIDEO = pytest.param("Kinetics/REV_MVIT_B_16x4_CONV", marks=pytest.mark.slow)


def loaded(golden, name):
    model = revmvit.build(revmvit.VARIANTS[CONFORMANCE[name]]).eval()
    weights = {key: torch.from_numpy(value) for key, value in golden.weights(name).items()}
    model.load_state_dict(to_ours(weights, model))
    clip = torch.from_numpy(golden.inputs(name, clips=1)[0])
    return model, clip if clip.ndim == 5 else clip[:, :, None]


def stage(taps, name):
    """patch_embed; rev_backbone.layers.7.0, stream 1 of block 7; rev_backbone.layers.3 (one)."""
    if name == "patch_embed":
        return taps["stem"].flatten(2).transpose(1, 2)
    _, _, block, *stream = name.split(".")
    tokens = taps[f"block{block}_tokens"]
    return tokens.chunk(2, dim=-1)[int(stream[0])] if stream else tokens


@pytest.mark.parametrize("name", [*SMALL_ONES, VIDEO])
@torch.inference_mode()
def test_the_references_numbers(golden, name):
    model, clip = loaded(golden, name)
    want = golden.expected(name)
    got = model.features(clip, model.taps)
    for key, value in {
        "logits": got["dense_logits"],
        "output": model.predict(clip),
        "features": got["pool"],
    }.items():
        assert golden.error(value.numpy(), want[key][:1]) < 2e-5, key
    for key in want:
        if key.startswith("stage/"):
            summary = golden.summarise(stage(got, key.removeprefix("stage/")).numpy())
            assert golden.error(summary, want[key]) < 2e-5, key


def reference_gradient(model, key):
    """The gradient under PySlowFast's name: ours keeps q, k and v in one matrix."""
    name = rename(key)
    head, _, last = name.rpartition(".")
    if head.endswith((".attention.q", ".attention.k", ".attention.v")):
        fused = model.get_parameter(f"{head[:-1]}qkv.{last}").grad
        return fused.chunk(3)["qkv".index(head[-1])]
    return model.get_parameter(name).grad


@pytest.mark.parametrize("name", [*SMALL_ONES, VIDEO])
def test_gradients_are_those_of_the_reference(golden, name):
    facts = golden.table("reversible")["configurations"][name]
    arrays = golden.arrays("reversible")
    model, clip = loaded(golden, name)
    total = model.train()(clip).sum()
    total.backward()
    assert total.item() == pytest.approx(facts["sum_of_logits"], rel=1e-5)
    vanishing = set(facts["vanishing_gradients"])
    largest = max(facts["gradient_norms"].values())
    for key, norm in facts["gradient_norms"].items():
        gradient = reference_gradient(model, key).double().norm().item()
        if key in vanishing:
            assert gradient < 1e-5 * largest, key
        else:
            assert gradient == pytest.approx(norm, rel=1e-5), key
    for key in facts["parameters"]:
        first = reference_gradient(model, key).flatten()[:32].numpy()
        want = arrays[f"{name.replace('/', '__')}/float64/{key}/first32"]
        assert golden.error(first, want) < 2e-5, key


@pytest.mark.parametrize("name", sorted(CONFORMANCE))
def test_names_map_one_to_one(golden, name):
    facts = golden.facts(name)
    with torch.device("meta"):
        model = revmvit.build(revmvit.VARIANTS[CONFORMANCE[name]])
        source = {key: torch.empty(shape) for key, shape, _ in facts["state_dict"]}
    assert recognises(source)
    ours = to_ours(source, model)
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]


@pytest.mark.parametrize("name", sorted(CONFORMANCE))
def test_blocks_are_built_as_the_reference_builds_them(golden, name):
    layout = golden.facts(name)["layout"]
    config = revmvit.VARIANTS[CONFORMANCE[name]]
    grid = patch_grid(config.trunk, config.clip)
    widths = width_schedule(config.trunk, in_attention=True)
    schedule = pooling_schedule(config.trunk, grid)
    for i, (width, pooling, block) in enumerate(
        zip(widths, schedule, layout["blocks"], strict=True)
    ):
        assert (block["kind"] == "transition") == (i in config.transitions)
        assert (width.dim_out, width.heads) == (block["dim_mlp"], block["attention"]["heads"])
        assert list(pooling.grid) == block["grid_in"]
        for kernel, key in ((pooling.q, "pool_q"), (pooling.kv, "pool_kv")):
            built = block["attention"][key]
            assert (kernel is None) == (built is None)
            if kernel:
                assert [list(kernel.size), list(kernel.stride)] == [
                    built["kernel"],
                    built["stride"],
                ]


def tiny(**changes):
    """Two reversible runs with a transition between them, in a network of six blocks."""
    trunk = staged((3, 3), kv=(1, 2, 2), dim=16)
    trunk = replace(trunk, position="separate", **changes)
    clip = replace(mvit.CLIP_16X4, frames=4, crop=32)
    return revmvit.Config(clip, 5, trunk, transitions=(3,))


def built(config, *, dtype=torch.float32):
    torch.manual_seed(0)
    model = revmvit.build(config)
    for parameter in model.parameters():  # larger than at initialisation: branches that count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.to(dtype)


CLIP = torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fusion", ["average", "concat", "mlp"])
def test_taps_and_their_shapes(fusion):
    model = built(replace(tiny(), fusion=fusion, fusion_ratio=2.0)).eval()
    taps = model.features(CLIP, model.taps)
    assert tuple(taps) == model.taps
    shapes = {name: tuple(value.shape[1:]) for name, value in taps.items()}
    assert shapes["block2"] == (32, 2, 8, 8)
    assert shapes["block2_tokens"] == (128, 32)
    assert shapes["block3"] == (32, 2, 4, 4)  # one stream after the transition
    assert shapes["block5"] == shapes["grid"] == (64, 2, 4, 4)
    assert shapes["pool"] == (64,)
    assert torch.allclose(taps["grid"].mean(dim=(2, 3, 4)), taps["pool"], atol=1e-5)
    assert torch.allclose(model(CLIP), taps["dense_logits"], atol=1e-5)


def test_inputs_come_back_from_outputs(golden):
    """Through every reversible run of a whole network, to float tolerance."""
    model, clip = loaded(golden, "ImageNet/REV_MVIT_B_16_CONV")
    runs = model._runs(set())
    assert [len(run) for run in runs] == [1, 1, 1, 1, 10, 1, 1]
    with torch.inference_mode():
        x1 = x2 = model.tokens(model.patch_embed(clip))
        for run in runs:
            blocks = [model.blocks[i] for i in run]
            if isinstance(blocks[0], revmvit.Transition):
                x1 = x2 = blocks[0](x1, x2)
                continue
            y1, y2 = run_plain(blocks, x1, x2, [None] * len(blocks))
            z1, z2 = y1, y2
            for block in reversed(blocks):
                z1, z2 = block.inverse(z1, z2)
            assert golden.error(z1.numpy(), x1.numpy()) < 1e-5
            assert golden.error(z2.numpy(), x2.numpy()) < 1e-5
            x1, x2 = y1, y2


def gradients(model, *, recompute, autocast=False):
    """Gradients of one step; what is dropped depends on the seed 3 alone."""
    model.recompute = recompute
    model.zero_grad()
    torch.manual_seed(3)
    clip = CLIP.clone().to(next(model.parameters()).dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(clip)
    logits.float().square().sum().backward()
    after = torch.get_rng_state()
    return {name: p.grad.clone() for name, p in model.named_parameters()}, clip.grad, after


@pytest.mark.parametrize("drops", [{}, {"drop_path": 0.5}, {"drop_path": 0.3, "dropout": 0.4}])
@pytest.mark.parametrize("autocast", [False, True])
def test_recomputed_gradients_equal_plain_ones(drops, autocast):
    """For every parameter and for the input, with the same things dropped both times."""
    dtype = torch.float32 if autocast else torch.float64
    model = built(tiny(**drops), dtype=dtype).train()
    plain, plain_input, plain_state = gradients(model, recompute=False, autocast=autocast)
    again, again_input, again_state = gradients(model, recompute=True, autocast=autocast)
    tolerance = 1e-5 if autocast else 1e-9
    # Some gradients vanish (a constant added to every key changes nothing): measured by the rest.
    floor = 1e-6 * max(gradient.norm() for gradient in plain.values())
    for name, gradient in plain.items():
        assert (again[name] - gradient).norm() <= tolerance * (gradient.norm() + floor), name
    assert (again_input - plain_input).norm() <= tolerance * plain_input.norm()
    assert torch.equal(plain_state, again_state)  # the way back draws nothing from it


def test_another_size():
    model = built(tiny()).eval()
    other = model.resized(frames=8, crop=64)
    assert other(torch.zeros(1, 3, 8, 64, 64)).shape == (1, 5)
    assert other.tokens.temporal.shape == (1, 4, 16)
    assert other.tokens.spatial.shape == (1, 256, 16)


def test_dropping_changes_with_the_seed_and_stops_in_evaluation():
    model = built(tiny(drop_path=0.9, dropout=0.5)).train()
    torch.manual_seed(0)
    first, second = model(CLIP), model(CLIP)
    assert not torch.allclose(first, second)
    model.eval()
    assert torch.equal(model(CLIP), model(CLIP))


def test_frozen_parameters_get_no_gradient():
    model = built(tiny()).train()
    model.blocks[0].f.requires_grad_(False)
    model(CLIP).sum().backward()
    assert all(p.grad is None for p in model.blocks[0].f.parameters())
    assert all(p.grad is not None for p in model.blocks[0].g.parameters())


def test_kept_activations_do_not_grow_with_depth():
    """Bytes that autograd keeps for a run of reversible blocks, from one block to eight."""

    def kept(depth, execute):
        trunk = replace(tiny().trunk, depth=depth, dim_mul=(), head_mul=(), q_strides={})
        blocks = built(replace(tiny(), trunk=trunk, transitions=())).blocks
        x = torch.randn(2, 128, 16, requires_grad=True)
        sizes = {}

        def pack(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = execute(list(blocks), x, x, [None] * depth)
        assert all(output.requires_grad for output in outputs)
        return sum(sizes.values())

    assert kept(8, run_reversible) == kept(1, run_reversible)
    assert kept(8, run_plain) > 6 * kept(1, run_plain)


@pytest.mark.parametrize(
    ("transitions", "words"),
    [((), "block 3 changes"), ((3, 4), "block 3 cannot"), ((0, 3), "block 0 cannot")],
)
def test_transitions_in_the_wrong_place_are_refused(transitions, words):
    with pytest.raises(UsageError, match=words):
        revmvit.build(replace(tiny(), transitions=transitions))
