"""X3D: what is expanded, variant by variant, and the network that comes out."""

from __future__ import annotations

from tools.figures.shapes import calls, maps, network, parameters_m
from tools.figures.svg import Canvas, times

from tubelet.models.x3d import STAGES, VARIANTS, stage_widths

DRAWN = "x3d_m"


def expansion() -> str:
    canvas = Canvas(
        546,
        title="The expansion of X3D",
        about="Six numbers per variant, and the stages of one of them.",
    )
    canvas.heading("X3D: one tiny network, expanded one axis at a time")
    rows = [
        ("frames", "γ t", [c.clip.frames for c in VARIANTS.values()]),
        ("interval", "γ τ", [c.clip.interval for c in VARIANTS.values()]),
        ("crop", "γ s", [c.clip.crop for c in VARIANTS.values()]),
        ("width of the last stage", "γ w", [stage_widths(c)[-1] for c in VARIANTS.values()]),
        ("blocks", "γ d", [_blocks(arch) for arch in VARIANTS]),
        ("bottleneck", "γ b", [c.bottleneck for c in VARIANTS.values()]),
        ("parameters, millions", "", [round(parameters_m(arch), 1) for arch in VARIANTS]),
    ]
    left, step = 240, 118
    for j, arch in enumerate(VARIANTS):
        canvas.text(left + j * step, 62, arch, bold=True)
    for i, (words, symbol, values) in enumerate(rows):
        y = 92 + i * 32
        canvas.text(20, y, words, small=True)
        canvas.text(198, y, symbol, kind="faint", small=True)
        for j, value in enumerate(values):
            x, wide = left + j * step, 58 * value / max(values)
            canvas.rect(x, y - 13, wide, 16, kind="learn" if symbol else "join")
            canvas.text(x + wide + 5, y, f"{value:g}", small=True)
    _stages(canvas, 336)
    _block(canvas, 446)
    canvas.legend(530, learn="convolution", pool="mean", mix="squeeze and excite", join="cost")
    return canvas.svg()


def _blocks(arch: str) -> int:
    model = network(arch)
    return sum(len(getattr(model, stage)) for stage in STAGES if stage.startswith("res"))


def _stages(canvas: Canvas, y: float) -> None:
    model, found = network(DRAWN), maps(DRAWN)
    canvas.text(
        20, y, f"{DRAWN}: stages with channels and time×height×width", bold=True, small=True
    )
    tiles = [(name, found[name], "learn") for name in STAGES]
    for i, (name, shape, kind) in enumerate(tiles):
        x = 20 + i * 118
        words = [name, f"{shape[0]}", times(shape[1:])]
        canvas.box(x, y + 12, 100, 60, words=words, kind=kind)
        canvas.arrow((x + 100, y + 42), (x + 118, y + 42))
    window = model.window
    canvas.box(
        728, y + 12, 96, 60, words=["mean", times(window), f"→ {found['pool'][0]}"], kind="pool"
    )


def _block(canvas: Canvas, y: float) -> None:
    name, block = next((n, m) for n, m in network(DRAWN).named_modules() if n == f"{STAGES[1]}.{0}")
    seen = calls(DRAWN)
    canvas.text(20, y, f"a block, here the first of {STAGES[1]}", bold=True, small=True)
    parts = [
        ("conv_a", times(block.conv_a.kernel_size), "learn"),
        ("conv_b", f"{times(block.conv_b.kernel_size)} alone", "learn"),
        ("se", f"to {seen[f'{name}.se.reduce'].output[0]}", "mix"),
        ("conv_c", times(block.conv_c.kernel_size), "learn"),
    ]
    x = 20.0
    titles = {"conv_a": "widen", "conv_b": "channelwise", "se": "squeeze", "conv_c": "narrow"}
    for part, words, kind in parts:
        call = seen[f"{name}.{part}"]
        canvas.box(x, y + 12, 112, 48, words=[titles[part], words], kind=kind)
        canvas.text(x + 119, y + 30, f"{call.output[0]}", kind="faint", small=True)
        canvas.arrow((x + 112, y + 36), (x + 150, y + 36))
        x += 150
    canvas.sign(x + 11, y + 36)
    canvas.text(x + 30, y + 32, "plus the shortcut, ReLU;", small=True)
    canvas.text(x + 30, y + 50, "every other block squeezes", small=True)
