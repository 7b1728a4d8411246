"""Inception-v1 I3D: a block, the network, inflation, two streams."""

from __future__ import annotations

import torch
from tools.figures.shapes import Shape, calls, clip_shape, maps, network, pool_kernels
from tools.figures.svg import SMALL, WIDTH, Canvas, times, width_of
from torch import nn

from tubelet.models.i3d import STAGES
from tubelet.models.weights.inflate import inflate_kernel

RGB, FLOW = "i3d_inception_rgb", "i3d_inception_flow"
BOTH = "i3d_inception_two_stream"
IMAGE, VIDEO = "resnet_r50", "i3d_r50_8x8"
BLOCK = "mixed3b"


def cells(shape: Shape) -> str:
    """Channels and grid of a map, as the drawings write them."""
    return f"{shape[0]} @ {times(shape[1:])}"


def lines(shape: Shape) -> list[str]:
    return [f"{shape[0]} channels", times(shape[1:])]


def block() -> str:
    seen, model = calls(RGB), network(RGB)
    inputs, output = seen[BLOCK].inputs, seen[BLOCK].output
    canvas = Canvas(
        352,
        title="An inception block",
        about=f"{BLOCK}: four branches look at one map in different ways and are joined.",
    )
    canvas.heading(f"An inception block, here {BLOCK}")
    canvas.text(20, 52, "channels, then time×height×width", kind="faint", small=True)
    left, mid, right = 20, 190, 410
    canvas.box(left, 145, 124, 66, words=["map", *lines(inputs)])
    module = getattr(model, BLOCK)
    pool = pool_kernels(module, inputs)[0]
    rows = [
        ("branch0",),
        ("branch1_reduce", "branch1"),
        ("branch2_reduce", "branch2"),
        ("branch3",),
    ]
    for i, names in enumerate(rows):
        y = 72 + i * 64
        units = [(getattr(module, name).conv, seen[f"{BLOCK}.{name}"].output) for name in names]
        words = [
            [f"conv {times(conv.kernel_size)}", f"{conv.in_channels} → {out[0]}"]
            for conv, out in units
        ]
        first = mid if len(names) == 2 or i == 3 else right
        canvas.arrow((left + 124, 178), (mid - 22, 178), (mid - 22, y + 24), (first, y + 24))
        if len(words) == 2:
            canvas.box(mid, y, 150, 48, words=words[0], kind="learn")
        elif i == 3:
            canvas.box(mid, y, 150, 48, words=[f"max pool {times(pool)}", "same grid"], kind="pool")
        if len(words) == 2 or i == 3:
            canvas.arrow((mid + 150, y + 24), (right, y + 24))
        canvas.box(right, y, 150, 48, words=words[-1], kind="learn")
        canvas.arrow((right + 150, y + 24), (right + 186, y + 24), (right + 186, 178), (628, 178))
        canvas.text(right + 156, y + 16, str(units[-1][1][0]), kind="faint", small=True)
    canvas.box(628, 154, 68, 48, words=["join"], kind="join")
    canvas.arrow((696, 178), (716, 178))
    canvas.box(716, 145, 112, 66, words=["map", *lines(output)])
    canvas.legend(
        336,
        data="map",
        learn="convolution, norm, ReLU",
        pool="pool",
        join="side by side, by channels",
    )
    return canvas.svg()


def _tile(canvas: Canvas, x: float, y: float, name: str, shape: Shape, kind: str) -> None:
    canvas.box(x, y, 112, 66, words=[name, f"{shape[0]} channels", times(shape[1:])], kind=kind)


def _tiles() -> list[tuple[str, Shape, str]]:
    """(name, map, colour) from the clip to the feature."""
    found = maps(RGB)
    tiles: list[tuple[str, Shape, str]] = [("clip", clip_shape(RGB), "data")]
    for name in STAGES:
        kind = (
            "pool" if name.startswith("pool") else "join" if name.startswith("mixed") else "learn"
        )
        tiles.append((name, found[name], kind))
    tiles.append(("grid", found["grid"], "pool"))
    return tiles


def _network() -> Canvas:
    tiles = _tiles()
    per_row, step, top = 6, 136, 62
    rows = -(-len(tiles) // per_row)
    canvas = Canvas(
        top + rows * 104 + 96,
        title="Inception-v1 I3D",
        about="All stages with their channels and the size of their maps, for a clip of its size.",
    )
    canvas.heading("Inception-v1 I3D, stage by stage")
    canvas.text(20, 50, "channels, then time×height×width", kind="faint", small=True)
    for i, (name, shape, kind) in enumerate(tiles):
        row, column = divmod(i, per_row)
        x, y = 20 + column * step, top + row * 104
        _tile(canvas, x, y, name, shape, kind)
        if i + 1 == len(tiles):
            break
        if column < per_row - 1:
            canvas.arrow((x + 112, y + 33), (x + step, y + 33))
        else:
            down = y + 85
            canvas.arrow((x + 56, y + 66), (x + 56, down), (76, down), (76, y + 104))
    classifier = network(RGB).classifier
    window = times(_head_window())
    y = top + rows * 104
    canvas.text(
        20, y + 14,
        f"grid: average over {window}, stride one. pool: its mean, {maps(RGB)['pool'][0]} numbers: "
        "the row of features.", small=True,
    )  # fmt: skip
    canvas.text(
        20, y + 34,
        f"classifier: {classifier.in_features} → {classifier.out_features} class scores.",
        small=True,
    )  # fmt: skip
    canvas.legend(
        y + 74, data="clip", learn="convolution, norm, ReLU", pool="pool", join="inception block"
    )
    return canvas


class _Whole(nn.Module):
    """A network as one call, for its pools."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.model(clip)


def _head_window() -> Shape:
    """The last pool that the network calls."""
    return pool_kernels(_Whole(network(RGB)), clip_shape(RGB))[-1]


def network_svg() -> str:
    return _network().svg()


def inflation() -> str:
    flat = network(IMAGE).stem.conv.weight.shape
    deep = network(VIDEO).stem.conv.weight.shape
    t, k = deep[2], flat[-1]
    assert inflate_kernel(torch.zeros(flat, device="meta"), t).shape == deep
    canvas = Canvas(
        318,
        title="Inflation",
        about="A kernel of an image network is repeated along time and divided by the repetitions.",
    )
    canvas.heading("Inflation: a picture kernel becomes a video kernel")
    cell, top = 14, 96

    def slab(x: float, y: float, kind: str) -> None:
        canvas.rect(x, y, k * cell, k * cell, kind=kind)
        for i in range(1, k):
            canvas.line((x + i * cell, y), (x + i * cell, y + k * cell), kind="thin")
            canvas.line((x, y + i * cell), (x + k * cell, y + i * cell), kind="thin")

    canvas.text(20, 72, f"image network, {times((k, k))}", bold=True)
    slab(20, top, "learn")
    canvas.text(20, top + k * cell + 26, f"weights {list(flat[:2])} × {times((k, k))}", small=True)
    canvas.text(20, top + k * cell + 46, "one value w per cell", kind="faint", small=True)
    canvas.arrow((140, top + 49), (290, top + 49))
    canvas.text(215, top + 36, f"repeat {t} times,", anchor="middle", small=True)
    canvas.text(215, top + 72, f"divide by {t}", anchor="middle", small=True)
    canvas.text(310, 72, f"video network, {times(deep[2:])}", bold=True)
    for i in reversed(range(t)):
        slab(310 + i * 32, top + i * 9, "learn")
    end = top + k * cell + (t - 1) * 9
    canvas.text(310, end + 26, f"weights {list(deep[:2])} × {times(deep[2:])}", small=True)
    canvas.text(310, end + 46, f"w / {t} in each of the {t} slices", kind="faint", small=True)
    canvas.text(594, 72, "a still video, the same map", bold=True)
    words = [
        f"Σ over {t} frames of (w / {t}) · x",
        "= w · x,",
        "so the video network starts",
        "where the image network ended,",
        "and learns motion from there.",
    ]
    for i, line in enumerate(words):
        canvas.text(594, top + 14 + i * 22, line, small=True)
    canvas.text(20, 300, f"drawn: the stem of {IMAGE} and of {VIDEO}", kind="faint", small=True)
    return canvas.svg()


def two_stream() -> str:
    canvas = Canvas(
        300,
        title="Two streams",
        about="One network sees the frames, a second one optical flow; their logits are averaged.",
    )
    canvas.heading("Two streams: what things look like, and how they move")
    canvas.box(20, 130, 84, 56, words=["video"])
    for y, arch, name in ((66, RGB, "frames"), (194, FLOW, "optical flow")):
        clip, classifier = clip_shape(arch), network(arch).classifier
        canvas.arrow((104, 158), (120, 158), (120, y + 28), (140, y + 28))
        canvas.box(140, y, 142, 56, words=[name, cells(clip)])
        canvas.arrow((282, y + 28), (306, y + 28))
        canvas.box(306, y, 130, 56, words=["I3D", "of its own"], kind="learn")
        canvas.arrow((436, y + 28), (460, y + 28))
        canvas.box(460, y, 112, 56, words=["pool", f"{maps(arch)['pool'][0]} numbers"], kind="pool")
        canvas.arrow((572, y + 28), (596, y + 28))
        canvas.box(
            596, y, 104, 56, words=["logits", f"{classifier.out_features} classes"], kind="learn"
        )
        side = y + 28
        canvas.arrow((700, side), (734, side), (734, 144 if y < 158 else 172))
    canvas.box(707, 144, 54, 28, words=["mean"], kind="join")
    canvas.arrow((761, 158), (778, 158))
    canvas.text(782, 163, "scores", small=True)
    both = maps(BOTH)["pool"][0]
    canvas.text(
        20, 282,
        f"Features of both streams side by side are {both} wide; the released pair was trained "
        "stream by stream.", kind="faint", small=True,
    )  # fmt: skip
    assert width_of("scores", SMALL) + 782 < WIDTH
    return canvas.svg()
