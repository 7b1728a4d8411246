"""What only motion tells: the same textures, moving left or right, learnt from flow in seconds."""

import numpy as np
import pytest
import torch
from torch import nn

import moving
from tubelet.flow.base import flow_config, unpack
from tubelet.flow.pool import FlowPool

SIDE, FRAMES, TRAIN, TEST = 40, 4, 32, 40
DIS = flow_config("dis:preset=ultrafast")


def clip(number):
    """RGB frames of a texture of its own, and its class: 0 moves left, 1 moves right."""
    rng = np.random.default_rng(number)
    label = number % 2
    speed = (2 * label - 1) * rng.uniform(0.8, 2.5)
    texture, (x, y) = moving.Texture(rng.integers(2**31)), moving.grid(SIDE, SIDE)
    start = rng.uniform(0, 500)
    greys = [texture(x + start - speed * t, y) for t in range(FRAMES)]
    return [np.repeat(g[..., None], 3, axis=2) for g in greys], label


def network(channels):
    """A small convolutional network over space and time."""
    return nn.Sequential(
        nn.Conv3d(channels, 8, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)), nn.ReLU(),
        nn.Conv3d(8, 16, 3, stride=(1, 2, 2), padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def accuracy(inputs, labels):
    """Of a network trained on the first TRAIN clips, on the others."""
    torch.manual_seed(0)
    model = network(inputs.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[:TRAIN]), labels[:TRAIN]).backward()
        optimiser.step()
    with torch.no_grad():
        return (model(inputs[TRAIN:]).argmax(1) == labels[TRAIN:]).float().mean().item()


@pytest.fixture(scope="module")
def clips():
    return [clip(number) for number in range(TRAIN + TEST)]


def test_flow_learns_what_single_frames_cannot(clips):
    labels = torch.tensor([label for _, label in clips])
    pool = FlowPool(DIS)
    fields = [np.stack([unpack(f, DIS) for f in pool.pairs(frames)]) for frames, _ in clips]
    pool.close()
    flow = torch.from_numpy(np.stack(fields)).permute(0, 4, 1, 2, 3)
    assert accuracy(flow, labels) >= 0.95
    middle = np.stack([frames[FRAMES // 2] for frames, _ in clips]).astype(np.float32) / 127.5 - 1
    still = torch.from_numpy(middle).permute(0, 3, 1, 2)[:, :, None]
    assert accuracy(still, labels) <= 0.7
