"""Batch norm whose statistics are taken over the number of clips that they should be taken over.

    batch    every clip of this device
    sub      the device's clips in G parts, part g = clips g, g + G, g + 2G, ... (multigrid, 3.4)
    sync     the clips of G neighbouring devices together, on any backend, the CPU's gloo included
    frozen   the running statistics, which do not change; weight and bias do not either

`TrainNorm` takes the place of every nn.BatchNorm while training and keeps its state-dict keys, so
that weights go in and out unchanged. With `sub` it also keeps running statistics per part; they
become the module's own (`merge`) before evaluation and saving: the variance of the whole is the
mean of the parts' variances plus the variance of their means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tubelet.train.multigrid import BatchStatistics

PARTS = ("split_mean", "split_var")
"""Buffers that belong to training and not to the weights."""


class _SumOverDevices(torch.autograd.Function):
    """Sum of a tensor over a group; its gradient is summed likewise."""

    @staticmethod
    def forward(ctx, value: Tensor, group: object) -> Tensor:  # pyright: ignore
        ctx.group = group
        total = value.clone()
        dist.all_reduce(total, group=group)  # pyright: ignore
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):  # pyright: ignore
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class TrainNorm(nn.Module):
    """In place of a batch norm over [B, C, ...]; shares its parameters."""

    def __init__(self, source: _BatchNorm) -> None:
        super().__init__()
        assert source.running_mean is not None
        assert source.running_var is not None
        assert source.num_batches_tracked is not None
        self.num_features, self.eps, self.momentum = (
            source.num_features, source.eps, source.momentum or 0.1,
        )  # fmt: skip
        self.weight, self.bias = source.weight, source.bias
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", source.running_mean.clone())
        self.register_buffer("running_var", source.running_var.clone())
        self.register_buffer("num_batches_tracked", source.num_batches_tracked.clone())
        self.split_mean: Tensor
        self.split_var: Tensor
        self.register_buffer("split_mean", self.running_mean.clone())
        self.register_buffer("split_var", self.running_var.clone())
        self.norm = BatchStatistics()
        self.group: object = None
        self.frozen = False
        self.recording = True

    def configure(self, norm: BatchStatistics, group: object = None) -> None:
        """Change how statistics are taken. The parts of `sub` start from the running ones."""
        self.merge()
        self.norm, self.group = norm, group
        parts = norm.groups if norm.kind == "sub" else 1
        self.split_mean = self.running_mean.repeat(parts)
        self.split_var = self.running_var.repeat(parts)

    def merge(self) -> None:
        """The statistics of the parts become the module's own."""
        if self.norm.kind != "sub" or self.norm.groups == 1:
            return
        means = self.split_mean.unflatten(0, (-1, self.num_features))
        variances = self.split_var.unflatten(0, (-1, self.num_features))
        self.running_mean.copy_(means.mean(dim=0))
        self.running_var.copy_(variances.mean(dim=0) + means.var(dim=0, correction=0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.frozen:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        if self.recording:
            self.num_batches_tracked.add_(1)
        if self.norm.kind == "sub" and self.norm.groups > 1:
            return self._sub(x)
        if self.norm.kind == "sync" and self.group is not None:
            return self._sync(x)
        mean, var = self._records(self.running_mean), self._records(self.running_var)
        momentum = self.momentum
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, momentum, self.eps)

    def _records(self, statistic: Tensor) -> Tensor:
        """The running statistic, or a copy that takes the update while a pass is repeated."""
        return statistic if self.recording else statistic.clone()

    def _sub(self, x: Tensor) -> Tensor:
        """Statistics per part. A batch that does not divide (a bad sample was left out) has fewer
        parts; several running statistics then follow one part."""
        wanted = self.norm.groups
        parts = max(n for n in range(1, wanted + 1) if len(x) % n == 0)
        follows = torch.arange(wanted, device=x.device) * parts // wanted
        leads = [int((follows == part).nonzero()[0]) for part in range(parts)]
        mean, var = (
            s.unflatten(0, (wanted, -1))[leads].flatten() for s in (self.split_mean, self.split_var)
        )
        folded = x.reshape(len(x) // parts, parts * self.num_features, *x.shape[2:])
        folded = F.batch_norm(folded, mean, var, None, None, True, self.momentum, self.eps)
        if self.recording:
            for target, found in ((self.split_mean, mean), (self.split_var, var)):
                target.copy_(found.unflatten(0, (parts, -1))[follows].flatten())
        return self._scaled(folded.reshape(x.shape))

    def _sync(self, x: Tensor) -> Tensor:
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x.float()
        count = torch.tensor([wide.numel() / self.num_features], device=x.device)
        count = _SumOverDevices.apply(count, self.group)
        mean = _SumOverDevices.apply(wide.sum(dim=axes), self.group) / count
        centred = wide - mean.reshape(shape)
        var = _SumOverDevices.apply(centred.square().sum(dim=axes), self.group) / count
        if self.recording:
            unbiased = var.detach() * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        normed = centred * (var + self.eps).rsqrt().reshape(shape)
        return self._scaled(normed.to(x.dtype))

    def _scaled(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return x
        shape = [1, -1] + [1] * (x.ndim - 2)
        return x * self.weight.reshape(shape).to(x.dtype) + self.bias.reshape(shape).to(x.dtype)


def prepare_norms(model: nn.Module, *, frozen: bool = False) -> list[TrainNorm]:
    """Replace every batch norm of a network by a TrainNorm, in place; all of them, in order."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, TrainNorm(child))
    found = norms_of(model)
    for norm in found:
        norm.frozen = frozen
        if frozen and norm.weight is not None:
            norm.weight.requires_grad_(False)
            norm.bias.requires_grad_(False)
    return found


def norms_of(model: nn.Module) -> list[TrainNorm]:
    return [module for module in model.modules() if isinstance(module, TrainNorm)]


def set_norm(model: nn.Module, norm: BatchStatistics) -> None:
    """All norms of a network; every process of a distributed run must call it alike."""
    group = None
    if norm.kind == "sync" and dist.is_initialized() and dist.get_world_size() > 1:
        world, rank = dist.get_world_size(), dist.get_rank()
        for first in range(0, world, norm.groups):
            ranks = list(range(first, min(first + norm.groups, world)))
            made = dist.new_group(ranks)
            if rank in ranks:
                group = made
    for module in norms_of(model):
        module.configure(norm, group)


def merge_norms(model: nn.Module) -> None:
    """Before evaluation and saving: parts merged, running statistics averaged over the devices."""
    norms = [norm for norm in norms_of(model) if not norm.frozen]
    for norm in norms:
        norm.merge()
    if dist.is_initialized() and dist.get_world_size() > 1:
        for norm in norms:
            for statistic in (norm.running_mean, norm.running_var):
                dist.all_reduce(statistic)
                statistic.div_(dist.get_world_size())


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without what belongs to training only."""
    state = model.state_dict()
    return {key: value for key, value in state.items() if key.rpartition(".")[2] not in PARTS}


@contextmanager
def not_recording(model: nn.Module) -> Iterator[None]:
    """Statistics are left alone: for a pass that is repeated, as activation checkpointing does."""
    norms = norms_of(model)
    for norm in norms:
        norm.recording = False
    try:
        yield
    finally:
        for norm in norms:
            norm.recording = True


def precise(model: nn.Module, clips: Iterable[Tensor]) -> int:
    """Running statistics as the mean over these batches at the present weights, not as a moving
    average over past ones. Returns the number of batches; none leaves everything as it was.
    """
    norms = [norm for norm in norms_of(model) if not norm.frozen]
    if not norms:
        return 0
    sums = [(torch.zeros_like(n.running_mean), torch.zeros_like(n.running_var)) for n in norms]
    momenta, was_training, batches = [norm.momentum for norm in norms], model.training, 0
    before = [(n.running_mean.clone(), n.running_var.clone()) for n in norms]
    model.train()
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        for clip in clips:
            model(clip)
            batches += 1
            for norm, (mean, var) in zip(norms, sums, strict=True):
                norm.merge()
                mean += norm.running_mean
                var += norm.running_var
        for i, norm in enumerate(norms):
            mean, var = (s / batches for s in sums[i]) if batches else before[i]
            norm.momentum = momenta[i]
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            parts = len(norm.split_mean) // norm.num_features
            norm.split_mean.copy_(mean.repeat(parts))
            norm.split_var.copy_(var.repeat(parts))
    model.train(was_training)
    return batches
