"""Read tests/data/conformance (its README tells what is there). numpy only.

for name in golden.names():
    facts = golden.facts(name)
    weights = golden.weights(name)          # {key: array}, seed 0
    paths = golden.inputs(name)             # [slow, fast] or [clip]
    want = golden.expected(name)            # {array name: array}
    got = run_my_model(facts, weights, paths)
    for key in ("logits", "output", "features"):
        assert golden.error(got[key], want[key]) < golden.TOLERANCE
"""

import json
import lzma
from functools import cache
from pathlib import Path

import numpy as np

from . import fill

DATA = Path(__file__).parents[1] / "data" / "conformance"

# Largest acceptable `error` between float32 implementations on a CPU, or on a GPU with
# reduced-precision matrix products (TF32) switched off.
TOLERANCE = 1e-4


@cache
def _text(file):
    return lzma.decompress((DATA / file).read_bytes()).decode()


@cache
def _lines():
    """{name: its facts as JSON}: parsed again by every caller, who may change what it gets."""
    lines = _text("models.jsonl.xz").splitlines()
    return {json.loads(line)["name"]: line for line in lines}


def table(kind):
    """The facts of a kind: "sizes", "preprocess", "inflate", "multigrid", "reversible",
    "inception", "layouts" or "checkpoints"."""
    return json.loads(_text(f"{kind}.json.xz"))


def arrays(kind, case=None):
    """{array name: array} of a kind; of "models" and "sizes" those of one case."""
    start = "" if case is None else f"{case}|"
    with np.load(DATA / f"{kind}.npz") as data:
        found = [key for key in data.files if key.startswith(start)]
        return {key.removeprefix(start): data[key] for key in found}


def names():
    """All configurations that have golden numbers, such as "Kinetics/X3D_S"."""
    return sorted(_lines())


def facts(name):
    """The facts of one configuration."""
    return json.loads(_lines()[name])


def expected(name):
    """The golden arrays of one configuration, all float32."""
    return arrays("models", name)


def weights(name, seed=0):
    """The filled state dict of one configuration."""
    known = facts(name)
    filled = fill.fill(known["state_dict"], seed)
    if seed == known["golden"]["seed"]:
        assert fill.digest(filled) == known["golden"]["weights_digest"]
    return filled


def split_pathways(clips, slow_indices):
    """[slow, fast] for two-pathway models, [clips] otherwise."""
    if slow_indices is None:
        return [clips]
    return [np.ascontiguousarray(clips[:, :, slow_indices]), clips]


def inputs(name, seed=0, clips=None):
    """Model inputs; `clips` limits the batch (clip i does not depend on it)."""
    known = facts(name)
    shape = list(known["golden"]["input_shape"])
    shape[0] = min(clips or shape[0], shape[0])
    batch = fill.make_input(seed, shape)
    return split_pathways(batch, known["input"].get("slow_indices"))


def error(got, want):
    """Largest difference, relative to the largest magnitude in `want`."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        raise ValueError(f"shape {got.shape}, expected {want.shape}")
    if not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def summarise(value):
    """What a "stage/..." array holds, for a stage output of clip 0 (batch of one).

    35 numbers: mean, standard deviation, mean magnitude, the first 16 values of the flattened
    output, and 16 values at multiples of size // 16.
    """
    flat = np.asarray(value, np.float64).reshape(-1)
    step = max(flat.size // 16, 1)
    moments = [flat.mean(), flat.std(), np.abs(flat).mean()]
    return np.concatenate([moments, flat[:16], flat[::step][:16]])
