"""C2D, I3D-ResNet and Slow side by side; the non-local block; SlowFast."""

from __future__ import annotations

from typing import Any

from tools.figures.shapes import Shape, calls, clip_shape, maps, network, positions
from tools.figures.svg import Canvas, times

from tubelet.models.blocks.resnet import STAGES
from tubelet.models.slowfast import JOINED

C2D, I3D, SLOW = "c2d_r50_8x8", "i3d_r50_8x8", "slow_r50_8x8"
NONLOCAL = "i3d_nln_r50_8x8"
SLOWFAST = "slowfast_r50_8x8"


def _kernels(model: Any, stage: str) -> tuple[int, ...]:
    """Kernels in time: of the stem, or of the blocks of a stage."""
    if stage == "stem":
        return (model.stem.conv.kernel_size[0],)
    return tuple(block.conv_a.kernel_size[0] for block in getattr(model, stage))


def _lines(model: Any, stage: str) -> list[str]:
    kernels = _kernels(model, stage)
    if stage == "stem":
        return [times(model.stem.conv.kernel_size)]
    one = getattr(model, stage)[0]
    inner = f"{times(one.conv_b.kernel_size)}"
    return [f"{len(kernels)} blocks", f"time {', '.join(map(str, kernels))}", f"space {inner}"]


def c2d() -> str:
    columns = [("C2D", C2D), ("I3D-ResNet", I3D), ("Slow", SLOW)]
    top, high, step = 84, 66, 92
    canvas = Canvas(
        top + len(STAGES) * step + 78,
        title="C2D, I3D-ResNet and Slow",
        about="Three ResNets that differ in which convolutions reach over time.",
    )
    canvas.heading("Three ResNets: which convolutions reach over time")
    clip = times(clip_shape(C2D))
    canvas.text(20, 52, f"clip {clip}; stages from top to bottom", kind="faint", small=True)
    for i, (name, arch) in enumerate(columns):
        x = 128 + i * 236
        model, found = network(arch), maps(arch)
        canvas.text(x + 106, 74, name, anchor="middle", bold=True)
        for j, stage in enumerate(STAGES):
            y = top + j * step
            reach = max(_kernels(model, stage)) > 1
            canvas.box(x, y, 212, high, kind="mix" if reach else "learn")
            lines = _lines(model, stage)
            for k, line in enumerate(lines):
                canvas.text(
                    x + 12, y + 38 - (len(lines) - 1) * 9 + k * 18, line, small=k > 0, bold=k == 0
                )
            shape = found[stage]
            canvas.text(x + 202, y + 24, f"{shape[0]} @", anchor="end", kind="faint", small=True)
            canvas.text(x + 202, y + 42, times(shape[1:]), anchor="end", kind="faint", small=True)
            if i == 0:
                canvas.text(20, y + 38, stage, bold=True)
            if j + 1 < len(STAGES):
                canvas.arrow((x + 60, y + high), (x + 60, y + step))
            pool = model.time_pool.kernel_size
            if stage == "res2" and max(pool) > 1:
                canvas.text(x + 72, y + 83, f"max pool {times(pool)}", kind="pool", small=True)
    y = top + len(STAGES) * step
    wide = maps(C2D)["pool"][0]
    canvas.text(
        20,
        y + 6,
        f"pool: the mean of the last map over time and space, {wide} numbers.",
        small=True,
    )
    canvas.legend(y + 52, learn="a stage in space only", mix="a stage with kernels over time")
    return canvas.svg()


def nonlocal_block() -> str:
    name = next(n for n, m in network(NONLOCAL).named_modules() if type(m).__name__ == "NonLocal")
    block, seen = network(NONLOCAL).get_submodule(name), calls(NONLOCAL)
    x, g = seen[name].inputs, seen[f"{name}.g"].output
    n, m, d = positions(x), positions(g), g[0]
    stage, index = name.split(".nonlocal")
    canvas = Canvas(
        440,
        title="A non-local block",
        about="Every position of a map gathers from all positions of all times.",
    )
    canvas.heading(f"A non-local block, here behind block {index} of {stage}")
    canvas.text(20, 52, f"{NONLOCAL}; channels, then time×height×width", kind="faint", small=True)
    canvas.box(20, 209, 112, 66, words=["x", f"{x[0]} channels", times(x[1:])])
    for y, part in ((114, "theta"), (218, "phi"), (322, "g")):
        greek = {"theta": "θ", "phi": "φ", "g": "g"}[part]
        conv = getattr(block, part)
        out = seen[f"{name}.{part}"].output
        pooled = part != "theta"
        canvas.arrow((132, 242), (148, 242), (148, y + 24), (162 if pooled else 282, y + 24))
        if pooled:
            pool = times(block.pool.kernel_size)
            canvas.box(162, y, 100, 48, words=["max pool", pool], kind="pool")
            canvas.arrow((262, y + 24), (282, y + 24))
        words = [f"{greek}  {times(conv.kernel_size)}", f"{out[0]} channels"]
        canvas.box(282, y, 112, 48, words=words, kind="learn")
    canvas.arrow((394, 138), (500, 138), (500, 164))
    canvas.arrow((394, 242), (500, 242), (500, 216))
    canvas.text(402, 130, f"{n}×{d}", kind="faint", small=True)
    canvas.text(402, 262, f"{d}×{m}", kind="faint", small=True)
    canvas.box(432, 164, 136, 52, words=["softmax", "θ · φ / √d"], kind="mix")
    canvas.arrow((568, 190), (606, 190), (606, 320))
    canvas.text(614, 254, f"{n}×{m}", kind="faint", small=True)
    canvas.arrow((394, 346), (556, 346))
    canvas.text(402, 338, f"{m}×{d}", kind="faint", small=True)
    canvas.box(556, 320, 102, 52, words=["weighted", "sum y"], kind="mix")
    canvas.arrow((658, 346), (684, 346))
    words = [f"W  {times(block.out.kernel_size)}", "norm"]
    canvas.box(684, 320, 96, 52, words=words, kind="learn")
    canvas.arrow((732, 320), (732, 201))
    canvas.sign(732, 190)
    canvas.arrow((76, 209), (76, 88), (732, 88), (732, 179))
    canvas.text(92, 80, "skip: a fresh block changes nothing, its last norm is zero", small=True)
    canvas.arrow((743, 190), (770, 190))
    canvas.text(778, 195, "z", bold=True)
    canvas.text(20, 398, f"{n} positions ask, {m} answer, with {d} channels.", small=True)
    canvas.legend(
        424, data="map", learn="convolution, norm", pool="pool", join="sum",
        mix="every position with every one",
    )  # fmt: skip
    return canvas.svg()


def _grid(shape: Shape) -> list[str]:
    return [f"{shape[0]}", times(shape[1:])]


def slowfast() -> str:
    model, found, seen = network(SLOWFAST), maps(SLOWFAST), calls(SLOWFAST)
    clip = model.clip
    canvas = Canvas(
        418,
        title="SlowFast",
        about="A slow pathway with many channels and a fast one with few; fast feeds slow.",
    )
    canvas.heading("SlowFast: few frames with many channels, many frames with few")
    canvas.text(20, 52, f"{SLOWFAST}; channels, then time×height×width", kind="faint", small=True)
    slow_y, fast_y, step = 92, 252, 122
    canvas.box(16, slow_y, 88, 60, words=["Slow", f"{clip.frames // clip.alpha} frames"])
    canvas.box(16, fast_y, 88, 60, words=["Fast", f"{clip.frames} frames"])
    for i, stage in enumerate(STAGES):
        x = 128 + i * step
        canvas.box(x, slow_y, 92, 60, words=[stage, *_grid(found[f"{stage}_slow"])], kind="learn")
        canvas.box(x, fast_y, 92, 60, words=[stage, *_grid(found[f"{stage}_fast"])], kind="learn")
        before = 104 if i == 0 else x - step + 92
        canvas.arrow((before, slow_y + 30), (x, slow_y + 30))
        canvas.arrow((before, fast_y + 30), (x, fast_y + 30))
        if stage not in JOINED:
            continue
        lateral = model.lateral[stage]
        out = seen[f"lateral.{stage}"].output
        middle = x + 107
        canvas.arrow((x + 46, fast_y), (x + 46, 214), (middle, 214), (middle, slow_y + 32))
        canvas.text(x + 40, 232, f"{times(lateral.conv.kernel_size)}", anchor="end", small=True)
        canvas.text(middle + 6, 192, f"+{out[0]}", kind="join", bold=True)
    stride = model.lateral[JOINED[0]].conv.stride[0]
    words = f"lateral connection: convolution over time, stride {stride}, norm, ReLU; joins Slow's"
    canvas.text(128, 336, f"{words} channels", small=True)
    slow, fast = found["res5_slow"], found["res5_fast"]
    x = 128 + 5 * step
    canvas.arrow((x - 30, slow_y + 30), (x - 4, slow_y + 30))
    canvas.arrow((x - 30, fast_y + 30), (x - 4, fast_y + 30))
    canvas.box(x - 4, slow_y, 70, 60, words=["mean", f"{slow[0]}"], kind="pool")
    canvas.box(x - 4, fast_y, 70, 60, words=["mean", f"{fast[0]}"], kind="pool")
    canvas.arrow((x + 31, slow_y + 60), (x + 31, 180))
    canvas.arrow((x + 31, fast_y), (x + 31, 228))
    canvas.box(x - 4, 180, 70, 48, words=["pool", f"{found['pool'][0]}"], kind="join")
    share = found["res5_slow"][0] // found["res5_fast"][0]
    canvas.text(
        20, 364,
        f"α = {clip.alpha}: Fast sees {clip.alpha} times the frames. β: it has one in {share} of "
        "the channels, so it costs little.", small=True,
    )  # fmt: skip
    canvas.legend(402, data="frames", learn="a stage", pool="mean", join="side by side")
    return canvas.svg()
