"""Multigrid: the shapes of the long and the short cycle."""

from __future__ import annotations

from tools.figures.svg import Canvas, times

from tubelet.train.multigrid import Base, Multigrid, Plan, plan
from tubelet.train.schedule import LearningRate

BASE = Base(batch_size=64, frames=32, crop=224, interval=2, jitter=(256, 320), devices=8)
RATE = LearningRate(
    0.1, 239, policy="steps", steps=(0, 94, 154, 196), factors=(1, 0.1, 0.01, 0.001),
    warmup_epochs=34,
)  # fmt: skip
"""SlowFast's stepwise schedule on Kinetics (1912.00998, section 4)."""


def scheduled() -> Plan:
    return plan(BASE, RATE, Multigrid())


def cycles() -> str:
    drawn = scheduled()
    canvas = Canvas(
        466,
        title="Multigrid cycles",
        about="Phases of many small clips and of few large ones, at a constant cost per batch.",
    )
    canvas.heading("Multigrid: many small clips first, few large ones last")
    _long(canvas, drawn)
    _short(canvas, drawn)
    canvas.legend(
        450,
        pool="half the frames and less",
        learn="all frames",
        mix="short cycle",
        join="fine-tuning",
    )
    return canvas.svg()


def _long(canvas: Canvas, drawn: Plan) -> None:
    left, right, floor = 64, 816, 212
    end = drawn.phases[-1].end
    canvas.text(20, 56, "long cycle: clips per batch, as a multiple of the base batch", small=True)
    most = max(phase.multiplier for phase in drawn.phases)
    for phase in drawn.phases:
        x0, x1 = (left + (right - left) * epoch / end for epoch in (phase.start, phase.end))
        high = 130 * phase.multiplier / most
        last = phase is drawn.phases[-1]
        small = phase.frames < drawn.base.frames
        kind = "join" if last else "pool" if small else "learn"
        canvas.rect(x0, floor - high, x1 - x0 - 1, high, kind=kind)
        if x1 - x0 > 30:
            canvas.text(
                (x0 + x1) / 2, floor - high - 5, f"{phase.multiplier}×", anchor="middle", small=True
            )
    canvas.line((left, floor), (right, floor))
    for start in sorted({phase.start for phase in drawn.phases if phase.multiplier == most}):
        x = left + (right - left) * start / end
        canvas.text(x, floor + 18, str(start), kind="faint", small=True)
    canvas.text(right, floor + 18, f"epoch {end}", anchor="end", kind="faint", small=True)
    first: dict[int, str] = {}
    for phase in drawn.phases:
        first.setdefault(phase.multiplier, f"{phase.multiplier}× of {phase.frames} @ {phase.crop}²")
    words = ", ".join(first.values())
    canvas.text(20, floor + 44, f"clips: {words} (frames @ crop²)", small=True)


def _short(canvas: Canvas, drawn: Plan) -> None:
    top = 284
    shapes = drawn.phases[-1].shapes
    canvas.text(20, top, "short cycle: batch after batch, here of the last phase", small=True)
    x = 20.0
    for shape in (*shapes, *shapes):
        side = shape.crop * 0.36
        y = top + 100 - side
        canvas.rect(x, y, side, side, kind="mix")
        canvas.text(x, top + 118, f"{shape.batch} clips", small=True)
        canvas.text(x, top + 134, f"{shape.crop}²", kind="faint", small=True)
        x += max(side, 62) + 16
    base = drawn.base
    lines = [
        f"base: {base.batch_size // base.devices} clips of",
        f"{times((base.frames, base.crop, base.crop))} per device.",
        f"{drawn.volume_saving:.1f} times fewer pixels,",
        f"{drawn.iteration_saving:.1f} times fewer batches",
        f"for {drawn.base_epochs:g} base epochs.",
    ]
    for i, line in enumerate(lines):
        canvas.text(612, top + 24 + i * 22, line, small=True)
