"""A readable network behind `torch.compile`: `--runtime compile`.

The first clip of each batch size takes as long as the compiler needs (docs/fast.md: a minute), so
this is for long runs. Weights are frozen into the graph, which folds the norms; on CUDA the
kernels are replayed as one graph (CUDA graphs). A `features` that cannot be compiled whole is an
error, so that no row is computed eagerly in silence; `predict` makes no rows and is not compiled.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelet.errors import UsageError
from tubelet.models.fast.network import FastNetwork

WAY_OUT = "or leave --runtime at fast"


def compiled(model: Any, *, device: str) -> FastNetwork:
    """The network with a compiled `features`. UsageError where there is no compiler for `device`.

    Compilation happens at the first clip. Half precision is that of the surrounding autocast.
    """
    kind = device.split(":")[0]
    if kind == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UsageError(f"runtime compile on {device} needs triton: install it, {WAY_OUT}")
    elif kind == "cpu":
        wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
        if not any(map(shutil.which, wanted)):
            raise UsageError(
                f"runtime compile on the CPU needs a C++ compiler; there is no "
                f"{' or '.join(wanted)}: install one, {WAY_OUT}"
            )
    else:
        raise UsageError(f"runtime compile runs on cpu and cuda, not on {device}: {WAY_OUT}")
    return CompiledNetwork(model.to(device).eval(), like=model, dtype=torch.float32).eval()


class CompiledNetwork(FastNetwork):
    """Can be sent to another process, which compiles anew."""

    _run: Callable[..., dict[str, Tensor]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_run"}

    @torch.inference_mode()
    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """As the readable network's."""
        run = self._run
        if run is None:
            graphs = {"triton.cudagraphs": True} if clip.is_cuda else {}
            run = self._run = torch.compile(
                self.network.features,
                fullgraph=True,
                dynamic=False,
                options={"freezing": True, **graphs},
            )
        found = run(self.prepared(clip), tuple(taps))
        # A replayed CUDA graph writes over the results of the last one.
        return {tap: value.float().clone() for tap, value in found.items()}
