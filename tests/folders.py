"""Output folders for tests, made by the store itself."""

import hashlib
import json

import numpy as np

from tubelet.store.folder import open_folder
from tubelet.types import Features

RECIPE = {"model": "made up", "window": {"frames": 8}}


def features(n=5, shape=(4,), *, seed=0, source="none.mp4", start_s=0.0, step_s=0.5, logits=None):
    """n rows of random numbers, windows of 2 * step_s seconds."""
    values = np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)
    start = start_s + step_s * np.arange(n)
    return Features(
        values=values,
        start_s=start,
        end_s=start + 2 * step_s,
        center_s=start + step_s,
        provenance={
            "source": source,
            "fps": "30",
            "duration_s": start_s + step_s * (n + 1),
            "decoded_frames": 100,
            "padded": [0] * n,
            "first_last_frame": [[i, i] for i in range(n)],
            "warnings": [],
        },
        logits=None if logits is None else np.full((n, logits), seed, np.float32),
    )


def make_folder(path, videos, *, recipe=RECIPE, fmt="npy"):
    """videos: {id: Features}."""
    folder = open_folder(path, recipe=recipe, run={"device": "cpu"}, fmt=fmt, overwrite=False)
    for identity, rows in videos.items():
        folder.write(identity, rows)
    return path


def make_thousand(path, rows, *, recipe=RECIPE):
    """1,000 videos of so many rows; as the store does, without waiting for the disk each time."""
    make_folder(path, {"video 0000": features(rows)}, recipe=recipe)
    record = json.loads((path / "video 0000.json").read_bytes())
    for k in range(1, 1000):
        name = f"video {k:04d}"
        np.save(path / f"{name}.npy", features(rows, seed=k).values)
        digest = hashlib.sha256((path / f"{name}.npy").read_bytes()).hexdigest()
        facts = {"id": name, "sha256": digest, "files": {f"{name}.npy": digest}}
        (path / f"{name}.json").write_text(json.dumps({**record, **facts}))
    return path


def fail(path, *identities):
    """Record failures, as a run does."""
    lines = [json.dumps({"id": identity, "type": "NotAVideo"}) + "\n" for identity in identities]
    (path / "failures.jsonl").write_text("".join(lines))
