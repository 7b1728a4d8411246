"""Every configuration and size of the reference, from its YAML and a .pyth file: all numbers.

What is computed and compared is `make conformance`'s. The large ones are slow tests.
"""

import pytest
from benchmarks import conformance

from . import golden

SMALL_GFLOPS = 20
SMALL_SIZES = {
    "ImageNet__MVITv2_T@1x288x288",
    "Kinetics__MVIT_B_16x4_CONV@8x160x160",
    "Kinetics__MVITv2_S_16x4@8x160x160",
    "Kinetics__SLOWFAST_8x8_R50_stepwise_multigrid@16x158x158",
    "Kinetics__X3D_M@20x224x260",
    "Kinetics__X3D_S@13x160x160",
}


def every():
    """(name, case of another size or None), marked slow where it takes long."""
    for name in golden.names():
        small = golden.facts(name)["gflops_one_clip"]["crop_test"] < SMALL_GFLOPS
        yield pytest.param(name, None, id=name, marks=[] if small else pytest.mark.slow)
    for size in golden.table("sizes")["cases"]:
        marks = [] if size["case"] in SMALL_SIZES else pytest.mark.slow
        yield pytest.param(size["name"], size["case"], id=size["case"], marks=marks)


def test_all_are_there():
    assert len(golden.names()) == 57
    sizes = {size["case"] for size in golden.table("sizes")["cases"]}
    assert len(sizes) == 14
    assert sizes > SMALL_SIZES


@pytest.mark.parametrize(("name", "size"), list(every()))
def test_numbers_of_the_reference(name, size):
    found = conformance.cases(golden, [name])
    case = next(c for c in found if (c.size and c.size["case"]) == size)
    row = conformance.run(case, golden, clips=1, runtime="reference")
    assert row["stages"] > 0
    assert conformance.passes(row, golden.TOLERANCE), row
