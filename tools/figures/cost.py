"""Accuracy against measured cost, one point per set of released weights for Kinetics-400."""

from __future__ import annotations

import math

from tools.figures.svg import SMALL, Canvas, width_of
from tools.tables import MAIN, costs

from tubelet.models import zoo
from tubelet.models.zoo import ZooEntry

GROUPS = {
    "data": ("C2D, I3D, Non-local", ("I3D-Inception", "C2D", "I3D-ResNet", "Non-local")),
    "learn": ("Slow", ("Slow-only",)),
    "join": ("SlowFast", ("SlowFast", "SlowFast-Multigrid")),
    "pool": ("X3D", ("X3D",)),
    "mix": ("MViT, Rev-MViT", ("MViT-v1", "MViT-v2", "Rev-MViT")),
}
LEFT, RIGHT, TOP, FLOOR = 64, 800, 70, 452
REFERENCE = "slow_r50_8x8.k400"
BESIDE = {"left": ("end", -9, 5), "right": ("start", 9, 5), "above": ("middle", 0, -10)}
LABELS = {
    "x3d_xs.k400": "right", "x3d_s.k400": "right", "x3d_m.k400": "above", "x3d_l.k400": "left",
    "i3d_inception_rgb_scratch.k400_jax": "right", "c2d_r50_8x8.k400_ptv": "left",
    "slowfast_r50_4x16.k400": "left", "slowfast_r101_50_50_16x8.k400_ptv": "right",
    "mvit_v1_b_16x4.k400_tv": "left", "mvit_v2_s_16x4.k400": "left",
    "mvit_v2_b_32x3.k400": "left", "mvit_v2_l_40x3.k400": "left",
}  # fmt: skip
"""Ids that are named in the picture, and on which side."""


def points() -> list[tuple[ZooEntry, float, bool]]:
    """(weights, cost relative to the reference, whether it was measured); flow left out.

    Only the families of GROUPS, whose cost was measured.
    """
    drawn = {family for _, families in GROUPS.values() for family in families}
    unit = costs()[REFERENCE]["gmac"]
    found: list[tuple[ZooEntry, float, bool]] = []
    for entry in zoo.table().entries.values():
        flow = entry.clip.channels == 2
        if entry.dataset != "kinetics400" or entry.facts.get("top1") is None or flow:
            continue
        if entry.family not in drawn:
            continue
        row = costs()[entry.id]
        ratio = row.get("ratio")
        found.append((entry, ratio or row["gmac"] / unit, ratio is not None))
    return found


def accuracy_cost() -> str:
    canvas = Canvas(
        536,
        title="Accuracy against cost",
        about="Published top-one accuracy on Kinetics against the cost of a clip on a CPU.",
    )
    drawn = points()
    canvas.heading("Accuracy against cost: released weights for Kinetics-400")
    canvas.text(
        20, 52, "top-one accuracy as published (%)", kind="faint", small=True,
    )  # fmt: skip
    least, most = min(p[1] for p in drawn), max(p[1] for p in drawn)
    low = 5 * math.floor(min(p[0].facts["top1"] for p in drawn) / 5)
    high = max(p[0].facts["top1"] for p in drawn)
    decades = (math.log10(least) - 0.1, math.log10(most) + 0.1)

    def place(cost: float, top1: float) -> tuple[float, float]:
        x = LEFT + (RIGHT - LEFT) * (math.log10(cost) - decades[0]) / (decades[1] - decades[0])
        return round(x, 1), round(FLOOR - (FLOOR - TOP) * (top1 - low) / (high - low), 1)

    for percent in range(low, math.ceil(high) + 1, 5):
        y = place(1, percent)[1]
        if y >= TOP - 1:
            canvas.line((LEFT, y), (RIGHT, y), kind="grid")
            canvas.text(LEFT - 8, y + 4, str(percent), anchor="end", kind="faint", small=True)
    canvas.line((LEFT, TOP), (LEFT, FLOOR), (RIGHT, FLOOR))
    for exponent in range(math.ceil(decades[0]), math.floor(decades[1]) + 1):
        for step in (1, 3):
            cost = step * 10**exponent
            x = place(cost, low)[0]
            if LEFT <= x <= RIGHT:
                canvas.line((x, FLOOR), (x, FLOOR + 5))
                canvas.text(x, FLOOR + 19, f"{cost:g}", anchor="middle", kind="faint", small=True)
    words = f"cost of a clip on the CPU, {REFERENCE} = {1}; hollow: not measured, by multiply-adds"
    canvas.text((LEFT + RIGHT) / 2, FLOOR + 40, words, anchor="middle", small=True)
    _points(canvas, drawn, place)
    canvas.legend(520, **{kind: words for kind, (words, _) in GROUPS.items()})
    return canvas.svg()


def _points(canvas: Canvas, drawn: list[tuple[ZooEntry, float, bool]], place: object) -> None:
    assert callable(place)
    kinds = {family: kind for kind, (_, families) in GROUPS.items() for family in families}
    for entry, cost, measured in sorted(drawn, key=lambda p: p[0].id in MAIN):
        x, y = place(cost, entry.facts["top1"])
        kind = kinds[entry.family]
        canvas.point(x, y, 6 if entry.id in MAIN else 3.5, kind=kind, hollow=not measured)
    for entry, cost, _ in drawn:
        side = LABELS.get(entry.id)
        if side:
            anchor, dx, dy = BESIDE[side]
            x, y = place(cost, entry.facts["top1"])
            name = entry.id.partition(".")[0]
            assert width_of(name, SMALL) < RIGHT - LEFT
            canvas.text(x + dx, y + dy, name, anchor=anchor, small=True)
