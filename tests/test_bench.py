"""What the benchmarks measure with."""

import os
import signal
import xml.etree.ElementTree as ET

import pytest
import torch

from tubelet.bench import ceilings
from tubelet.bench.bars import bars_svg
from tubelet.bench.ceilings import copy_gb_s, product, product_gflops
from tubelet.bench.cost import operations
from tubelet.bench.measure import network
from tubelet.bench.rounds import Spread, Timed, interleaved, speedup
from tubelet.models import x3d
from tubelet.models.fast import fused


def sum_of(power):
    if power < 0:
        raise ValueError("no such power")
    return lambda size: sum(i**power for i in range(1000 * size))


def test_a_subject_runs_in_a_patient_process_of_its_own():
    before = dict(os.environ)
    subject = Timed(sum_of, 3, keeps_memory=True)
    try:
        times = interleaved(
            {"small": lambda: subject.run(1), "large": lambda: subject.run(99)}, rounds=3
        )
    finally:
        subject.close()
    assert dict(os.environ) == before
    assert len(times["small"]) == len(times["large"]) == 3
    assert min(min(t) for t in times.values()) > 0
    assert 5 < subject.peak_mb < 5000


def test_what_fails_in_a_subject_is_raised_here():
    with pytest.raises(RuntimeError, match="ValueError: no such power"):
        Timed(sum_of, -1, keeps_memory=False)


def endless(power):
    return lambda size: sum(iter(int, 1))


def test_a_subject_in_the_middle_of_its_work_is_left_alone_by_ctrl_c_and_ended_by_close():
    subject = Timed(endless, 1, keeps_memory=False)
    subject._pipe.send(1)
    assert subject._process.pid is not None
    os.kill(subject._process.pid, signal.SIGINT)
    subject._process.join(0.2)
    assert subject._process.is_alive()
    subject.close()
    assert not subject._process.is_alive()


def test_subjects_take_turns():
    order = []
    interleaved({k: lambda k=k: order.append(k) or 1.0 for k in "ab"}, rounds=2, warmups=1)
    assert "".join(order) == "abab" + "ab"


def test_ratios_are_those_within_rounds():
    # The second round was disturbed: both took ten times as long.
    assert speedup([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == Spread(2.0, 2.0, 2.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]).plain() == [3.0, 2.0, 4.0]


def test_rates_count_two_operations_per_multiply_add():
    assert product_gflops(2.0, 3) == pytest.approx(3 * 2 * 2048**3 / 2 / 1e9)
    assert copy_gb_s(0.5, 2) == pytest.approx(2.0)
    product("fp32", True)(1)


def test_a_cpu_that_lays_nothing_out_has_its_plain_product(monkeypatch):
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(fused, "runs", lambda device, dtype: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", None)  # as where it is missing
    product("bf16", True)(1)


def test_operations_are_counted_on_shapes():
    config = x3d.VARIANTS["x3d_xs"]
    seen = []

    def build():
        seen.append(x3d.build(config))
        return seen[-1]

    assert operations(build, (1, 3, 4, 160, 160)) == pytest.approx(1.2e9, rel=0.02)  # table 4
    assert next(seen[0].parameters()).device == torch.device("meta")


def test_bars_are_a_picture_with_every_number():
    svg = bars_svg({"a<b": {"x": 10.0, "y": 5.0}}, title="t", unit=" %", marks=[(8, "goal")])
    texts = [e.text for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]
    assert {"a<b", "10 %", "5 %", "goal", "x", "y"} <= set(texts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_is_timed_as_extraction_runs_it(precision):
    run = network("x3d_xs.k400_ptv", precision)
    run(1)
