"""`--runtime compile`: torch.compile around the readable networks.

What compiles is slow, and not for a process that other tests share: the compiler loads setuptools,
which warns for as long as the process lives.
"""

import pickle
import shutil

import numpy as np
import pytest
import torch

import test_fast
import test_fast_mvit
from tests_support import video
from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.models.compiled import CompiledNetwork, compiled
from tubelet.models.device import arithmetic, resolve_runtime

BOUND = 2e-5
"""Largest difference over largest value, float32."""

TINY = {
    "slowfast": lambda: (test_fast.NETWORKS["slowfast"](), (1, 3, 8, 64, 64)),
    "x3d": lambda: (test_fast.NETWORKS["x3d"](), (1, 3, 8, 64, 64)),
    "i3d": lambda: (test_fast.inception(), (1, 3, 8, 64, 64)),
    "resnet3d": lambda: (test_fast.NETWORKS["resnet3d"](), (1, 3, 8, 64, 64)),
    "mvit_v1": lambda: (test_fast_mvit.tiny_v1(), (1, 3, 4, 64, 64)),
    "mvit_v2": lambda: (test_fast_mvit.tiny(), (1, 3, 4, 64, 64)),
    "rev_mvit": lambda: (test_fast_mvit.tiny_rev(), (1, 3, 4, 64, 64)),
}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""torch.compile of torch 2.13 uses parts of torch that warn."""

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


def made(name):
    model, shape = TINY[name]()
    return model, test_fast.clips(*shape)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_the_numbers_are_the_readable_networks(name):
    model, clip = made(name)
    with torch.inference_mode():
        want = model.features(clip, model.taps)
    network, kind = resolve_runtime(model, "compile", device="cpu", precision="fp32")
    assert kind == "compile"
    got = network.features(clip, model.taps)
    for tap in model.taps:
        assert test_fast.error(got[tap], want[tap]) < BOUND, tap
    assert torch.equal(network.features(clip, model.taps)["pool"], got["pool"])


@needs_compiler
@pytest.mark.slow
def test_bfloat16_an_extractor_and_another_process():
    model, clip = made("resnet3d")
    with torch.inference_mode():
        want = model.features(clip)["pool"]
    network = compiled(model, device="cpu")
    with arithmetic("cpu", "bf16", "compile"):
        got = network.features(clip)["pool"]
    assert got.dtype == torch.float32
    assert not torch.equal(got, want)
    assert torch.cosine_similarity(got, want).min() > 0.999
    sent = pickle.loads(pickle.dumps(network))  # compiles anew
    assert isinstance(sent, CompiledNetwork)
    assert sent._run is None


@needs_compiler
@pytest.mark.slow
def test_rows_of_a_video(tmp_path):
    model, _ = made("resnet3d")
    path = video(tmp_path / "a.mp4", frames=40)
    rows = [
        Extractor(model, device="cpu", runtime=kind, options=Options())(str(path))
        for kind in ("compile", "reference")
    ]
    a, b = (r.values for r in rows)
    assert a.shape == b.shape
    assert np.abs(a - b).max() / np.abs(b).max() < BOUND


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    with pytest.raises(UsageError, match=r"C\+\+ compiler.*a-compiler-that-is-not-there"):
        compiled(made("resnet3d")[0], device="cpu")
    with pytest.raises(UsageError, match="cpu and cuda, not on mps"):
        compiled(made("resnet3d")[0], device="mps")
