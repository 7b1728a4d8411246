"""Weights and clips that anybody can make again, from (seed, key, shape) alone.

The reference's numbers (`tests/data/conformance`, and the few of `tubelet check`) were computed
with weights that are not trained: every tensor of a state dict comes from a seed, the tensor's key
and its shape. Whoever uses the same keys and shapes has the same bits, on every platform and with
every version of numpy:

* the random bits come from the Philox-4x64 counter generator, whose raw stream numpy guarantees to
  be stable; its 128-bit key is the first half of ``sha256("<seed>:<key>")``, read as two
  little-endian 64-bit words;
* a normal deviate is the sum of the four 16-bit quarters of a 64-bit word, centred and scaled:
  integers, then IEEE divisions and products, so nothing depends on a math library. (This is the
  Irwin-Hall(4) distribution: mean 0, variance 1, |z| < 3.47.)

What each kind of tensor gets (``n`` is a normal deviate, ``u`` is uniform on [0, 1)); the last part
of the key and the rank decide:

=====================================  ======================================
``num_batches_tracked``                0
``running_mean``                       0.1 n
``running_var``                        0.5 + u
``rel_pos*``, ``pos_embed*``,
``cls_token``                          0.1 n
``bias``                               0.05 n
``weight``, rank 1 (any norm layer)    0.8 + 0.4 u
``weight``, rank >= 2                  gain * n / sqrt(fan_in), where
                                       fan_in = product(shape[1:])
=====================================  ======================================

In weights of rank >= 2 with at least 8 input channels every output row is shifted to sum to zero:
rectified activations have a large common mean, which would grow from layer to layer until all
clips had nearly the same features. The gains keep activations of order one through a hundred
layers while every residual branch still contributes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Standard deviation of the sum of four independent uniform 16-bit integers is
# sqrt((2**32 - 1) / 3) = 37837.2...; the rounded constant is the definition.
_NORMAL_CENTRE = 131070
_NORMAL_SCALE = 37837.0

Shape = Sequence[int]


def raw(seed: int, key: str, count: int) -> NDArray[np.uint64]:
    """`count` raw 64-bit words of the stream that belongs to (seed, key)."""
    words = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    philox_key = np.frombuffer(words[:16], dtype="<u8").astype(np.uint64)
    return np.random.Philox(key=philox_key).random_raw(count)


def _normal_integers(seed: int, key: str, count: int) -> NDArray[np.int64]:
    """`count` centred deviates with standard deviation _NORMAL_SCALE."""
    quarters = raw(seed, key, count).astype("<u8").view("<u2")
    total = quarters.reshape(count, 4).sum(axis=1, dtype=np.int64)
    return total - _NORMAL_CENTRE


def normal(seed: int, key: str, shape: Shape) -> NDArray[np.float64]:
    """Normal deviates, one raw word each."""
    return (_normal_integers(seed, key, math.prod(shape)) / _NORMAL_SCALE).reshape(shape)


def centred_rows(seed: int, key: str, shape: Shape) -> NDArray[np.float64]:
    """Like `normal`, with every row (over shape[1:]) shifted to sum to zero.

    The shift is exact: it happens in integers, before the only rounding.
    """
    fan_in = math.prod(shape[1:])
    rows = _normal_integers(seed, key, math.prod(shape)).reshape(shape[0], fan_in)
    rows = rows * fan_in - rows.sum(axis=1, dtype=np.int64, keepdims=True)
    return (rows / (_NORMAL_SCALE * fan_in)).reshape(shape)


def uniform(seed: int, key: str, shape: Shape) -> NDArray[np.float64]:
    """Uniform deviates on [0, 1) with 32 bits of resolution."""
    top = raw(seed, key, math.prod(shape)) >> np.uint64(32)
    return (top.astype(np.float64) / 4294967296.0).reshape(shape)


def gain(key: str) -> float:
    """Scale of a convolution or linear weight, from its key alone.

    1.2 unless said otherwise. The last convolution of a residual branch is smaller, so that deep
    trunks do not grow too much; the two embeddings and the output of a non-local block are smaller
    because its dot-product form is cubic in its input; squeeze-excitation layers are larger so that
    their sigmoid leaves 1/2; the classifier is larger so that class scores differ.
    """
    if key.endswith(("conv_theta.weight", "conv_phi.weight")):
        return 0.3
    if key.endswith("conv_out.weight"):
        return 0.2
    if key.endswith("branch2.c.weight"):
        return 0.9
    if ".se.fc" in key:
        return 3.0
    if key == "head.projection.weight":
        return 2.0
    return 1.2


def fill_tensor(seed: int, key: str, shape: Shape, dtype: str = "float32") -> NDArray[Any]:
    """The array of one entry of a state dict. KeyError where no rule knows its key."""
    shape = tuple(int(s) for s in shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, dtype=dtype)
    if last == "running_mean":
        value = 0.1 * normal(seed, key, shape)
    elif last == "running_var":
        value = 0.5 + uniform(seed, key, shape)
    elif last.startswith(("rel_pos", "pos_embed")) or last == "cls_token":
        value = 0.1 * normal(seed, key, shape)
    elif last == "bias":
        value = 0.05 * normal(seed, key, shape)
    elif last == "weight" and len(shape) == 1:
        value = 0.8 + 0.4 * uniform(seed, key, shape)
    elif last == "weight" and len(shape) >= 2:
        draw = centred_rows if shape[1] >= 8 else normal
        value = draw(seed, key, shape) * (gain(key) / math.sqrt(math.prod(shape[1:])))
    else:
        raise KeyError(f"no rule for {key!r} with shape {shape}")
    return np.asarray(value).astype(dtype)


def fill(spec: Iterable[Sequence[Any]], seed: int = 0) -> dict[str, NDArray[Any]]:
    """A whole state dict, {key: array}, from (key, shape, dtype) entries, in their order."""
    return {entry[0]: fill_tensor(seed, entry[0], entry[1], entry[2]) for entry in spec}


def digest(weights: Mapping[str, NDArray[Any]]) -> str:
    """sha256 over keys, shapes, dtypes and bytes, in sorted key order.

    Compare it before blaming a network for a mismatch that is merely due to different weights.
    """
    h = hashlib.sha256()
    for key in sorted(weights):
        value = np.asarray(weights[key])
        h.update(f"{key}|{list(value.shape)}|{value.dtype.name}|".encode())
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        h.update(np.ascontiguousarray(little).tobytes())
    return h.hexdigest()


def _blocks(seed: int, key: str, channels: int, grid: Shape, size: Shape) -> NDArray[np.float64]:
    """A coarse random grid, enlarged to `size` by repeating cells."""
    cells = normal(seed, key, (channels, *grid))
    for axis, (g, n) in enumerate(zip(grid, size, strict=True), start=1):
        cells = np.take(cells, np.arange(n) * g // n, axis=axis)
    return cells


def make_clip(seed: int, index: int, shape: Shape) -> NDArray[np.float32]:
    """One clip (C, T, H, W), or image (C, H, W), of unit-order values, as after normalisation.

    The sum of a coarse pattern, a finer pattern, pixel noise and a colour cast, times a contrast
    that depends on `index`: noise alone would average out in a global pool and leave all clips
    with nearly the same features.
    """
    channels, size = int(shape[0]), tuple(int(n) for n in shape[1:])
    name = f"input:{index}"
    coarse = tuple(min(n, 4) for n in size)
    time_axes = len(size) - 2
    fine = tuple(
        max(n // 2, 1) if axis < time_axes else max(n // 8, 1) for axis, n in enumerate(size)
    )
    clip = 0.6 * _blocks(seed, f"{name}:coarse", channels, coarse, size)
    clip = clip + 0.6 * _blocks(seed, f"{name}:fine", channels, fine, size)
    clip = clip + 0.4 * normal(seed, f"{name}:noise", (channels, *size))
    cast = 0.5 * normal(seed, f"{name}:cast", (channels,))
    clip = clip + cast.reshape((channels,) + (1,) * len(size))
    contrast = 0.6 + 0.8 * uniform(seed, f"{name}:contrast", (1,))[0]
    return (clip * contrast).astype(np.float32)


def make_input(seed: int, shape: Shape) -> NDArray[np.float32]:
    """A batch (N, C, T, H, W) or (N, C, H, W) of different clips.

    Clip i depends on (seed, i) and the clip's own shape only, so a batch of one is the first
    element of a larger batch.
    """
    return np.stack([make_clip(seed, i, shape[1:]) for i in range(shape[0])])
