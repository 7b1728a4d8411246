"""Where a token is: absolute positions (MViT-v1), relative ones (v2), and their resizing.

Tables belong to one size of clip. For another one they are interpolated as the reference does when
it loads a checkpoint: rows of relative positions and of absolute times linearly, the square of
absolute places bicubically, both without aligned corners. A table for time and space together is
not resized.

Axes: B batch, N tokens (class token first, where there is one), C channels, T time, H height,
W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import UsageError
from tubelet.models.blocks.mvit_schedule import Grid, MViTSchedule, Pooling


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """[B, T*H*W, C] to [B, C, T, H, W]."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def to_tokens(cells: Tensor) -> Tensor:
    """[B, C, T, H, W] to [B, T*H*W, C]."""
    return cells.flatten(2).transpose(1, 2)


class Tokens(nn.Module):
    """Patches [B, C, T, H, W] to tokens [B, N, C]: class token and absolute positions (v1 3.2)."""

    def __init__(self, trunk: MViTSchedule, *, grid: Grid, class_token: bool) -> None:
        super().__init__()
        t, h, w = grid
        dim, prefix = trunk.embed_dim, int(class_token)

        def table(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(1, rows, dim))

        self.position = trunk.position
        self.class_token = table(1) if class_token else None
        if trunk.position == "separate":
            self.spatial, self.temporal = table(h * w), table(t)
            self.class_position = table(1) if class_token else None
        elif trunk.position == "joint":
            self.joint = table(prefix + t * h * w)

    def forward(self, patches: Tensor) -> Tensor:
        tokens = to_tokens(patches)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        if self.position == "separate":
            tokens = tokens + self._separate()
        elif self.position == "joint":
            tokens = tokens + self.joint
        return tokens

    def _separate(self) -> Tensor:
        cells = (self.temporal[:, :, None] + self.spatial[:, None]).flatten(1, 2)
        return cells if self.class_position is None else torch.cat([self.class_position, cells], 1)


def table_rows(q: int, k: int) -> Tensor:
    """Row of a relative-position table for every query and key cell of one axis: [q, k].

    The coarser axis counts in steps of the finer one, so that the difference of two positions is
    one of 2 * max(q, k) - 1 rows:

        q = 4, k = 2    positions 0 1 2 3 and 0 2    row = q position - k position + 2

    Fractions are cut off in float32, as in the reference: the cut decides the row.
    """
    q_step, k_step = max(k / q, 1.0), max(q / k, 1.0)
    distance = torch.arange(q)[:, None] * q_step - torch.arange(k)[None, :] * k_step
    return (distance + (k - 1) * k_step).long()


def resize_table(table: Tensor, rows: int) -> Tensor:
    """A table [L, d] with another number of rows, linearly, corners not aligned."""
    if len(table) == rows:
        return table
    return F.interpolate(table.t()[None], size=rows, mode="linear")[0].t()


class RelativePosition(nn.Module):
    """Decomposed relative positions, 2112.01526 section 4.1: R = R^h + R^w + R^t.

    One table per axis holds a vector for every difference of positions; a query's product with it
    is one number per key coordinate of that axis. `forward`: queries [B, heads, Nq, d] of the
    patches to [B, heads, Nq, K], K the axes' key coordinates side by side. `axes` [Nk, K] has a
    one where a key has that coordinate, so that the bias of query i and key j, the sum over the
    axes, is logits[i] . axes[j].

        a 2 x 3 key grid    h0 h1  w0 w1 w2
        key (0, 2)           1  0   0  0  1
    """

    axes: Tensor

    def __init__(self, width: int, *, pooling: Pooling, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.q_grid = pooling.q_grid
        used = [name for name, on in zip("thw", (temporal, spatial, spatial), strict=True) if on]
        self.used = tuple(used)
        one_hot: list[Tensor] = []
        for axis, name in enumerate("thw"):
            if name not in used:
                continue
            q, k = pooling.q_grid[axis], pooling.kv_grid[axis]
            rows = pooling.tables[0] if name == "t" else pooling.tables[1]
            setattr(self, name, nn.Parameter(torch.zeros(rows, width)))
            self.register_buffer(f"rows_{name}", table_rows(q, k), persistent=False)
            shape = [1, 1, 1, k]
            shape[axis] = k
            eye = torch.eye(k).view(shape)
            one_hot.append(eye.expand(*pooling.kv_grid, k).reshape(-1, k))
        self.register_buffer("axes", torch.cat(one_hot, dim=1), persistent=False)

    def forward(self, q: Tensor) -> Tensor:
        on_grid = q.unflatten(2, self.q_grid)
        logits: list[Tensor] = []
        for axis, name in enumerate("thw"):
            if name not in self.used:
                continue
            rows = self.get_buffer(f"rows_{name}")
            table = resize_table(self.get_parameter(name), 2 * max(rows.shape) - 1)
            logits.append(torch.einsum(f"bnthwc,{'thw'[axis]}kc->bnthwk", on_grid, table[rows]))
        return torch.cat(logits, dim=-1).flatten(2, 4)


def fit(key: str, value: Tensor, shape: tuple[int, ...] | None) -> Tensor:
    """A tensor brought to the shape its model wants, where a rule of the reference says how."""
    if shape is None or tuple(value.shape) == shape:
        return value
    if value.ndim == 4 and len(shape) == 5:
        value = value.unsqueeze(2)
    if ".attention.relative." in key and value.shape[1:] == shape[1:]:
        return resize_table(value, shape[0])
    if key == "tokens.temporal" and value.shape[-1] == shape[-1]:
        return resize_table(value[0], shape[1])[None]
    if key == "tokens.spatial" and value.shape[-1] == shape[-1]:
        return resize_spatial(value, shape[1])
    return value


def resize_spatial(table: Tensor, cells: int) -> Tensor:
    """Positions [1, H*W, C] of a square grid for another one: bicubic, corners not aligned."""
    old, new = math.isqrt(table.shape[1]), math.isqrt(cells)
    if old * old != table.shape[1] or new * new != cells:
        return table
    square = table.unflatten(1, (old, old)).permute(0, 3, 1, 2)
    return F.interpolate(square, size=(new, new), mode="bicubic").flatten(2).transpose(1, 2)


def fit_all(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Tensors under our names, fitted to the size that `model` was built for.

    What does not fit is passed on as it is: a strict load names it.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {key: fit(key, value, wanted.get(key)) for key, value in tensors.items()}


def rebuilt(model: Any, new: Any) -> Any:
    """`new`, a network of the same architecture for another size, with the weights of `model`.

    Plain attributes of `model` that `new` lacks come along: where its weights are from. Raises
    UsageError for a table that is not resized.
    """
    tensors = fit_all(model.state_dict(), new)
    for key, value in new.state_dict().items():
        if tensors[key].shape != value.shape:
            raise UsageError(
                f"{key} is a table of positions in time and space together, "
                f"{list(tensors[key].shape)}, and is not resized: this network takes clips of "
                f"{model.clip.frames} x {model.clip.crop} x {model.clip.crop} only"
            )
    new.load_state_dict(tensors)
    for name, value in vars(model).items():
        vars(new).setdefault(name, value)
    return new.to(next(model.parameters())).train(model.training)
