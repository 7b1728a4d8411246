"""Encoders against the numbers of independent implementations, through files as released.

`python -m tests.encoders.peers` wrote the numbers; the slow test computes them again where the
other implementations are installed.
"""

import pytest
import torch
from tests.encoders import numbers, peers
from tests.encoders.cases import CASES

from tubelet.models.fast import accelerate

QUICK = [name for name, case in CASES.items() if not case.full]
FULL = [name for name, case in CASES.items() if case.full]
FAST = ("torchvision_video", "tsp", "mmaction2_csn", "mmaction2_r2plus1d", "milnce")
"""Peers of families that have a fast path."""


def check(name, tmp_path):
    case = CASES[name]
    keys, want = numbers.read(name)
    file = numbers.file_of(case, keys, tmp_path)
    model = numbers.network(case, file)
    got = numbers.outputs(model, case, want)
    errors = numbers.errors(got, want)
    assert max(errors.values()) < numbers.TOLERANCE, errors
    if case.peer in FAST:
        fast = accelerate(model)
        assert fast is not model
        errors = numbers.errors(numbers.outputs(fast, case, want), want)
        assert max(errors.values()) < 2 * numbers.TOLERANCE, errors


@pytest.mark.parametrize("name", QUICK)
def test_numbers(name, tmp_path):
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_numbers_of_released_size(name, tmp_path):
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_others_give_these_numbers(name):
    try:
        keys, found = peers.compute(CASES[name], torch.float64)
    except ImportError as missing:
        pytest.skip(f"{missing.name} is not installed")
    stored, want = numbers.read(name)
    assert keys == stored
    got = {tap: numbers.compact(tap, value.numpy()) for tap, value in found.items()}
    errors = numbers.errors(got, want)
    assert max(errors.values()) < 1e-6, errors
