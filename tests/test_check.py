"""`tubelet check`: its numbers are the reference's; what is sound passes, what is not is off."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.conformance import FAMILIES
from click.testing import CliRunner
from tools.make_check import FOLDER, made

from tubelet.bench import check
from tubelet.bench.check import NETWORKS, HowRun, check_released, compare
from tubelet.bench.filled import make_input
from tubelet.cli import group
from tubelet.cli.check import table
from tubelet.models import zoo
from tubelet.models.registry import create_model
from tubelet.models.weights.fetch import weights_cache

X3D = next(network for network in NETWORKS if network.family == "x3d")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_packaged_numbers_are_the_references():
    """Otherwise: python -m tools.make_check."""
    arrays, keys = made()
    packed = check.numbers()
    assert packed.keys() == arrays.keys()
    assert all(np.array_equal(packed[name], arrays[name]) for name in arrays)
    stored = (FOLDER / "check.json.gz").read_bytes()
    assert gzip.decompress(stored) == gzip.decompress(keys)  # zlib may pack otherwise elsewhere


def test_every_family_is_checked():
    assert {network.family for network in NETWORKS} == set(FAMILIES)


def test_damaged_weights_are_off_and_all_else_is_ok(cache):
    """The command, every network; the default model's cached file has other bytes than it had."""
    place = weights_cache.slot(zoo.entry_for(zoo.DEFAULT_MODEL).id)
    place.folder.mkdir(parents=True)
    place.weights.write_bytes(b"damaged")
    place.store(weights_cache.Record(place.id, "", "", "", "0" * 64))
    run = CliRunner().invoke(group, ["check", "--offline", "--json"], standalone_mode=False)
    result = json.loads(run.stdout)
    assert run.return_value == 1
    assert not result["ok"]
    *sound, off = result["findings"]
    assert [found["verdict"] for found in sound] == ["ok"] * 6
    assert all(found["error"] < found["bound"] / 5 for found in sound)
    assert (off["check"], off["verdict"]) == ("i3d", "off")
    assert "damaged, its sha256 is" in off["note"]
    facts = result["installation"]
    assert facts["decoder"]["missing"] == []
    assert {"tubelet", "python", "torch", "numpy", "cpu", "threads"} <= facts.keys()
    text = table(result)
    assert "6 of 7 ok" in text
    assert "off: i3d; report it" in text


def test_the_default_weights():
    found = check_released(HowRun("cpu"), fetch=True)
    assert found.verdict == "ok", found
    assert found.error is not None
    assert found.error < 2e-5


def test_weights_that_are_not_there_are_told_and_not_off(cache):
    found = check_released(HowRun("cpu"), fetch=False)
    assert found.verdict == "not checked"
    assert "--offline" in found.note
    assert not Path(cache, "weights").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_weights_are_off(precision):
    clip = make_input(0, X3D.shape)
    found = compare(
        X3D, create_model("x3d_xs", weights=None), clip, HowRun("cpu", "fast", precision)
    )
    assert found.verdict == "off"


def test_a_wrong_number_is_off_whatever_it_is():
    assert check.verdict(float("nan"), 1e-4) == "off"
    assert check.verdict(1e-4, 1e-4) == "ok"


def test_an_unknown_device_is_refused():
    run = CliRunner().invoke(group, ["check", "--device", "tpu"])
    assert "device 'tpu' is not available" in str(run.exception)
