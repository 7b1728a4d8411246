"""Runs of the tiny model over small real files."""

import json

import numpy as np

from tiny import TinyModel
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.extraction.extractor import Extractor, Options
from tubelet.inputs import Input, collect
from tubelet.run.job import Job, Outcome
from tubelet.run.run import run


class Heard:
    """A reporter that remembers."""

    def __init__(self):
        self.outcomes: list[Outcome] = []
        self.notes, self.rows = [], 0

    def expect(self, videos):
        self.expected = videos

    def advance(self, name, rows, fraction):
        assert fraction is None or 0 <= fraction <= 1.0001
        self.rows += rows

    def done(self, outcome):
        self.outcomes.append(outcome)

    def note(self, text):
        self.notes.append(text)

    def kinds(self):
        return {o.id: o.kind for o in self.outcomes}


def video(path, *, frames=10, seed=0, size=(32, 24), codec="mpeg4"):
    """A small real file of noise pictures."""
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8) for _ in range(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    return encode(pictures, path, encoding=Encoding(codec))


def tiny(*, model=None, name="tiny", window=None, view=None, batch_size=1, **options):
    model = model or TinyModel()
    return Extractor(
        model,
        name=name,
        window=window or WindowConfig(4, stride=2),
        view=view,
        options=Options(**options),
        batch_size=batch_size,
        device="cpu",
    )


def go(inputs, out, *extractors, heard=None, works=None, **job):
    heard = heard or Heard()
    items = collect([str(i) for i in inputs]) if not isinstance(inputs[0], Input) else inputs
    failed = run(Job(items, out, **job), extractors or [tiny()], heard, works=works)
    return failed, heard


def tree(out, *, hidden=False):
    """Every file and its bytes."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and (hidden or ".tubelet" not in p.parts)
    }


def failures(out):
    path = out / "failures.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["id"]: record for record in map(json.loads, lines)}


def bright_and_dark(folder):
    for name, level in (("bright", 250), ("dark", 10)):
        pictures = [np.full((24, 32, 3), level, np.uint8)] * 8
        folder.mkdir(exist_ok=True)
        encode(pictures, folder / f"{name}.mp4", encoding=Encoding("mpeg4"))
    return folder
