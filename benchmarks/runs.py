"""What pipeline.py and end_to_end.py time: videos that are made once, runs and stages of runs."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tubelet.bench.rounds import Spread

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))

from real import bikes  # noqa: E402

VIDEOS = Path(tempfile.gettempdir()) / "tubelet-bench"
"""Encoded once and kept."""
NORM = ((0.45,) * 3, (0.225,) * 3)


def video(folder: str, *, width: int, height: int, frames: int) -> str:
    """A real clip (`tests/real.py`), enlarged, with grain, as x264 makes it at its defaults."""
    import av

    from tubelet.decode.base import open_video
    from tubelet.decode.encode import Encoding, encode

    rng = np.random.default_rng(0)
    grain = [rng.normal(0, 2, (height, width, 1)).astype(np.int16) for _ in range(8)]

    def pictures() -> Any:
        count = 0
        while True:
            with open_video(str(bikes())) as reader:
                for frame in reader.frames():
                    if count == frames:
                        return
                    small = av.VideoFrame.from_ndarray(frame.rgb(), format="rgb24")
                    large = small.reformat(width=width, height=height).to_ndarray()
                    yield np.clip(large + grain[count % 8], 0, 255).astype(np.uint8)
                    count += 1

    target = f"{folder}/bikes-{width}x{height}-{frames}.mp4"
    if Path(target).exists():
        return target
    options = {"preset": "medium", "crf": "23"}
    encode(
        pictures(), target, encoding=Encoding(fps=Fraction(30), gop=60, b_frames=2, options=options)
    )
    return target


SIZES = [
    (1920, 1080, 150), (1280, 720, 1800), (640, 360, 1024), (640, 360, 256), (1280, 720, 1350),
    (640, 360, 3600), (1280, 720, 600), (1920, 1080, 300), (1920, 1080, 128), (1920, 1080, 384),
    *((640, 360, f) for f in (1000, 976, 952)), *((1280, 720, f) for f in (720, 700, 680, 660)),
    (320, 240, 60),
]  # fmt: skip
"""All of them, for `python benchmarks/pipeline.py videos` before the machine must be quiet."""


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drain(path: str, view: Any = None) -> int:
    """Decode everything, prepare every frame where a view is given."""
    from tubelet.clips.transform import prepare_frame
    from tubelet.decode.base import open_video

    count = 0
    with open_video(path) as reader:
        for frame in reader.frames():
            count += 1
            if view is not None:
                prepare_frame(frame, view)
    return count


def ratios(a: list[float], b: list[float]) -> list[float]:
    return Spread.of([x / y for x, y in zip(a, b, strict=True)]).plain(3)


def extractor(
    model: str, *, precision: str = "fp32", stride: int | None = None, **options: Any
) -> Any:
    from tubelet.extraction.extractor import Extractor, Options
    from tubelet.models.registry import create_model

    network = create_model(model, weights=None)
    fixed = {"device": "cpu", "options": Options(precision=precision), **options}
    made = Extractor(network, **fixed)
    if stride is None:
        return made
    return Extractor(network, **fixed, window=replace(made.window, stride=stride))


def run_all(path: str, made: Any) -> int:
    """A run without a disk: rows of one video, decoding beside the model. The number of rows."""
    from tubelet.extraction.pipeline import Batches, record_video
    from tubelet.extraction.recording import Source
    from tubelet.machine.prefetch import prefetch

    batches = Batches([made])
    recordings = record_video(Source(path), batches, ahead=prefetch)
    batches.flush()
    return len(recordings[0])


def rows_of(path: str, made: Any) -> list[Any]:
    """The windows of a video, prepared, without running the model."""
    from tubelet.decode.base import open_video
    from tubelet.extraction.lanes import each_row
    from tubelet.extraction.recording import Tally

    with open_video(path) as reader:
        return [row for _, row in each_row(reader, [made.lane], None, None, Tally())]


def only_decode(path: str, made: Any) -> None:
    from tubelet.decode.base import open_video
    from tubelet.extraction.lanes import each_row
    from tubelet.extraction.recording import Tally

    with open_video(path) as reader:
        for _ in each_row(reader, [made.lane], None, None, Tally()):
            pass
