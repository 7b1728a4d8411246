"""MViT: pooling attention, relative positions, residual pooling."""

from __future__ import annotations

from typing import Any

from tools.figures.shapes import Call, calls, network
from tools.figures.svg import Canvas, times

from tubelet.models.blocks.positions import table_rows

V1, V2 = "mvit_v1_b_16x4", "mvit_v2_s_16x4"


def _transition(arch: str) -> int:
    """The first block that pools its queries."""
    config = network(arch).config
    return next(b for b, stride in sorted(config.trunk.q_strides.items()) if max(stride) > 1)


def pooling_attention() -> str:
    index = _transition(V2)
    name = f"blocks.{index}.attention"
    seen, attention = calls(V2), network(V2).get_submodule(name)
    inputs, output = seen[name].inputs, seen[name].output
    canvas = Canvas(
        462,
        title="Pooling attention",
        about="Queries, keys and values are pooled on their grid before they meet.",
    )
    canvas.heading(f"Pooling attention, here block {index} of {V2}")
    words = "tokens × channels; the class token is one of the tokens and is not pooled"
    canvas.text(20, 52, words, kind="faint", small=True)
    canvas.box(20, 176, 110, 56, words=["tokens", times(inputs)])
    for letter, y in (("q", 80), ("k", 178), ("v", 276)):
        call, grids = (seen[f"{name}.pool_{letter}{part}"] for part in ("", ".conv"))
        canvas.arrow((130, 204), (146, 204), (146, y + 26), (162, y + 26))
        heads, _, width = call.inputs
        words = [f"linear {letter}", f"{heads} heads of {width}"]
        canvas.box(162, y, 120, 52, words=words, kind="learn")
        canvas.arrow((282, y + 26), (306, y + 26))
        stride = times(getattr(attention, f"pool_{letter}").conv.stride)
        canvas.box(306, y, 152, 52, words=[f"pool {letter}", f"stride {stride}, norm"], kind="pool")
        grid = f"{times(grids.inputs[1:])} → {times(grids.output[1:])}"
        canvas.text(382, y + 70, grid, anchor="middle", kind="faint", small=True)
    nq, nk = (seen[f"{name}.pool_{x}"].output[1] for x in "qk")
    canvas.arrow((458, 106), (566, 106), (566, 130))
    canvas.arrow((458, 204), (566, 204), (566, 182))
    canvas.box(498, 130, 136, 52, words=["softmax", "q · k / √d + b"], kind="mix")
    canvas.text(574, 204, f"{nq}×{nk}", kind="faint", small=True)
    canvas.arrow((634, 156), (680, 156), (680, 276))
    canvas.arrow((458, 302), (628, 302))
    canvas.box(628, 276, 104, 52, words=["weighted", "sum of v"], kind="mix")
    canvas.arrow((680, 328), (680, 379))
    canvas.sign(680, 390)
    canvas.arrow((566, 106), (756, 106), (756, 390), (691, 390), dashed=True)
    canvas.text(644, 98, "residual pooling", small=True)
    canvas.arrow((669, 390), (606, 390))
    out = attention.out
    words = ["linear", f"{out.in_features} → {out.out_features}"]
    canvas.box(478, 366, 128, 48, words=words, kind="learn")
    canvas.arrow((478, 390), (430, 390))
    canvas.box(306, 364, 124, 52, words=["tokens", times(output)])
    canvas.text(20, 396, "b: relative positions", kind="faint", small=True)
    canvas.legend(
        446,
        data="tokens",
        learn="linear",
        pool="pool",
        mix="every query with every key",
        join="sum",
    )
    return canvas.svg()


def _relative(canvas: Canvas, x: float, axis: str, relative: Any) -> None:
    """The rows of one axis' table for every query and key."""
    rows = table_rows(relative.q_grid["thw".index(axis)], _keys(relative, axis))
    q, k = rows.shape
    cell, top = 24, 104
    word = {"t": "time", "h": "height", "w": "width"}[axis]
    canvas.text(x, 70, f"{word}: {q} query cells, {k} key cells", bold=True, small=True)
    for i in range(q):
        for j in range(k):
            row = int(rows[i, j])
            middle = row == int(rows.max()) // 2
            canvas.rect(x + j * cell, top + i * cell, cell, cell, kind="join" if middle else "data")
            canvas.text(
                x + j * cell + cell / 2, top + i * cell + 17, str(row), anchor="middle", small=True
            )
    canvas.text(x, 94, "keys →", kind="faint", small=True)
    table = relative.get_parameter(axis)
    canvas.text(
        x, top + q * cell + 20, f"table: {table.shape[0]} rows of {table.shape[1]}", small=True
    )


def _keys(relative: Any, axis: str) -> int:
    return relative.get_buffer(f"rows_{axis}").shape[1]


def _cells(model: Any, block: int) -> tuple[int, int]:
    """Query and key cells along the height."""
    relative = model.blocks[block].attention.relative
    return relative.q_grid[1], _keys(relative, "h")


def relative_positions() -> str:
    model = network(V2)
    last = len(model.blocks) - 1
    coarse = min(
        (i for i in range(last) if _cells(model, i)[0] > _cells(model, i)[1]),
        key=lambda i: _cells(model, i)[0],
    )
    canvas = Canvas(
        520,
        title="Relative positions",
        about="Which row of its table every pair of a query and a key uses, axis by axis.",
    )
    canvas.heading(f"Relative positions of {V2}: the row of the table for each pair")
    _relative(canvas, 24, "t", model.blocks[last].attention.relative)
    _relative(canvas, 270, "h", model.blocks[last].attention.relative)
    _relative(canvas, 516, "h", model.blocks[coarse].attention.relative)
    lines = [
        "b(i, j) = q(i) · R time[i, j]",
        "        + q(i) · R height[i, j]",
        "        + q(i) · R width[i, j]",
    ]
    for i, line in enumerate(lines):
        canvas.text(24, 376 + i * 22, line.strip(), small=True)
    canvas.text(270, 376, f"left and middle: block {last}", small=True)
    canvas.text(270, 398, f"right: block {coarse}, where keys are", small=True)
    canvas.text(270, 420, "coarser; steps are the finer ones", small=True)
    canvas.legend(500, data="row of the table", join="the same place: no distance")
    return canvas.svg()


def residual_pooling() -> str:
    canvas = Canvas(
        258,
        title="Residual pooling",
        about="Version two of MViT adds the pooled queries to the result of attention.",
    )
    canvas.heading("Residual pooling: what version two adds")
    for i, (arch, version) in enumerate(((V1, "version one"), (V2, "version two"))):
        index = _transition(arch)
        name = f"blocks.{index}.attention"
        call: Call = calls(arch)[f"{name}.pool_q"]
        x = 20 + i * 416
        residual = network(arch).get_submodule(name).residual
        canvas.text(x, 66, f"{version}, {arch}", bold=True, small=True)
        heads, tokens, width = call.output
        words = ["pooled q", f"{tokens} tokens", f"{heads} heads of {width}"]
        canvas.box(x, 96, 122, 60, words=words, kind="pool")
        canvas.arrow((x + 122, 126), (x + 152, 126))
        canvas.box(x + 152, 96, 106, 60, words=["attention", "with k and v"], kind="mix")
        canvas.arrow((x + 258, 126), (x + 285 if residual else x + 314, 126))
        if residual:
            canvas.sign(x + 296, 126)
            canvas.arrow((x + 307, 126), (x + 324, 126))
            canvas.arrow((x + 61, 156), (x + 61, 190), (x + 296, 190), (x + 296, 137))
            canvas.text(
                x + 178, 208, "patches only, not the class token", anchor="middle", small=True
            )
        left = x + 324 if residual else x + 314
        canvas.box(left, 96, 70, 60, words=["linear"], kind="learn")
    canvas.legend(242, pool="pooled", mix="attention", join="sum", learn="linear")
    return canvas.svg()
