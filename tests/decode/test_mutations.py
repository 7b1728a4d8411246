"""A fixed sample of mutated containers; thousands of them: `make fuzz`."""

import importlib.util
from pathlib import Path


def test_mutated_containers(tmp_path):
    source = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", source)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    results = list(fuzz.run(240, seed=20, folder=tmp_path))
    bad = [result for result in results if result[2] in fuzz.BAD]
    assert not bad
    kinds = {kind for _, _, kind, _ in results}
    assert {"whole", "counted", "refused"} <= kinds
    # What is lost with the first or the last packets, and all its traces, cannot be counted.
    shorter = [result for result in results if result[2] == "shorter"]
    assert len(shorter) <= 6, shorter
