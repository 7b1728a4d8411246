"""The wheel in a clean environment, away from the checkout: every verb runs (slow, `make package`).

The environment has torch, the wheel and what the wheel asks for, nothing else. Weights are drawn,
but for the README's first screen, which fetches the default network.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from tools.site import Runner

from tubelet.cli import VERBS

ROOT = Path(__file__).parents[1]
TORCH = os.environ.get("TORCH", f"torch=={torch.__version__.split('+')[0]}")

# In this order: a later line may use what an earlier one wrote.
NET = "-m x3d_xs.k400 --weights x3d_xs.safetensors"
COMMANDS = {
    "models": "models 'x3d*'",
    "presets": "presets",
    "plan": "plan clips --window 4 --stride 4 --rows -m x3d_xs.k400",
    "extract": f"extract clips -o out {NET} --logits",
    "classify": f"classify clips/a.mp4 {NET}",
    "show": "show out/a.npy",
    "status": "status out",
    "verify": "verify out",
    "map": "map out a 0 0.5",
    "search": "search out --like a@0",
    "report": "report out -o report.html",
    "compare": "compare out out",
    "pack": "pack out --layout actionformer -o packed",
    "merge": "merge out -o merged",
    "align": "align charades.txt --format charades-sta --features out -o aligned.jsonl",
    "probe": "probe out --labels labels.csv --folds 2",
    "convert": "convert x3d_xs.safetensors -o converted.safetensors",
    "train": "train recipe.py -o run",
    "evaluate": "evaluate run val -o scores",
    "check": "check --offline",
    "bench": "bench --help",
    "flow": "flow --help",  # needs an extra
    "serve": "serve --help",  # tried with its extra below
}
PREPARE = """
import os
import numpy as np, torch, tubelet
from safetensors.torch import save_file
from tubelet.decode.encode import Encoding, encode
draw = np.random.default_rng(0)
videos = "clips abcd train/x ab train/y cd val/x a val/y c".split()
for folder, names in zip(videos[::2], videos[1::2]):
    os.makedirs(folder)
    for name in names:
        pictures = list(draw.integers(0, 255, (16, 48, 64, 3), dtype=np.uint8))
        encode(pictures, f"{folder}/{name}.mp4", encoding=Encoding("mpeg4"))
torch.manual_seed(0)
save_file(tubelet.create_model("x3d_xs", weights=None).state_dict(), "x3d_xs.safetensors")
open("charades.txt", "w").write("a 0.0 0.4##somebody waits\\n")
open("labels.csv", "w").write("a x\\nb x\\nc y\\nd y\\n")
open("recipe.py", "w").write('''
from tubelet.train.config import Data, LearningRate, Network, TrainConfig
def recipe():
    network = Network("slow_small", frames=8, crop=32)
    rate = LearningRate(0.01, epochs=1)
    return TrainConfig(network=network, data=Data("train", val="val"), rate=rate, batch_size=2)
''')
"""


def test_every_verb_is_in_the_table():
    """A new verb gets a line above, so that it is tried from the wheel too."""
    assert set(COMMANDS) == set(VERBS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a clean environment with the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = str(next(folder.glob("*.whl")))
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", TORCH, wheel], check=True)
    yield python
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def work(installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    subprocess.run([str(installed), "-c", PREPARE], cwd=folder, env=environment(), check=True)
    return folder


def environment():
    """Nothing of the checkout is importable."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
@pytest.mark.parametrize("verb", COMMANDS)
def test_verb(installed, work, verb):
    done = subprocess.run(
        f"{installed.parent / 'tubelet'} {COMMANDS[verb]}",
        shell=True,
        cwd=work,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_it_is_the_wheel(installed, tmp_path):
    code = "import tubelet; print(tubelet.__file__)"
    done = subprocess.run(
        [str(installed), "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "site-packages" in done.stdout


@pytest.mark.slow
def test_serve_answers_with_its_extra(installed, work):
    extra = ["fastapi>=0.115", "uvicorn>=0.30"]
    subprocess.run([str(installed), "-m", "pip", "install", "--quiet", *extra], check=True)
    command = [str(installed.parent / "tubelet"), "serve", "out", "--port", "8799", "--no-uploads"]
    server = subprocess.Popen(command, cwd=work, env=environment(), stderr=subprocess.DEVNULL)
    try:
        assert b"tubelet" in answer("http://127.0.0.1:8799/", within_s=120)
    finally:
        server.terminate()
        server.wait()


def answer(url, *, within_s):
    end = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as page:
                return page.read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)  # until it listens


@pytest.mark.slow
def test_the_first_screen_of_the_readme(installed, tmp_path):
    """Its commands are run as they stand, and print what stands there (`...`: anything)."""
    screen = (ROOT / "README.md").read_text("utf-8").split("\n## ")[0]
    runner = Runner(tmp_path / "page", python=str(installed))
    runner.env.pop("PYTHONPATH", None)
    shutil.copy(ROOT / "examples" / "draw_clip.py", runner.folder)
    blocks = re.findall(r"^```console\n(.*?)^```", screen, re.M | re.S)
    assert blocks
    for block in blocks:
        for shown in re.split(r"^(?=\$ )", block, flags=re.M)[1:]:
            command, _, wanted = shown.removeprefix("$ ").partition("\n")
            got = runner.shell(command)
            pattern = ".*?".join(re.escape(part) for part in wanted.strip().split("..."))
            assert re.search(pattern, got, re.S), f"$ {command}\n{got}\nis not\n{wanted}"
