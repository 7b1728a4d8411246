"""`tubelet models` and `tubelet convert`."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import tubelet
from tubelet.cli import convert, models
from tubelet.errors import UnknownName, UsageError, WeightsError
from tubelet.models import identify, x3d, zoo
from tubelet.models.weights.fetch import released as fetch
from tubelet.models.weights.layouts import pyslowfast
from tubelet.models.weights.load import save


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))


def run(command, *arguments):
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_models_lists_without_torch():
    code = (
        "import sys; sys.argv = ['tubelet', 'models', 'x3d*']; import tubelet.cli as c\n"
        "try: c.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    assert lines[-1] == "False"
    assert lines[0].split()[:3] == ["id", "family", "TxK"]
    assert any(line.startswith("x3d_m.k400 ") and "16x5" in line for line in lines)


def test_models_as_json():
    records = json.loads(run(models.command, "slowfast_r50_8x8.k400", "--json").stdout)
    (record,) = records
    assert record["clip"]["alpha"] == 4
    assert record["facts"]["top1"] == 77.0
    assert record["weights"] == "downloadable"
    every = json.loads(run(models.command, "--json").stdout)
    assert [record["id"] for record in every] == tubelet.list_models()


@pytest.mark.parametrize("pattern", ["slowfast_r50_8x8_k400", "*.k400_jax", "rev_mvit"])
def test_patterns_aliases_and_plain_words(pattern):
    assert models.matching(pattern)


def test_unknown_and_not_runnable():
    with pytest.raises(UnknownName, match="did you mean"):
        models.matching("slowfost")
    with pytest.raises(UnknownName, match="TorchScript"):
        models.matching("x3d_xs_int8_k400_ptv")


def test_status_of_weights():
    states = {name: fetch.status(entry) for name, entry in zoo.table().entries.items()}
    assert states["mvit_v1_b_16x4.k400"] == "dead"
    assert states["i3d_inception_rgb.k400_tfhub"] == "bring your own"
    assert states["i3d_inception_rgb_scratch.k400_jax"] == "downloadable"


def test_verify_reports_failures_and_goes_on(monkeypatch):
    monkeypatch.setattr(fetch.pypi.importlib.util, "find_spec", lambda name: None)
    result = run(models.command, "i3d_inception*k400_[jt]*", "--verify", "--json")
    if result.return_value == 0:
        pytest.fail("nothing could be fetched, but verify says all is well")
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert {v["ok"] for v in verdicts} == {False}
    assert all("--weights FILE" in v["error"] for v in verdicts)


@pytest.fixture(scope="module")
def pyth(tmp_path_factory):
    """An X3D-S checkpoint in PySlowFast's layout, with what training leaves beside the weights."""
    torch.manual_seed(0)
    model = x3d.build(x3d.VARIANTS["x3d_s"])
    names = {ours: theirs for theirs, ours in pyslowfast.pyslowfast_names(model).items()}
    state = {names[key]: value for key, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("pyth") / "x3d_s.pyth"
    torch.save({"epoch": 1, "model_state": state, "cfg": "MODEL: {}\n"}, path)
    return path, model.state_dict()


def test_convert_and_load_is_bit_equal(pyth, tmp_path):
    path, state = pyth
    target = tmp_path / "x.safetensors"
    out = run(convert.command, str(path), "-o", str(target)).stdout
    assert "x3d_" in out
    model = tubelet.create_model("x3d_s", weights=target)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    direct = tubelet.create_model("x3d_s", weights=path)
    assert model.weights_sha256 == direct.weights_sha256
    assert (model.weights_layout, model.weights_source) == ("pyslowfast", "x3d_s.pyth")
    again = tmp_path / "again.safetensors"
    run(convert.command, str(target), "-o", str(again), "-m", "x3d_s")
    assert tubelet.create_model("x3d_s", weights=again).weights_sha256 == model.weights_sha256
    with pytest.raises(UsageError, match="--overwrite"):
        run(convert.command, str(path), "-o", str(target))
    with pytest.raises(UsageError, match=r"\.safetensors"):
        run(convert.command, str(path), "-o", str(tmp_path / "x.pt"))
    with pytest.raises(WeightsError, match="no folder"):
        run(convert.command, str(path), "-o", str(tmp_path / "absent" / "x.safetensors"))


def test_a_checkpoint_of_no_network_is_refused(tmp_path):
    torch.save({"s1.pathway0_stem.conv.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="--model"):
        identify.identify(tmp_path / "x.pth")


def test_identify_by_content_not_by_classes(tmp_path):
    model = tubelet.create_model("mvit_v2_t", weights=None)
    save(model, tmp_path / "x.safetensors", metadata={})
    assert identify.identify(tmp_path / "x.safetensors") == "mvit_v2_t"
