"""The pictures of docs/serve.md: drawn clips, extracted and served for real, in a real browser.

python -m tools.screenshots        needs chromium; the default model's weights are fetched
"""

import os
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from tubelet.decode.encode import Encoding, encode

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
HEIGHT, WIDTH = 240, 320
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
CLIPS = {
    "ball on hills": [("hills", "ball", 150)],
    "ball at night": [("night", "ball", 130)],
    "bar turns": [("tiles", "bar", 140)],
    "ball, then bar": [("hills", "ball", 100), ("tiles", "bar", 100)],
    "square grows": [("stripes", "square", 140)],
    "crossing": [("tiles", "crossing", 120)],
    "square, ball, crossing": [
        ("stripes", "square", 90),
        ("night", "ball", 90),
        ("tiles", "crossing", 90),
    ],
    "bar at night": [("night", "bar", 120)],
}


def ground(kind: str, k: int) -> np.ndarray:
    if kind == "stripes":
        grey = ((X + Y + 2 * k) // 24 % 2) * 40 + 90
        return np.stack([grey * 0.8, grey, grey * 1.2], -1)
    if kind == "hills":
        picture = np.stack([140 - 0.3 * Y, 180 - 0.2 * Y, 230 - 0.1 * Y], -1)
        height = 70 - 20 * np.sin(X / 40 + k / 30)
        picture[height > HEIGHT - Y] = (70, 120, 60)
        return picture
    if kind == "night":
        picture = np.full((HEIGHT, WIDTH, 3), 25.0)
        stars = np.random.default_rng(3).integers(0, HEIGHT * WIDTH, 160)
        picture.reshape(-1, 3)[stars] = (230, 230, 200)
        return picture
    picture = np.full((HEIGHT, WIDTH, 3), 200.0)
    picture[(X // 40 % 2) == (Y // 40 % 2)] = (170, 160, 150)
    return picture


def draw(kind: str, k: int, picture: np.ndarray) -> None:
    if kind == "ball":
        x, y = 40 + (4 * k) % 240, 190 - abs(np.sin(k / 9)) * 130
        picture[(X - x) ** 2 + (Y - y) ** 2 < 26**2] = (230, 80, 40)
    elif kind == "bar":
        across = abs((X - 160) * np.sin(k / 12) - (Y - 120) * np.cos(k / 12))
        picture[(across < 12) & (np.hypot(X - 160, Y - 120) < 95)] = (240, 200, 60)
    elif kind == "square":
        side = 20 + 70 * abs(np.sin(k / 20))
        picture[(abs(X - 160) < side) & (abs(Y - 120) < side)] = (70, 140, 220)
    else:
        x = (6 * k) % 380 - 30
        picture[(abs(X - x) < 30) & (abs(Y - 150) < 22)] = (200, 50, 120)
        picture[(abs(X - (WIDTH - x)) < 18) & (abs(Y - 80) < 18)] = (60, 190, 120)


def make_clips(folder: Path) -> None:
    folder.mkdir()
    for name, parts in CLIPS.items():
        pictures = []
        for place, shape, frames in parts:
            for k in range(frames):
                picture = ground(place, k)
                draw(shape, k, picture)
                pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
        encode(pictures, folder / f"{name}.mp4", encoding=Encoding(fps=Fraction(25)))


def browse(page: Page) -> None:
    page.locator("#list a[title='square, ball, crossing']").click()
    page.locator(".timeline .band").first.wait_for()
    box = page.locator(".timeline").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    page.locator(".card").first.wait_for()


def look_at_the_map(page: Page) -> None:
    page.get_by_role("link", name="Map").click()
    page.locator(".legend li").first.wait_for()
    box = page.locator("canvas.map").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()


def shoot(address: str) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        for name, act in (("serve_browse", browse), ("serve_map", look_at_the_map)):
            act(page)
            page.mouse.move(4, 790)
            page.wait_for_timeout(3000)  # the pictures of the cards come one by one
            page.screenshot(path=PICTURES / f"{name}.png")
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        make_clips(Path(name) / "drawn")
        command = [sys.executable, "-m", "tubelet"]
        extract = ["extract", "drawn", "-o", "features", "--logits", "--window", "16"]
        subprocess.run([*command, *extract], cwd=name, check=True)
        server = subprocess.Popen(
            [*command, "serve", "features", "--port", "0"],
            cwd=name,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        try:
            assert server.stderr is not None
            shoot(server.stderr.readline().split()[-1])
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    main()
