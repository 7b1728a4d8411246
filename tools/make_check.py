"""Write what `tubelet check` compares with, out of the reference's numbers.

    python -m tools.make_check

Takes one configuration per family from tests/data/conformance; a test holds the files to it.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tubelet.bench.check import FEATURE_STEP, NETWORKS, RELEASED

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "tubelet" / "bench"


def made() -> tuple[dict[str, NDArray[np.float32]], bytes]:
    """({"family/features", "family/output"}, the key lists as gzipped JSON)."""
    sys.path.append(str(ROOT / "tests"))
    from conformance import golden

    arrays: dict[str, NDArray[np.float32]] = {}
    keys: dict[str, dict[str, list[int]]] = {}
    for network in NETWORKS:
        if "@" in network.case:
            want = golden.arrays("sizes", network.case.replace("/", "__"))
        else:
            want = golden.expected(network.case)
        arrays[f"{network.family}/features"] = want["features"][0, ::FEATURE_STEP]
        arrays[f"{network.family}/output"] = want["output"][0]
        state_dict = golden.facts(network.case.partition("@")[0])["state_dict"]
        keys[network.family] = {key: shape for key, shape, _ in state_dict}
    released = golden.arrays("inception")
    arrays[f"{RELEASED.family}/features"] = released[f"{RELEASED.case}_features"][::FEATURE_STEP]
    logits = released[f"{RELEASED.case}_logits"].astype(np.float64)
    scores = np.exp(logits - logits.max())
    arrays[f"{RELEASED.family}/output"] = (scores / scores.sum()).astype(np.float32)
    text = json.dumps(keys, separators=(",", ":")).encode()
    return arrays, gzip.compress(text, 9, mtime=0)


def main() -> None:
    arrays, keys = made()
    np.savez_compressed(FOLDER / "check.npz", **arrays)  # type: ignore[arg-type]
    (FOLDER / "check.json.gz").write_bytes(keys)


if __name__ == "__main__":
    main()
