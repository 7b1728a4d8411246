"""Weights and clips of the reference's numbers: the recipe of `tubelet check`, and its frames."""

import numpy as np

from tubelet.bench.filled import digest, fill, fill_tensor, make_input, normal, raw

__all__ = ["digest", "fill", "fill_tensor", "make_frames", "make_input", "normal"]


def make_frames(seed, shape):
    """Decoded-looking uint8 frames (T, H, W, C) for the preprocessing data."""
    frames, height, width, channels = (int(n) for n in shape)
    t = np.arange(frames, dtype=np.int64)[:, None, None, None]
    y = np.arange(height, dtype=np.int64)[None, :, None, None]
    x = np.arange(width, dtype=np.int64)[None, None, :, None]
    c = np.arange(channels, dtype=np.int64)[None, None, None, :]
    ramp = (x * (1 + c) + y * (3 - c) + t * 5) // 4
    tiles = ((x // 16 + y // 12 + t // 3 + c) % 5) * 23
    noise = (raw(seed, "frames", frames * height * width * channels) >> np.uint64(58)).astype(
        np.int64
    )
    return ((ramp + tiles + noise.reshape(shape)) % 256).astype(np.uint8)
