"""What several families share: checking clips and tap names, the dense head, initialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.errors import ClipError, UnknownName, UsageError, did_you_mean
from tubelet.types import ClipSpec


def check_clip(
    clip: Tensor,
    *,
    channels: int,
    min_frames: int = 1,
    min_side: int = 1,
    frames: int | None = None,
    weights: Tensor | None = None,
) -> None:
    """Refuse what a network cannot take: anything but a floating [B, channels, T, H, W].

    T must be at least `min_frames`, or exactly `frames` where that is given; H and W at least
    `min_side` pixels. The clip must be where the `weights` are, and, outside autocast, of their
    type. Raises ClipError.
    """
    shape = tuple(clip.shape)
    if clip.ndim != 5 or shape[1] != channels:
        raise ClipError(
            f"a clip must be [batch, {channels}, frames, height, width]; this one is {list(shape)}"
        )
    if not clip.is_floating_point():
        raise ClipError(
            f"a clip must be floating and normalised with model.clip; this one is {clip.dtype}"
        )
    if weights is not None and clip.device != weights.device:
        raise ClipError(
            f"the clip is on {clip.device} and the network on {weights.device}; move one: "
            "clip.to(device) or model.to(device)"
        )
    if weights is not None and not same_precision(clip, weights):
        raise ClipError(
            f"the clip is {clip.dtype} and the network's weights are {weights.dtype}; "
            "convert one, as in clip.float()"
        )
    if frames is not None and shape[2] != frames:
        raise ClipError(f"this network takes clips of {frames} frames; this one has {shape[2]}")
    if shape[2] < min_frames:
        raise ClipError(f"this network needs {min_frames} frames or more; the clip has {shape[2]}")
    if min(shape[3:]) < min_side:
        raise ClipError(
            f"this network needs {min_side} x {min_side} pixels or more; "
            f"the clip has {shape[3]} x {shape[4]}"
        )
    if not shape[0]:
        raise ClipError("the batch has no clip")


def same_precision(clip: Tensor, weights: Tensor) -> bool:
    """Autocast converts by itself."""
    return clip.dtype == weights.dtype or torch.is_autocast_enabled(clip.device.type)


def exact_if_short(forward: Callable[[Tensor], Tensor], x: Tensor, *, frames: int) -> Tensor:
    """A convolution whose kernel spans `frames`, of x [B, C, T, H, W]; in float32 where T is
    smaller and autocast on the CPU would take half precision.

    oneDNN's half-precision gradient of such weights is wrong and writes outside its memory
    (measured with torch 2.13: kernels of 3, 5 and 7 over 2 frames and more).
    """
    half = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if not half or x.shape[2] >= frames:
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float())


def check_taps(taps: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a tap that the network does not have. Raises UnknownName."""
    known = list(known)
    if isinstance(taps, str):
        raise UnknownName(f"taps is a sequence of names, such as ({taps!r},), not one string")
    for tap in taps:
        if tap not in known:
            raise UnknownName(
                f"no tap {tap!r}{did_you_mean(tap, known)} (this model has: {', '.join(known)})"
            )


class NoClassifier(nn.Module):
    """Stands where a backbone has no classifier: whoever asks for logits is told so."""

    def forward(self, features: Tensor) -> Tensor:
        raise UsageError(
            "these weights are a backbone without a classifier: there are no logits or class "
            'scores; use features(), for example the tap "pool"'
        )


class OfRows(nn.Sequential):
    """Layers for rows [N, C], applied to [..., C]: a batch norm takes no other shape."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, -2)).unflatten(0, input.shape[:-1])


def classifier(width: int, classes: int, *, hidden: int = 0) -> nn.Module:
    """A linear layer, behind `hidden` rectified units if any; for no classes one that refuses."""
    if not classes:
        return NoClassifier()
    if not hidden:
        return nn.Linear(width, classes)
    units = nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU()
    return OfRows(*units, nn.Linear(hidden, classes))


def keep(maps: Iterable[tuple[str, Tensor]], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The wanted ones of (name, map) pairs; nothing is computed behind the last of them."""
    missing = set(wanted)
    found: dict[str, Tensor] = {}
    for name, value in maps:
        if name in missing:
            found[name] = value
            missing.discard(name)
        if not missing:
            break
    assert not missing, f"the network never computed {missing}"
    return found


def windows(grid: Tensor, size: Sequence[int] | None) -> Tensor:
    """Average over every window of `size` cells, stride 1; over the whole grid where None.

    grid [B, C, T, H, W] to [B, C, T - t + 1, H - h + 1, W - w + 1]. This is how the reference's
    test head makes several predictions of a clip larger than its training crop. Raises ClipError.
    """
    if size is None:
        return grid.mean(dim=(2, 3, 4), keepdim=True)
    cells = tuple(grid.shape[2:])
    if any(n < k for n, k in zip(cells, size, strict=True)):
        raise ClipError(
            f"the head averages windows of {' x '.join(map(str, size))} cells (time, height, "
            f"width), as in training; this clip gives {' x '.join(map(str, cells))}: "
            "use more frames or a larger crop"
        )
    return F.avg_pool3d(unrounded(grid), tuple(size), stride=1)


def head_taps(cells: Tensor, last: nn.Module, taps: Sequence[str]) -> dict[str, Tensor]:
    """The wanted ones of "head_pool", the mean of a test head's `windows` [B, D, t, h, w], and
    "dense_logits", the classifier `last` at every one of them."""
    found: dict[str, Tensor] = {}
    if "head_pool" in taps:
        found["head_pool"] = cells.mean(dim=(2, 3, 4))
    if "dense_logits" in taps:
        found["dense_logits"] = last(cells.movedim(1, -1))
    return found


def unrounded(x: Tensor) -> Tensor:
    """Half precisions as float32: sums over many cells, and what a CPU cannot average otherwise."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def scores(logits: Tensor, activation: str) -> Tensor:
    """[B, ..., classes] to [B, classes]: the activation at every position, then their mean."""
    if activation == "softmax":
        logits = logits.softmax(dim=-1)
    elif activation == "sigmoid":
        logits = logits.sigmoid()
    return logits.flatten(1, -2).mean(dim=1) if logits.ndim > 2 else logits


def he_init(model: nn.Module) -> None:
    """Convolutions by He et al. (1502.01852), classifiers from N(0, 0.01); norms stay."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def normed_mean(patches: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """The norm of the mean of patches [B, N, C], and the patches [B, N, C] normed alike.

    Each is normed with the variance of the mean token, so that their mean is the first result.
    """
    mean = patches.mean(dim=1)
    scale = (mean.var(dim=1, correction=0) + norm.eps).rsqrt()[:, None, None]
    centred = patches - patches.mean(dim=2, keepdim=True)
    return norm(mean), centred * scale * norm.weight + norm.bias


def transformer_taps(depth: int) -> tuple[str, ...]:
    """Names of what a transformer of so many blocks gives, in order of computation."""
    blocks = [f"block{i}{kind}" for i in range(depth) for kind in ("", "_tokens")]
    return ("stem", *blocks, "grid", "dense_logits", "pool")


def check_size(clip: Tensor, spec: ClipSpec) -> None:
    """Position tables belong to one size of clip. Raises ClipError."""
    check_clip(clip, channels=spec.channels, frames=spec.frames)
    if tuple(clip.shape[3:]) != (spec.crop, spec.crop):
        raise ClipError(
            f"this network was built for clips of {spec.frames} x {spec.crop} x {spec.crop} and "
            f"this one has {clip.shape[3]} x {clip.shape[4]} pixels; its position tables belong to "
            "that size, so build it for the other one (--crop): they are resized when loaded"
        )


def resized_clip(clip: ClipSpec, *, frames: int | None, crop: int | None) -> ClipSpec:
    """Raises UsageError for more than one frame of an image network."""
    if clip.frames == 1 and frames not in (None, 1):
        raise UsageError(f"frames={frames}: a network for images takes one frame")
    crop = crop or clip.crop
    short_side = round(clip.short_side * crop / clip.crop)
    return replace(clip, frames=frames or clip.frames, crop=crop, short_side=short_side)
