"""A small video without anybody's rights on it: four scenes, the first one comes back.

python examples/draw_clip.py clip.mp4

0 s juggling   6 s a swinging pendulum   12 s juggling again   18 s a skipping rope
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import cos, pi, sin
from pathlib import Path

import numpy as np

from tubelet.decode.encode import Encoding, encode

HEIGHT, WIDTH, FPS, SCENE = 240, 320, 25, 6
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
SKIN, SHIRT, BALL = (224, 178, 140), (60, 96, 180), (225, 70, 50)


def disc(picture: np.ndarray, x: float, y: float, radius: float, colour: tuple) -> None:
    blend(picture, np.hypot(X - x, Y - y) - radius, colour)


def stroke(picture: np.ndarray, a: tuple, b: tuple, width: float, colour: tuple) -> None:
    """A line with round ends."""
    (x0, y0), (x1, y1) = a, b
    length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-6)
    t = np.clip(((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / length, 0, 1)
    blend(picture, np.hypot(X - x0 - t * (x1 - x0), Y - y0 - t * (y1 - y0)) - width / 2, colour)


def blend(picture: np.ndarray, distance: np.ndarray, colour: tuple) -> None:
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    picture[:] = picture * (1 - cover) + np.asarray(colour, np.float32) * cover


def room(top: tuple, bottom: tuple) -> np.ndarray:
    share = (Y / HEIGHT)[..., None]
    picture = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
    picture[190:] *= 0.72
    return picture


def person(picture: np.ndarray, left: tuple, right: tuple, lift: float = 0) -> None:
    stroke(picture, (148, 205 - lift), (152, 160 - lift), 11, (50, 50, 60))
    stroke(picture, (172, 205 - lift), (168, 160 - lift), 11, (50, 50, 60))
    stroke(picture, (160, 155 - lift), (160, 115 - lift), 34, SHIRT)
    for side, hand in ((-17, left), (17, right)):
        stroke(picture, (160 + side, 108 - lift), hand, 9, SKIN)
    disc(picture, 160, 80 - lift, 17, SKIN)


def juggling(t: float) -> np.ndarray:
    picture = room((238, 226, 205), (206, 186, 158))
    sway = 6 * sin(2 * pi * t * 1.5)
    person(picture, (122, 138 + sway), (198, 138 - sway))
    for k in range(3):
        phase = (t * 0.75 + k / 3) % 1
        there, back = phase < 0.5, phase * 2 % 1
        x = 122 + 76 * back if there else 198 - 76 * back
        disc(picture, x, 132 - 440 * back * (1 - back), 9, BALL)
    return picture


def pendulum(t: float) -> np.ndarray:
    picture = room((26, 34, 52), (52, 62, 84))
    angle = 0.9 * cos(2 * pi * t / 1.8)
    end = (160 + 150 * sin(angle), 24 + 150 * cos(angle))
    stroke(picture, (160, 24), end, 3, (190, 190, 200))
    disc(picture, *end, 20, (240, 190, 60))
    return picture


def skipping(t: float) -> np.ndarray:
    picture = room((178, 214, 240), (140, 190, 120))
    turn = 2 * pi * t * 1.6
    lift = max(0.0, 26 * sin(turn - pi / 2))
    person(picture, (118, 140 - lift), (202, 140 - lift), lift)
    middle = (160, 140 - lift + 95 * cos(turn))
    for hand in ((118, 140 - lift), (202, 140 - lift)):
        stroke(picture, hand, (hand[0] + (160 - hand[0]) / 3, middle[1]), 3, (120, 40, 60))
        stroke(picture, (hand[0] + (160 - hand[0]) / 3, middle[1]), middle, 3, (120, 40, 60))
    return picture


def frames(scenes: tuple = (juggling, pendulum, juggling, skipping)) -> Iterator[np.ndarray]:
    for scene in scenes:
        for i in range(SCENE * FPS):
            yield np.clip(scene(i / FPS), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    clip = Path(sys.argv[1])
    clip.parent.mkdir(parents=True, exist_ok=True)
    encode(frames(), clip, encoding=Encoding("h264"))
