"""Small labelled videos, encoded once per session."""

import numpy as np
import pytest

from tubelet.decode.encode import encode


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """12 videos of 12 frames, 48 x 40, in two classes by brightness, and their list."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for i in range(12):
        rng = np.random.default_rng(i)
        label = i % 2
        base = rng.integers(0, 60, (40, 48, 3)) + 120 * label
        frames = [np.clip(base + 3 * t, 0, 255).astype(np.uint8) for t in range(12)]
        encode(frames, folder / f"v{i}.mp4")
        rows.append(f"v{i}.mp4 {label}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    (folder / "val.csv").write_text("\n".join(rows[:6]) + "\n")
    return folder
