"""Overlapping windows: a network's frame-wise stages run once per frame, not once per window.

    windows   0 1 2 3 4 5 6 7                     frames 2 .. 7 of window 0 are frames 0 .. 5 of
                  2 3 4 5 6 7 8 9                 window 1: their maps are kept
                                    stage   frames of a window that make one of its steps
    Slow      stem, res2, res3              1     kernels in time begin in res4
    C2D       stem ... res5                 2     its 2 x 1 x 1 pool joins pairs; nothing else does

A map is computed from its own frames alone, whatever the window, so that no row depends on the
history of the run; a test holds the rows equal to whole clips', byte for byte. Maps live exactly
as long as somebody holds their prepared frames: while a window that needs them is open.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING, Any

from tubelet.clips.transform import Prepared, to_clip
from tubelet.clips.windows import WindowConfig

if TYPE_CHECKING:
    from torch import Tensor


class FrameMaps:
    """The maps of one network behind its frame-wise stages, of the frames that are still held.

    stage: the last of them. group: frames that make one step in time. computed: maps made so far.
    """

    def __init__(self, stage: str, group: int) -> None:
        self.stage, self.group = stage, group
        self.computed = 0
        self._kept: dict[tuple[int, ...], tuple[Tensor, list[weakref.ref[Prepared]]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Another process has other frames."""
        return {**self.__dict__, "_kept": {}}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, clips: Sequence[Sequence[Prepared]], model: Any, device: str) -> Tensor:
        """[rows * V, C, T', H', W'] of windows of W prepared frames."""
        import torch

        rows = []
        for frames in clips:
            starts = range(0, len(frames), self.group)
            parts = [self._map(frames[i : i + self.group], model, device) for i in starts]
            rows.append(torch.cat(parts, dim=2))
        return torch.cat(rows)

    def _map(self, frames: Sequence[Prepared], model: Any, device: str) -> Tensor:
        kept, key = self._kept, tuple(id(frame) for frame in frames)
        if key in kept:  # ids of living arrays are unique, and `frames` is alive
            return kept[key][0]

        def forget(_: weakref.ref[Prepared]) -> None:
            kept.pop(key, None)

        made = model.stages_until(to_clip(frames).to(device), self.stage)
        kept[key] = made, [weakref.ref(frame, forget) for frame in frames]
        self.computed += 1
        return made


def frame_maps(model: Any, window: WindowConfig, taps: Sequence[str]) -> FrameMaps | None:
    """What can be kept between the windows of this model; None where nothing can.

    Windows must share frames, the network must have frame-wise stages, and no tap may be inside.
    """
    found = getattr(model, "frame_wise", None)
    if found is None or window.rows is not None or window.frames < model.clip.frames:
        return None
    apart = window.interval // gcd(window.step, window.interval)
    shift = apart * window.step // window.interval  # frames between the next windows that share
    if shift >= window.frames:
        return None
    fitting = [
        (stage, group)
        for stage, group in found()
        if shift % group == 0
        and window.frames % group == 0
        and not set(taps) & set(model.taps[: model.taps.index(stage)])
    ]
    return FrameMaps(*fitting[-1]) if fitting else None
