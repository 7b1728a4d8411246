"""Non-local blocks: Wang, Girshick, Gupta & He, "Non-local Neural Networks", CVPR 2018.

arXiv 1711.07971.

    y_i = 1 / C(x)  *  sum_j  f(x_i, x_j) g(x_j)      over all positions j     (eq. 1)
    z_i = norm(W y_i) + x_i                                                    (eq. 6)

    form            f(x_i, x_j)                       C(x)                     section 3.2
    gaussian        exp(x_i . x_j)                    sum_j f: a softmax       eq. 2
    softmax         exp(theta_i . phi_j / sqrt(d))    sum_j f: a softmax       eq. 3
    dot_product     theta_i . phi_j                   number of positions j    eq. 4
    concatenation   ReLU(w . [theta_i, phi_j])        number of positions j    eq. 5

"softmax" is the embedded Gaussian, with the scale 1 / sqrt(d) of the released networks; d is half
the channels. `pool` shrinks the map before phi and g see it (section 3.3). The last norm starts at
zero, so that a block in the middle of a trained network changes nothing until it is trained.

Axes: B batch, C channels, d inner channels, T time, H height, W width, N = T H W queries, M keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError, UsageError, did_you_mean

Form = Literal["softmax", "dot_product", "gaussian", "concatenation"]
FORMS: tuple[Form, ...] = ("softmax", "dot_product", "gaussian", "concatenation")


@dataclass(frozen=True)
class NonLocals:
    """The non-local blocks of one stage.

    after: blocks of the stage, counted from 0, that are followed by one. pool: window and stride
    of the max pool before phi and g (pool_last: behind them). groups: time is cut into so many
    parts that do not see each other. scale: the softmax form divides by sqrt(d). out_bias: W has a
    bias.
    """

    after: tuple[int, ...] = ()
    form: Form = "softmax"
    pool: tuple[int, int, int] = (1, 2, 2)
    groups: int = 1
    pool_last: bool = False
    scale: bool = True
    out_bias: bool = True


class NonLocal(nn.Module):
    """One block: [B, C, T, H, W] to the same shape. A fresh one is the identity."""

    def __init__(
        self,
        channels: int,
        *,
        form: Form = "softmax",
        pool: tuple[int, int, int] = (1, 1, 1),
        groups: int = 1,
        pool_last: bool = False,
        scale: bool = True,
        out_bias: bool = True,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise UsageError(
                f"no non-local form {form!r}{did_you_mean(form, FORMS)} (there are: "
                f"{', '.join(FORMS)})"
            )
        self.form, self.groups, self.inner = form, groups, channels // 2
        self.pool_last, self.scale = pool_last, self.inner**-0.5 if scale else 1.0
        self.pool = nn.MaxPool3d(pool)
        if form != "gaussian":
            self.theta = nn.Conv3d(channels, self.inner, 1)
            self.phi = nn.Conv3d(channels, self.inner, 1)
        if form == "concatenation":
            self.pair = nn.Linear(2 * self.inner, 1, bias=False)
        self.g = nn.Conv3d(channels, self.inner, 1)
        self.out = nn.Conv3d(self.inner, channels, 1, bias=out_bias)
        self.bn = nn.BatchNorm3d(channels)
        nn.init.zeros_(self.bn.weight)

    @staticmethod
    def of(spec: NonLocals, channels: int) -> NonLocal:
        """A block as a stage's `NonLocals` says."""
        return NonLocal(
            channels,
            form=spec.form,
            pool=spec.pool,
            groups=spec.groups,
            pool_last=spec.pool_last,
            scale=spec.scale,
            out_bias=spec.out_bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Raises ClipError where time does not divide into the groups or is below the pool."""
        batch, channels, frames, height, width = x.shape
        if frames % self.groups:
            raise ClipError(
                f"{frames} time steps do not divide into the {self.groups} groups of a non-local "
                "block; use a clip with a multiple of them"
            )
        split = x.unflatten(2, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        y = self.attend(split)
        y = y.unflatten(0, (batch, self.groups)).transpose(1, 2)
        return x + y.reshape(batch, channels, frames, height, width)

    def attend(self, x: Tensor) -> Tensor:
        """norm(W y), the block without its skip connection; [B, C, T, H, W] to the same."""
        keys = x if self.pool_last else self.pooled(x)
        g = self.finish(self.g(keys)).flatten(2)  # [B, d, M]
        weights = self.weights(x, keys)  # [B, N, M]
        y = (weights @ g.transpose(1, 2)).transpose(1, 2)  # [B, d, N]
        return self.bn(self.out(y.unflatten(2, x.shape[2:])))

    def pooled(self, x: Tensor) -> Tensor:
        window = self.pool.kernel_size
        assert isinstance(window, tuple)
        if any(n < k for n, k in zip(x.shape[2:], window, strict=True)):
            raise ClipError(
                f"a non-local block pools its keys over {list(window)} and cannot take a map of "
                f"{list(x.shape[2:])} (time, height, width); use a longer or larger clip"
            )
        return self.pool(x)

    def finish(self, keys: Tensor) -> Tensor:
        """Pool phi or g where the pool comes last."""
        return self.pooled(keys) if self.pool_last else keys

    def weights(self, x: Tensor, keys: Tensor) -> Tensor:
        """f / C(x), [B, N, M]; `x` gives the queries, `keys` is its pooled form."""
        if self.form == "gaussian":
            keys = self.finish(keys).flatten(2)
            return (x.flatten(2).transpose(1, 2) @ keys).softmax(dim=-1)
        theta = self.theta(x).flatten(2).transpose(1, 2)  # [B, N, d]
        phi = self.finish(self.phi(keys)).flatten(2)  # [B, d, M]
        if self.form == "softmax":
            return (theta @ phi * self.scale).softmax(dim=-1)
        if self.form == "dot_product":
            return theta @ phi / phi.shape[-1]
        # w . [theta_i, phi_j] = w_theta . theta_i + w_phi . phi_j
        w_theta, w_phi = self.pair.weight.split(self.inner, dim=1)
        pairs = theta @ w_theta.T + (w_phi @ phi)
        return F.relu(pairs) / phi.shape[-1]


def insert_nonlocal(
    model: nn.Module,
    positions: Mapping[str, tuple[int, ...] | NonLocals],
    *,
    form: Form = "softmax",
    pool: tuple[int, int, int] = (1, 2, 2),
    groups: int = 1,
) -> nn.Module:
    """Put fresh non-local blocks into a network; its outputs stay what they were.

    `positions` maps a stage to the blocks that get one behind them, counted from 0: the paper's
    five of a ResNet-50 are {"res3": (1, 3), "res4": (1, 3, 5)}; a pathway's stage is
    "slow.res3". A stage's blocks may be of their own kind, {"res3": NonLocals((1, 3), "gaussian")}.
    Changes `model` in place, and returns it. Raises UsageError.
    """
    stages = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential) and "0" in dict(module.named_children())
    }
    planned: list[tuple[nn.Sequential, NonLocals]] = []
    for name, wanted in positions.items():
        if name not in stages:
            raise UsageError(
                f"no stage {name!r}{did_you_mean(name, stages)} (this network has: "
                f"{', '.join(stages)})"
            )
        blocks = dict(stages[name].named_children())
        plain = not isinstance(wanted, NonLocals)
        spec = NonLocals(tuple(wanted), form, pool, groups) if plain else wanted
        for index in spec.after:
            if str(index) not in blocks:
                raise UsageError(f"stage {name!r} has no block {index} (they count from 0)")
            if f"nonlocal{index}" in blocks:
                raise UsageError(f"stage {name!r} has a non-local block after {index} already")
        planned.append((stages[name], spec))
    for stage, spec in planned:
        blocks = dict(stage.named_children())
        for name in blocks:
            delattr(stage, name)
        for name, block in blocks.items():
            stage.add_module(name, block)
            if name.isdecimal() and int(name) in spec.after:
                fresh = NonLocal.of(spec, output_channels(block))
                like = next(block.parameters())
                fresh.to(like.device, like.dtype).train(block.training)
                stage.add_module(f"nonlocal{name}", fresh)
    return model


def output_channels(block: nn.Module) -> int:
    """Channels that a residual block puts out: those of its last norm."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm3d)]
    return norms[-1].num_features
