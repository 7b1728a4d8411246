"""Rev-MViT: the reversible block, its inverse, and the network around it."""

from __future__ import annotations

from tools.figures.shapes import calls, clip_shape, maps, network
from tools.figures.svg import Canvas, times

ARCH = "rev_mvit_b_16x4"


def streams() -> str:
    canvas = Canvas(
        470,
        title="Reversible blocks",
        about="A block of two streams, the same block backwards, and the network made of them.",
    )
    canvas.heading(f"Reversible blocks, here of {ARCH}")
    _block(canvas, 20, forwards=True)
    _block(canvas, 440, forwards=False)
    _network(canvas, 278)
    canvas.legend(
        454, mix="F: norm, attention", learn="G: norm, MLP", join="sum, fusion", pool="mean"
    )
    return canvas.svg()


def _block(canvas: Canvas, x: float, *, forwards: bool) -> None:
    words = "forwards" if forwards else "backwards: the inputs from the outputs"
    canvas.text(x, 62, words, bold=True, small=True)
    names = ("x", "y") if forwards else ("y", "x")
    top, low = 108, 200
    sign = "+" if forwards else "−"
    canvas.text(x, top + 5, f"{names[0]}₁", bold=True)
    canvas.text(x, low + 5, f"{names[0]}₂", bold=True)
    canvas.text(x + 344, top + 5, f"{names[1]}₁", bold=True)
    canvas.text(x + 344, low + 5, f"{names[1]}₂", bold=True)
    # forwards F comes first, backwards G
    first, second = ("F", "G") if forwards else ("G", "F")
    for i, letter in enumerate((first, second)):
        centre = x + 110 + i * 140
        up = letter == "F"
        canvas.box(centre - 26, 136, 52, 36, words=[letter], kind="mix" if up else "learn")
        if up:
            canvas.arrow((centre, low), (centre, 172))
            canvas.arrow((centre, 136), (centre, top + 11))
            canvas.sign(centre, top, sign)
            canvas.dot(centre, low, 2.5, kind="tip")
        else:
            canvas.arrow((centre, top), (centre, 136))
            canvas.arrow((centre, 172), (centre, low - 11))
            canvas.sign(centre, low, sign)
            canvas.dot(centre, top, 2.5, kind="tip")
    f, g = (x + 110, x + 250) if forwards else (x + 250, x + 110)
    canvas.arrow((x + 26, top), (f - 11, top))
    canvas.arrow((f + 11, top), (x + 338, top))
    canvas.arrow((x + 26, low), (g - 11, low))
    canvas.arrow((g + 11, low), (x + 338, low))


def _network(canvas: Canvas, y: float) -> None:
    model, found = network(ARCH), maps(ARCH)
    transitions = model.config.transitions
    starts = (0, *(b + 1 for b in transitions))
    ends = (*transitions, len(model.blocks))
    canvas.text(
        20,
        y - 18,
        "the network: runs of reversible blocks between transitions",
        bold=True,
        small=True,
    )
    canvas.box(16, y + 18, 92, 56, words=["clip", times(clip_shape(ARCH)[1:])])
    x = 122.0
    canvas.arrow((108, y + 46), (x, y + 46))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        shape = found[f"block{start}"]
        words = ["two streams", f"of {shape[0] // 2}", times(shape[1:])]
        canvas.box(
            x, y, 92, 92,
            words=[f"{end - start} block{'s' * (end - start > 1)}", *words], kind="learn",
        )  # fmt: skip
        x += 92
        if i < len(transitions):
            seen = calls(ARCH)[f"blocks.{end}"]
            canvas.arrow((x, y + 46), (x + 13, y + 46))
            canvas.box(
                x + 13,
                y + 12,
                62,
                68,
                words=["fuse", f"{seen.inputs[-1]}", f"→ {seen.output[-1]}"],
                kind="join",
            )
            canvas.arrow((x + 75, y + 46), (x + 88, y + 46))
            x += 88
    canvas.arrow((x, y + 46), (x + 12, y + 46))
    canvas.box(x + 12, y + 18, 62, 56, words=["pool", f"{found['pool'][0]}"], kind="pool")
    canvas.text(
        20, y + 120,
        "Between transitions training keeps no activations: inputs are computed from outputs.",
        small=True,
    )  # fmt: skip
    canvas.text(
        20, y + 140,
        f"pool: the normed mean of both streams side by side, {found['pool'][0]} numbers.",
        small=True,
    )  # fmt: skip
