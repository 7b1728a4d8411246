"""The networks rebuilt for inference against the readable ones."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch

from test_conv_families import FAMILIES, GOLDEN, VARIANTS, clips, compare_stages, pyth, tiny
from tests_support import go, video
from tests_support import tiny as tiny_extractor
from tiny import TinyModel
from tubelet.cli import group
from tubelet.errors import ClipError, UsageError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.models import i3d, registry, resnet3d, slowfast, two_stream
from tubelet.models.blocks import resnet as pathway
from tubelet.models.blocks.layers import scores
from tubelet.models.blocks.nonlocal_block import FORMS, insert_nonlocal
from tubelet.models.device import BF16_COSINE, arithmetic, faster_precision, sent
from tubelet.models.fast import accelerate, fused
from tubelet.models.fast.network import FastNetwork
from tubelet.models.weights.load import load_into

BOUND = 2e-5
"""Largest difference over largest value, float32."""

AVX512_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def inception(clip=i3d.RGB):
    torch.manual_seed(0)
    model = i3d.build(i3d.Config(clip, num_classes=5)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def bottlenecks():
    """Blocks of three convolutions, and a block that is not the first without a shortcut."""
    spec = pathway.trunk(pathway.I3D, width=8, depth=50)
    return tiny(resnet3d, trunk=spec)


def no_stem_pool():
    """As mmaction2's network for pictures and videos."""
    spec = pathway.trunk(pathway.SLOW, width=8, depth=18)
    return tiny(resnet3d, trunk=replace(spec, stem_pool=None), head=(4, 4, 4))


NETWORKS = {
    "no_stem_pool": no_stem_pool,
    **{f.__name__.rsplit(".", 1)[-1]: (lambda f=f: tiny(f)) for f in FAMILIES},
    "bottlenecks": bottlenecks,
    "i3d": inception,
}


def error(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tap_is_the_readable_networks(name):
    model, clip = NETWORKS[name](), clips(2, 3, 8, 64, 80)
    with torch.inference_mode():
        want = model.features(clip, model.taps)
        before = copy.deepcopy(model.state_dict())
        fast = accelerate(model)
        got = fast.features(clip, model.taps)
        assert isinstance(fast, FastNetwork)
        for tap in model.taps:
            assert got[tap].dtype == torch.float32
            assert error(got[tap], want[tap]) < BOUND, tap
        assert torch.equal(fast.features(clip)["pool"], got["pool"])
        assert error(fast(clip), model(clip)) < BOUND
        assert error(fast.predict(clip), model.predict(clip)) < BOUND
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the readable network changed"


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_without_onednn_are_equal_too(name, monkeypatch):
    """What runs on CUDA, here on the CPU."""
    monkeypatch.setattr(fused, "packs", lambda device, dtype: False)
    model, clip = NETWORKS[name](), clips(1, 3, 8, 64, 64)
    with torch.inference_mode():
        want = model.features(clip, model.taps)
        got = accelerate(model).features(clip, model.taps)
    assert max(error(got[tap], want[tap]) for tap in model.taps) < BOUND


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", [1, 2])
def test_nonlocal_blocks(form, groups):
    model, clip = bottlenecks(), clips(1, 3, 8, 64, 64)
    insert_nonlocal(model, {"res3": (0, 1), "res4": (0,)}, form=form, groups=groups)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    with torch.inference_mode():
        want = model.features(clip, model.taps)
        got = accelerate(model).features(clip, model.taps)
    assert max(error(got[tap], want[tap]) for tap in model.taps) < BOUND


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_of_the_reference(name, golden, tmp_path):
    family, config = VARIANTS[GOLDEN[name]]
    model = family.build(config).eval()
    load_into(model, pyth(tmp_path / "weights.pyth", golden.weights(name)))
    model = accelerate(model)
    want = golden.expected(name)
    got = model.features(torch.from_numpy(golden.inputs(name, clips=1)[-1]), model.taps)
    output = scores(got["dense_logits"], model.activation)
    for value, key in (
        (output, "output"),
        (got["pool"], "features"),
        (got["dense_logits"], "logits"),
    ):
        assert golden.error(value, want[key][:1]) < BOUND, key
    if "head_pool" in got:
        assert golden.error(got["head_pool"], want["features_headpool"][:1]) < BOUND
    compare_stages(golden, got, want)


@pytest.mark.skipif(not AVX512_BF16, reason="needs a CPU with AVX-512")
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_rows_point_where_float32_rows_do(name):
    model, clip = NETWORKS[name](), clips(2, 3, 8, 64, 64)
    with torch.inference_mode():
        want = model.features(clip)["pool"]
        got = accelerate(model, precision="bf16").features(clip)["pool"]
    assert torch.cosine_similarity(got, want).min() >= BF16_COSINE
    assert error(got, want) < 0.03


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_was_sent_to_another_process_gives_the_same_bytes(name):
    fast, clip = accelerate(NETWORKS[name]()), clips(1, 3, 8, 64, 64)
    here = fast.features(clip, fast.taps)
    there = pickle.loads(pickle.dumps(fast)).features(clip, fast.taps)
    assert all(torch.equal(here[tap], there[tap]) for tap in fast.taps)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_of_two_layers_is_computed_in_float32(precision):
    model = tiny(resnet3d, hidden=16)
    pool = clips(2, model.width)
    with torch.inference_mode():
        assert torch.equal(
            accelerate(model, precision=precision).classify(pool), model.classify(pool)
        )


def test_two_streams_are_two_fast_networks():
    model = two_stream.TwoStream(inception(), inception(i3d.FLOW)).eval()
    model.model_id, model.weights_sha256 = "both", "rgb: a; flow: b"
    fast, clip = accelerate(model), clips(1, 5, 8, 64, 64)
    assert (fast.model_id, fast.weights_sha256) == ("both", "rgb: a; flow: b")
    with torch.inference_mode():
        want, got = (m.features(clip, ("pool", "dense_logits")) for m in (model, fast))
    assert max(error(got[tap], want[tap]) for tap in want) < BOUND


def test_what_the_readable_network_refuses_is_refused():
    fast = accelerate(tiny(slowfast))
    for clip, rule in (
        (torch.zeros(1, 3, 9, 64, 64), "multiple of 4"),
        (torch.zeros(1, 3, 8, 64, 64).double(), r"clip.float\(\)"),
        (torch.zeros(3, 8, 64, 64), "batch, 3, frames"),
    ):
        with pytest.raises(ClipError, match=rule):
            fast.features(clip)


def test_a_network_of_another_kind_runs_as_it_is():
    model = torch.nn.Linear(2, 2)
    assert accelerate(model) is model
    extractor = tiny_extractor()
    assert (extractor.runtime, extractor.run_facts()["runtime"]) == ("reference", "reference")


@pytest.fixture
def made(tmp_path):
    """(folder of two videos, an extractor's maker)."""
    for seed in (1, 2):
        video(tmp_path / f"in/{seed}.mp4", seed=seed, size=(80, 64), frames=20)
    model = tiny(resnet3d)

    def extractor(**changes):
        return Extractor(copy.deepcopy(model), name="x", device="cpu", **changes)

    return tmp_path / "in", extractor


def rows(out):
    return {path.stem: np.load(path) for path in sorted(out.glob("*.npy"))}


def test_extraction_is_fast_unless_asked_otherwise_and_says_so(made, tmp_path):
    source, extractor = made
    go([source], tmp_path / "fast", extractor())
    go([source], tmp_path / "plain", extractor(runtime="reference"))
    for name, kind in (("fast", "fast"), ("plain", "reference")):
        record = json.loads((tmp_path / name / "1.json").read_text())
        assert record["made_with"]["runtime"] == kind
    fast, plain = rows(tmp_path / "fast"), rows(tmp_path / "plain")
    for key in plain:
        assert np.abs(fast[key] - plain[key]).max() < BOUND * np.abs(plain[key]).max()
    recipes = [json.loads((tmp_path / n / "tubelet.json").read_text()) for n in ("fast", "plain")]
    assert recipes[0]["hash"] == recipes[1]["hash"]  # a run may be finished with the other one


def test_rows_are_the_same_bytes_whoever_makes_them(made, tmp_path):
    source, extractor = made
    go([source], tmp_path / "one", extractor())
    go([source], tmp_path / "two", extractor(), workers=2)
    go([source / "2.mp4"], tmp_path / "alone", extractor())
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert np.array_equal(one["2"], rows(tmp_path / "alone")["2"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu(name, precision):
    model, clip = NETWORKS[name](), clips(2, 3, 8, 64, 64)
    with torch.inference_mode(), arithmetic("cuda", precision, "fast"):
        want = model.features(clip)["pool"]
        got = accelerate(model, device="cuda", precision=precision).features(sent(clip, "cuda"))
    assert torch.cosine_similarity(got["pool"].cpu(), want).min() >= BF16_COSINE
    assert precision != "fp32" or error(got["pool"].cpu(), want) < 1e-4


def test_an_unknown_runtime_is_refused(made):
    with pytest.raises(UsageError, match="fast, reference or compile"):
        made[1](runtime="warp")
    assert made[1](options=Options(precision="fp16")).runtime == "reference"


def test_auto_is_the_fastest_precision_with_a_bound(made):
    bfloat16 = torch.cpu._is_avx512_bf16_supported()
    extractor = made[1](options=Options(precision="auto"))
    assert extractor.precision == extractor.recipe()["precision"]
    assert extractor.precision == ("bf16" if bfloat16 else "fp32")
    told = faster_precision("fp32", "cpu")
    assert (told is not None) == bfloat16
    assert told is None or ("--precision auto" in told and str(BF16_COSINE) in told)
    assert faster_precision("bf16", "cpu") is None


@pytest.mark.parametrize("asked", [[], ["--precision", "fp32"]])
def test_extract_says_what_a_faster_precision_costs_unless_one_was_asked_for(
    asked, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(registry, "create_model", lambda name: TinyModel())
    path = video(tmp_path / "a.mp4")
    arguments = ["extract", str(path), "-o", str(tmp_path / "out"), "-m", "tiny", *asked]
    assert group.main(arguments, standalone_mode=False) == 0
    told = "--precision auto would use bfloat16" in capsys.readouterr().err
    assert told == (not asked and torch.cpu._is_avx512_bf16_supported())


def test_threads_that_share_a_network_find_the_same_numbers_at_its_first_use():
    conv, clip = torch.nn.Conv3d(64, 256, 3, padding=1), clips(1, 64, 2, 8, 8)
    want = accelerated(conv)(clip)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(40):
            shared, together = accelerated(conv), Barrier(4)

            def run(shared=shared, together=together):
                together.wait()
                return shared(clip)

            found = [pool.submit(run) for _ in range(4)]
            assert all(torch.equal(f.result(), want) for f in found)


def accelerated(conv):
    return fused.FusedConv(conv, None, relu=False, device="cpu", dtype=torch.float32)


def test_a_network_that_pads_by_the_size_of_its_clip_keeps_nothing_of_it():
    model = inception()
    fast, sizes = accelerate(model), [(64, 64), (57, 71), (64, 64)]
    for height, width in sizes:
        clip = clips(1, 3, 8, height, width)
        before = [m.padding for m in fast.modules() if isinstance(m, fused.FusedConv)]
        with torch.inference_mode():
            assert error(fast.features(clip)["pool"], model.features(clip)["pool"]) < BOUND
        assert before == [m.padding for m in fast.modules() if isinstance(m, fused.FusedConv)]
