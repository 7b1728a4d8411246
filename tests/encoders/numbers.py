"""Read, write and compare the golden numbers of the encoders. numpy and torch only.

NAME.npz    "keys": JSON, [name, shape, type] of every tensor of the other implementation's state
            dict, in the released layout; then one array per tap: `golden.summarise` of a stage
            (35 numbers) as float32, "pool" and "logits" in full.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from tests.conformance import fill, golden

from tubelet.models import registry, zoo
from tubelet.models.registry import changed
from tubelet.models.weights.load import load_into

DATA = Path(__file__).parents[1] / "data" / "encoders"
TOLERANCE = 1e-5
"""Largest difference over largest magnitude, between two implementations in float32."""

TOKENS = ("cls_token", "time_embed", "position_embeddings", "query", "scale", "table", "gamma")


OFFSET_NORM = re.compile(
    r"((spatial|temporal|auxiliary)_layers\.\d+\.|^|vision_model\.|head_)layernorm(_\w+|1|2)?\.weight$"
)
"""VideoPrism's, which multiply by one more than their weight."""


def tensor(key, shape, dtype):
    """As `fill.fill_tensor`; names that it does not know are tokens and tables of positions."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    last = key.rsplit(".", 1)[-1]
    if last == "weight" and OFFSET_NORM.search(key):
        return fill.fill_tensor(0, key, shape, dtype) - np.float32(1)
    if last in ("weight", "bias", "running_mean", "running_var"):
        return (fill.fill_tensor(0, key, shape, dtype) * damping(key)).astype(dtype)
    return (0.1 * fill.normal(0, key, shape)).astype(dtype)


def damping(key):
    """Of the last convolution of a deep residual branch, so that rounding does not grow with it."""
    return 0.5 if re.search(r"(conv3\.(conv|0)|branch2\.conv_c)\.weight$", key) else 1.0


def weights(keys):
    return {key: torch.from_numpy(np.asarray(tensor(key, tuple(shape), dtype)))
            for key, shape, dtype in keys}  # fmt: skip


def clip(shape):
    return torch.from_numpy(fill.make_input(0, shape))


def path(name):
    return DATA / f"{name}.npz"


def write(name, keys, arrays):
    """arrays: {tap: tensor of the first clip}."""
    text = np.frombuffer(json.dumps(keys, separators=(",", ":")).encode(), np.uint8)
    kept = {tap: compact(tap, np.asarray(value, np.float64)) for tap, value in arrays.items()}
    np.savez_compressed(path(name), keys=text, **kept)


def compact(tap, value):
    return (value if tap in ("pool", "logits") else golden.summarise(value)).astype(np.float32)


def read(name):
    """(keys, {tap: numbers})"""
    with np.load(path(name)) as data:
        found = {key: data[key] for key in data.files}
    return json.loads(found.pop("keys").tobytes()), found


def file_of(case, keys, folder):
    """A checkpoint file as it is released, with the drawn weights."""
    state = weights(keys)
    target = folder / "weights.pth"
    torch.save({case.wrapper: state} if case.wrapper else state, target)
    return target


def network(case, file):
    """Our network with the weights of that file."""
    arch, entry = zoo.arch_for(case.model)
    family, config = registry.config_of(arch, entry)
    for place, value in case.changes.items():
        config = changed(config, place.split("."), value)
    model = family.build(config).eval()
    load_into(model, file)
    return model


def outputs(model, case, taps):
    """{tap: our numbers of the drawn clip}"""
    named = [tap for tap in taps if tap != "logits"]
    with torch.inference_mode():
        found = dict(model.features(clip(case.shape), named))
        if "logits" in taps:
            found["logits"] = model(clip(case.shape))
    return {tap: compact(tap, value.double().numpy()) for tap, value in found.items()}


def errors(got, want):
    return {tap: golden.error(got[tap], want[tap]) for tap in want}
