"""The list of drawings."""

from __future__ import annotations

from collections.abc import Callable

from tools.figures import cost, inception, multigrid, resnets, reversible, transformers, x3d

DRAWINGS: dict[str, Callable[[], str]] = {
    "inception_block": inception.block,
    "inception_network": inception.network_svg,
    "inflation": inception.inflation,
    "two_stream": inception.two_stream,
    "c2d": resnets.c2d,
    "nonlocal": resnets.nonlocal_block,
    "slowfast": resnets.slowfast,
    "multigrid": multigrid.cycles,
    "pooling_attention": transformers.pooling_attention,
    "relative_positions": transformers.relative_positions,
    "residual_pooling": transformers.residual_pooling,
    "reversible": reversible.streams,
    "x3d": x3d.expansion,
    "accuracy_cost": cost.accuracy_cost,
}
"""File name without its end -> what draws it."""
