"""Batch norm over parts and over devices."""

import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from tubelet.train.multigrid import BatchStatistics
from tubelet.train.norm import (
    TrainNorm,
    merge_norms,
    not_recording,
    precise,
    prepare_norms,
    set_norm,
    weights_of,
)


def fresh(channels=3, seed=0):
    torch.manual_seed(seed)
    norm = nn.BatchNorm3d(channels)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
    return norm


def test_parts_equal_the_reference(golden):
    arrays = golden.arrays("multigrid")
    want = {k.removeprefix("subbn/"): torch.from_numpy(value) for k, value in arrays.items()}
    source = nn.BatchNorm3d(3)
    with torch.no_grad():
        source.weight.copy_(want["weight"])
        source.bias.copy_(want["bias"])
    norm = TrainNorm(source)
    norm.configure(BatchStatistics("sub", 4))
    first = norm(want["input"])
    second = norm(want["input"])
    if not torch.allclose(second, want["train_output_1"], atol=1e-5):
        pytest.fail("the second pass differs")
    assert torch.allclose(first, want["train_output_0"], atol=1e-5)
    norm.merge()
    assert torch.allclose(norm.split_mean, want["split_running_mean"], atol=1e-6)
    assert torch.allclose(norm.split_var, want["split_running_var"], atol=1e-6)
    assert torch.allclose(norm.running_mean, want["running_mean"], atol=1e-6)
    assert torch.allclose(norm.running_var, want["running_var"], atol=1e-6)
    assert torch.allclose(norm.eval()(want["input"]), want["eval_output"], atol=1e-5)


@pytest.mark.parametrize(
    "norm", [BatchStatistics(), BatchStatistics("sub", 1), BatchStatistics("sync", 4)]
)
def test_one_part_on_one_device_is_batch_norm(norm):
    plain, ours = fresh(), TrainNorm(fresh())
    ours.configure(norm)
    x = torch.randn(4, 3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(plain(x), ours(x))
    ours.merge()
    assert torch.equal(plain.running_var, ours.running_var)
    assert set(plain.state_dict()) == set(weights_of(ours))


def test_a_batch_that_does_not_divide_has_fewer_parts():
    norm = TrainNorm(fresh())
    norm.configure(BatchStatistics("sub", 4))
    x = torch.randn(6, 3, 2, 4, 4)
    y = norm(x)  # 3 parts of 2
    for part in range(3):
        cells = (y[part::3] - norm.bias.view(1, 3, 1, 1, 1)) / norm.weight.view(1, 3, 1, 1, 1)
        assert cells.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-5
    assert len(norm.split_mean) == 12


def test_a_repeated_pass_leaves_statistics_alone():
    for kind in (BatchStatistics(), BatchStatistics("sub", 2)):
        model = nn.Sequential(TrainNorm(fresh()))
        set_norm(model, kind)
        model(torch.randn(4, 3, 2, 4, 4))
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with not_recording(model):
            model(torch.randn(4, 3, 2, 4, 4))
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_precise_statistics_are_those_of_the_batches():
    model = nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
    prepare_norms(model)
    clips = [torch.randn(8, 3, 2, 4, 4) for _ in range(3)]
    with torch.no_grad():
        maps = [model[0](clip) for clip in clips]
    assert precise(model, clips) == 3
    want = torch.stack([m.mean(dim=(0, 2, 3, 4)) for m in maps]).mean(dim=0)
    assert torch.allclose(model[1].running_mean, want, atol=1e-6)
    assert model[1].momentum == 0.1


def test_frozen_norms_stay():
    model = nn.Sequential(fresh())
    prepare_norms(model, frozen=True)
    before = model[0].running_mean.clone()
    model.train()(torch.randn(4, 3, 2, 4, 4) + 3)
    assert torch.equal(model[0].running_mean, before)
    assert not any(p.requires_grad for p in model.parameters())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def both(batch):
    return torch.randn(batch, 3, 2, 4, 4, generator=torch.Generator().manual_seed(5))


def worker(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = nn.Sequential(fresh())
    prepare_norms(model)
    set_norm(model, BatchStatistics("sync", 2))
    x = both(6)[rank * 2 : rank * 4 + 2].requires_grad_()  # 2 clips and 4 clips
    model(x).pow(3).sum().backward()
    merge_norms(model)
    norm = model[0]
    torch.distributed.all_reduce(norm.weight.grad)
    out = {"x": x.grad, "weight": norm.weight.grad, "var": norm.running_var}
    torch.save(out, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_devices_are_one(tmp_path):
    mp.start_processes(worker, args=(free_port(), str(tmp_path)), nprocs=2, start_method="spawn")
    plain = fresh()
    x = both(6).requires_grad_()
    plain(x).pow(3).sum().backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.allclose(torch.cat([f["x"] for f in found]), x.grad, atol=1e-4)
    for one in found:
        assert torch.allclose(one["weight"], plain.weight.grad, rtol=1e-5)
        assert torch.allclose(one["var"], plain.running_var, rtol=1e-5)
