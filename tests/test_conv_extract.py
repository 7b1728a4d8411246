"""Extraction and classification of a real clip with each convolutional family, from files."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import tubelet
from real import bikes
from tubelet.cli import group
from tubelet.clips.transform import reference_view, view_config
from tubelet.models.registry import create_model
from tubelet.models.weights.layouts.pyslowfast import pyslowfast_name

SMALL = {"NUM_FRAMES": 8, "SAMPLING_RATE": 3, "TRAIN_CROP_SIZE": 64, "TEST_CROP_SIZE": 64}
RESNET = {"WIDTH_PER_GROUP": 16, "DEPTH": 18, "NUM_BLOCK_TEMP_KERNEL": [[2]] * 4}
FILES = {
    "i3d": {
        "MODEL": {"MODEL_NAME": "ResNet", "ARCH": "i3d", "NUM_CLASSES": 5},
        "DATA": SMALL,
        "RESNET": RESNET,
    },
    "slowfast": {
        "MODEL": {"MODEL_NAME": "SlowFast", "ARCH": "slowfast", "NUM_CLASSES": 5},
        "DATA": SMALL,
        "RESNET": {**RESNET, "NUM_BLOCK_TEMP_KERNEL": [[2, 2]] * 4},
        "SLOWFAST": {"ALPHA": 4},
    },
    "x3d": {
        "MODEL": {"MODEL_NAME": "X3D", "ARCH": "x3d", "NUM_CLASSES": 5},
        "DATA": {**SMALL, "TRAIN_JITTER_SCALES": [64, 80]},
        "RESNET": {"TRANS_FUNC": "x3d_transform"},
        "X3D": {"DIM_C5": 64},
    },
}


@pytest.fixture(params=FILES)
def files(request, tmp_path):
    """(configuration, weights, the network they make)."""
    config = tmp_path / f"{request.param}.yaml"
    config.write_text(yaml.safe_dump(FILES[request.param]))
    torch.manual_seed(0)
    model = create_model(str(config), weights=None)
    state = {pyslowfast_name(key): value for key, value in model.state_dict().items()}
    torch.save({"model_state": state}, tmp_path / "weights.pyth")
    return config, tmp_path / "weights.pyth", model


@pytest.fixture
def video(tmp_path):
    """A list with a part of a real clip: three whole windows (8 frames, every third) and a rest."""
    path = tmp_path / "list.jsonl"
    row = {"path": str(bikes()), "id": "clip", "start": 0, "end": 2.9}
    path.write_text(json.dumps(row))
    return path


@pytest.fixture(scope="module")
def first_frames():
    """[72, H, W, 3]"""
    with tubelet.open_video(str(bikes())) as reader:
        return np.stack([frame.rgb() for frame in islice(reader.frames(), 72)])


def test_rows_of_the_command_line_equal_the_network_by_hand(files, video, first_frames, tmp_path):
    config, weights, model = files
    stage = "res3_fast" if "res3_fast" in model.taps else "res3"
    for keep in ("clip", "time", "space-time"):
        run = CliRunner().invoke(group, [
            "extract", str(video), "-o", str(tmp_path / keep), "-m", str(config), "--weights",
            str(weights), "--taps", f"pool,{stage}", "--logits", "--keep", keep,
        ])  # fmt: skip
        assert run.exit_code == 0, run.output
    rows = {k: np.load(tmp_path / k / "clip.npy") for k in ("clip", "time", "space-time")}
    maps = np.load(tmp_path / "space-time" / "taps" / stage / "clip.npy")
    logits = np.load(tmp_path / "clip" / "logits" / "clip.npy")
    close = {"rtol": 1e-4, "atol": 1e-5}
    for row in range(3):
        pixels = first_frames[24 * row : 24 * row + 24 : 3]
        clip = reference_view(pixels, view_config(model.clip))[None]
        with torch.inference_mode():
            want = model.features(clip, ("grid", "pool", stage))
            np.testing.assert_allclose(logits[row], model(clip)[0], **close)
        grid = want["grid"][0].movedim(0, -1)
        np.testing.assert_allclose(rows["clip"][row], want["pool"][0], **close)
        np.testing.assert_allclose(rows["space-time"][row], grid, **close)
        np.testing.assert_allclose(rows["time"][row], grid.mean(dim=(1, 2)), **close)
        np.testing.assert_allclose(maps[row], want[stage][0].movedim(0, -1), **close)


def test_classes_of_a_real_clip(files, video):
    config, weights, _ = files
    given = ["classify", str(video), "-m", str(config), "--weights", str(weights), "--json"]
    run = CliRunner().invoke(group, given)
    assert run.exit_code == 0, run.output
    assert "class" in run.output
