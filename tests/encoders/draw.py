"""Weights and clips drawn from a seed, bit by bit the same everywhere (tubelet.bench.filled).

Its rules know the names of other families. Here every tensor gets numbers by its rank and
the end of its name, none of them zero: a lost bias, norm, LayerScale or embedding is then seen.
"""

import math

import numpy as np
import torch

from tubelet.bench.filled import make_input, normal, uniform


def tensor(key, shape, *, seed=0):
    """One tensor [shape] of a checkpoint, float32."""
    shape = tuple(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        value = 0.5 + uniform(seed, key, shape)
    elif last == "gamma" or (last == "weight" and len(shape) == 1):
        value = 0.8 + 0.4 * uniform(seed, key, shape)  # norms and LayerScale
    elif len(shape) == 1:
        value = 0.3 * normal(seed, key, shape)  # biases, large enough to matter
    elif last.endswith(("embed", "token", "tokens")):
        value = 0.5 * normal(seed, key, shape)
    else:
        value = normal(seed, key, shape) / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def tensors(shapes, *, seed=0):
    """{key: shape} to {key: tensor}."""
    return {key: tensor(key, shape, seed=seed) for key, shape in shapes.items()}


def fill(network, *, seed=0):
    """Give every weight of a network its drawn number, by its own names; the network."""
    state = {key: tensor(key, v.shape, seed=seed) for key, v in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


def clips(shape, *, seed=0):
    """[B, 3, T, H, W], of unit order."""
    return torch.from_numpy(make_input(seed, shape))
