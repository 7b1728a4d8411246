"""The skeleton of MViT and Rev-MViT: widths, strides and grids of every block. Arithmetic only.

Both families are one list of blocks whose tables are sparse: `q_strides={1: (1, 2, 2)}` says that
block 1 pools its queries and that no other one does. From a `MViTSchedule` and the size of a clip,
`pooling_schedule` and `width_schedule` give what each block is built from.

    clip 16 x 224 x 224 -- patches of stride 2,4,4 -> 8 x 56 x 56 -- q stride 1,2,2 -> 8 x 28 x 28

Axes of a grid, kernel or stride: T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tubelet.errors import UsageError
from tubelet.types import ClipSpec

ONE, TWO = (1, 1, 1), (1, 2, 2)

PerBlock = tuple[tuple[int, float], ...]
"""(block, factor) pairs."""

Grid = tuple[int, int, int]
"""Cells along T, H, W."""


@dataclass(frozen=True)
class Kernel:
    """A pooling kernel with its stride; the padding is half the kernel."""

    size: Grid
    stride: Grid

    @property
    def padding(self) -> Grid:
        return (self.size[0] // 2, self.size[1] // 2, self.size[2] // 2)

    def out(self, grid: Grid) -> Grid:
        """The grid after pooling `grid`."""
        cells = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(grid, self.size, self.stride, self.padding, strict=True)
        ]
        return (cells[0], cells[1], cells[2])


@dataclass(frozen=True)
class Pooling:
    """How one block pools: `q` and `kv` are None where it does not.

    grid: that of the block's input. tables: lengths (time, space) of its relative-position tables.
    """

    grid: Grid
    q: Kernel | None
    kv: Kernel | None
    tables: tuple[int, int]

    @property
    def q_grid(self) -> Grid:
        return self.q.out(self.grid) if self.q else self.grid

    @property
    def kv_grid(self) -> Grid:
        return self.kv.out(self.grid) if self.kv else self.grid


def grown(stride: Grid) -> Grid:
    """The kernel that goes with a stride where none is given: stride + 1 on the pooled axes."""
    size = [s + 1 if s > 1 else s for s in stride]
    return (size[0], size[1], size[2])


@dataclass(frozen=True)
class MViTSchedule:
    """Widths and pooling, block by block. Blocks that a table does not name are left alone.

    patch: the stem's kernel; its padding is given apart. dim_mul, head_mul: channels and heads
    are multiplied at these blocks. q_strides, kv_strides: block -> stride of the query and the
    key and value pooling. pool_kernel: None means stride + 1.
    position: absolute positions, one table for space and one for time, or one for both.
    drop_path, dropout: training only; the share of samples, and of numbers, that a branch of the
    last block loses (drop_path grows linearly from none in the first one).
    """

    depth: int = 16
    embed_dim: int = 96
    num_heads: int = 1
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    patch: Kernel = Kernel((3, 7, 7), (2, 4, 4))
    patch_padding: Grid = (1, 3, 3)
    dim_mul: PerBlock = ()
    head_mul: PerBlock = ()
    q_strides: Mapping[int, Grid] = field(default_factory=dict[int, Grid])
    kv_strides: Mapping[int, Grid] = field(default_factory=dict[int, Grid])
    pool_kernel: Grid | None = (3, 3, 3)
    position: Literal["separate", "joint"] | None = None
    drop_path: float = 0.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Widths:
    """One block: channels in, inside the MLP's input, out; heads."""

    dim: int
    dim_attention: int
    dim_out: int
    heads: int


def round_width(width: float, factor: float, *, divisor: int = 1) -> int:
    """width * factor, rounded to a multiple of `divisor`, never below 0.9 of it."""
    wanted = width * factor
    rounded = max(1, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def patch_grid(trunk: MViTSchedule, clip: ClipSpec) -> Grid:
    """Cells of the stem's output. Raises UsageError for a clip that the strides do not divide."""
    size = (clip.frames, clip.crop, clip.crop)
    grid: list[int] = []
    for name, n, k, s, p in zip(
        ("frames", "crop", "crop"),
        size,
        trunk.patch.size,
        trunk.patch.stride,
        trunk.patch_padding,
        strict=True,
    ):
        cells = (n + 2 * p - k) // s + 1
        if cells != n // s or not cells:
            raise UsageError(
                f"{name}={n} does not fit the patches of this network: the stem has stride {s}, "
                f"so take a multiple of {s}"
            )
        grid.append(cells)
    return (grid[0], grid[1], grid[2])


def pooling_schedule(trunk: MViTSchedule, grid: Grid) -> list[Pooling]:
    """What every block pools, from the patch grid on.

    Pooling rounds a grid up, while the lengths of the tables come from rounding down: `nominal`
    is the grid of the second kind.
    """
    schedule: list[Pooling] = []
    nominal = grid
    for block in range(trunk.depth):
        q, kv = trunk.q_strides.get(block), trunk.kv_strides.get(block)
        sides = [nominal[1] // (stride[1] if stride else 1) for stride in (q, kv)]
        pooling = Pooling(
            grid=grid,
            q=_kernel(trunk.pool_kernel, q),
            kv=_kernel(trunk.pool_kernel, kv),
            tables=(2 * nominal[0] - 1, 2 * max(sides) - 1),
        )
        schedule.append(pooling)
        grid = pooling.q_grid
        if q:
            nominal = (nominal[0] // q[0], nominal[1] // q[1], nominal[2] // q[2])
    return schedule


def _kernel(size: Grid | None, stride: Grid | None) -> Kernel | None:
    if stride is None:
        return None
    kernel = Kernel(size or grown(stride), stride)
    return None if kernel == Kernel((1, 1, 1), (1, 1, 1)) else kernel


def drop_path_schedule(trunk: MViTSchedule) -> list[float]:
    """The share of samples that each block loses, for stochastic depth."""
    steps = max(trunk.depth - 1, 1)
    return [trunk.drop_path * block / steps for block in range(trunk.depth)]


def width_schedule(trunk: MViTSchedule, *, in_attention: bool) -> list[Widths]:
    """Channels and heads of every block.

    Heads multiply at the block that is named. Channels do so too where they grow in the attention;
    in the MLP they grow one block earlier, so that the named block starts with them. Raises
    UsageError for heads that do not divide the channels.
    """
    dims, heads_by = dict(trunk.dim_mul), dict(trunk.head_mul)
    dim, heads = trunk.embed_dim, trunk.num_heads
    schedule: list[Widths] = []
    for block in range(trunk.depth):
        heads = round_width(heads, heads_by.get(block, 1.0))
        at = block if in_attention else block + 1
        divisor = round_width(heads, heads_by.get(at, 1.0))
        dim_out = round_width(dim, dims.get(at, 1.0), divisor=divisor)
        dim_attention = dim_out if in_attention else dim
        if dim_attention % heads:
            raise UsageError(
                f"block {block} has {dim_attention} channels and {heads} heads: the channels "
                "have to be a multiple of the heads"
            )
        schedule.append(Widths(dim, dim_attention, dim_out, heads))
        dim = dim_out
    return schedule


def staged(
    depths: Sequence[int], *, kv: Grid, dim: int = 96, heads: int = 1, every_block: bool = False
) -> MViTSchedule:
    """A trunk of four stages: `depths` blocks each; channels, heads and strides double.

    kv: stride of keys and values in the first stage; later ones divide it by the query strides.
    every_block: queries are pooled in every block (v2), with stride 1 inside a stage.
    """
    starts = [sum(depths[:i]) for i in range(1, len(depths))]
    depth = sum(depths)
    doubled = tuple((block, 2.0) for block in starts)
    q = {b: TWO if b in starts else ONE for b in range(depth) if every_block or b in starts}
    return MViTSchedule(
        depth=depth,
        embed_dim=dim,
        num_heads=heads,
        dim_mul=doubled,
        head_mul=doubled,
        q_strides=q,
        kv_strides=adaptive_strides(depth, q, first=kv),
    )


def adaptive_strides(depth: int, q_strides: Mapping[int, Grid], *, first: Grid) -> dict[int, Grid]:
    """Key and value strides that keep their grid: divided wherever the queries are pooled."""
    stride, strides = first, {}
    for block in range(depth):
        q = q_strides.get(block, ONE)
        stride = (
            max(stride[0] // q[0], 1),
            max(stride[1] // q[1], 1),
            max(stride[2] // q[2], 1),
        )
        strides[block] = stride
    return strides


def image(trunk: MViTSchedule) -> MViTSchedule:
    """The same trunk for images: no kernel reaches over time."""
    return replace(
        trunk,
        patch=Kernel((1, 7, 7), (1, 4, 4)),
        patch_padding=(0, 3, 3),
        pool_kernel=(1, 3, 3),
    )
