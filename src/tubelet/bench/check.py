"""`tubelet check`: whether this installation computes the reference's numbers.

One network per family gets weights that anybody can make again (`filled`), through a checkpoint
file as a user's would be, and one clip; its features and class scores are compared with what the
reference computed. `check.npz` has these numbers, `check.json.gz` the key lists of the weights;
`tools/make_check.py` takes both from tests/data/conformance.
"""

from __future__ import annotations

import gzip
import json
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tubelet import __version__
from tubelet.bench.filled import fill, make_input
from tubelet.bench.rounds import cores, machine_name
from tubelet.decode.base import open_video
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.ffmpeg_build import decoder_build
from tubelet.decode.synthetic import number_picture, read_number
from tubelet.errors import FetchError
from tubelet.models import zoo
from tubelet.models.device import (
    BF16_COSINE,
    arithmetic,
    resolve_device,
    resolve_precision,
    resolve_runtime,
    sent,
)
from tubelet.models.registry import create_model
from tubelet.models.weights.fetch.released import status

TOLERANCE = 1e-4
"""Largest difference over largest magnitude, in float32, on every device."""
FEATURE_STEP = 16
"""Every 16th feature is in the package; the class scores, which depend on all, are whole."""


@dataclass(frozen=True)
class CheckedNetwork:
    """A network of one family. case: the reference's name of its numbers. shape: of the clip."""

    family: str
    model: str
    case: str
    shape: tuple[int, ...]


NETWORKS = (
    CheckedNetwork("resnet3d", "i3d_nln_r50_8x8", "Kinetics/I3D_NLN_8x8_R50", (1, 3, 8, 256, 256)),
    CheckedNetwork(
        "slowfast",
        "slowfast_r50_8x8_stepwise_multigrid",
        "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid@16x158x158",
        (1, 3, 16, 158, 158),
    ),
    CheckedNetwork("x3d", "x3d_xs", "Kinetics/X3D_XS", (1, 3, 4, 182, 182)),
    CheckedNetwork(
        "mvit", "mvit_v2_s_16x4", "Kinetics/MVITv2_S_16x4@8x160x160", (1, 3, 8, 160, 160)
    ),
    CheckedNetwork("revmvit", "rev_vit_s", "ImageNet/REV_VIT_S", (1, 3, 224, 224)),
)
RELEASED = CheckedNetwork("i3d", zoo.DEFAULT_MODEL, "T16", (1, 3, 16, 224, 224))
"""With its released weights; the reference is an independent implementation in JAX."""


@dataclass(frozen=True)
class Finding:
    """One comparison. error and bound are None where nothing was compared; note says why."""

    check: str
    of: str
    verdict: Literal["ok", "off", "not checked"]
    error: float | None = None
    bound: float | None = None
    runtime: str | None = None
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class HowRun:
    """Where networks run: device, runtime and precision as `Extractor` takes them."""

    device: str = "auto"
    runtime: str = "fast"
    precision: str = "fp32"


def check_installation(
    how: HowRun, *, fetch: bool = True, say: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """{"ok", "installation", "findings"} as plain data; `say` hears what is checked now.

    fetch: whether the default weights are fetched where they are not cached. Raises UsageError for
    a device that is not there; whatever goes wrong later is a finding.
    """
    device = resolve_device(how.device)
    how = replace(how, device=device, precision=resolve_precision(how.precision, device))
    installed = installation(how)
    findings = []
    for name, check in checks(how, fetch=fetch):
        say(name)
        start = time.perf_counter()
        try:
            found = check()
        except Exception as error:  # noqa: BLE001 - whatever is broken is what a report must tell
            found = Finding(name, "", "off", note=f"{type(error).__name__}: {error}")
        findings.append(replace(found, seconds=round(time.perf_counter() - start, 2)))
    ok = all(found.verdict != "off" for found in findings)
    return {"ok": ok, "installation": installed, "findings": [asdict(f) for f in findings]}


def checks(how: HowRun, *, fetch: bool) -> Iterator[tuple[str, Callable[[], Finding]]]:
    """(name, what makes the finding), in the order in which they run."""
    yield "decoder", check_decoder
    for network in NETWORKS:
        yield network.family, partial(check_network, network, how)
    yield RELEASED.family, partial(check_released, how, fetch=fetch)


def installation(how: HowRun) -> dict[str, Any]:
    """Versions, machine and devices."""
    import torch

    on_cuda = how.device.startswith("cuda")
    return {
        "tubelet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": machine_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        **asdict(how),
        "device_name": torch.cuda.get_device_name(how.device) if on_cuda else None,
        "decoder": decoder_build(),
        "extras": extras(),
    }


def extras() -> dict[str, str]:
    """{distribution: version} of the optional packages that are installed."""
    try:
        optional = [line for line in requires("tubelet") or () if "extra ==" in line]
    except PackageNotFoundError:  # run from a folder of sources
        return {}
    found = {}
    for line in optional:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {name: found[name] for name in sorted(found) if name != "tubelet"}


def check_decoder() -> Finding:
    """48 pictures that show their number, encoded and read again: order, count and times."""
    count, fps = 48, Fraction(30000, 1001)
    with tempfile.TemporaryDirectory() as folder:
        pictures = (number_picture(i, width=128, height=96) for i in range(count))
        path = encode(pictures, Path(folder, "v.mp4"), encoding=Encoding(fps=fps, b_frames=2))
        with open_video(str(path)) as reader:
            seen = [(read_number(frame.rgb()), frame.time_s) for frame in reader.frames()]
    want = [(i, float(i / fps)) for i in range(count)]
    of = f"{count} numbered frames, H.264 with B-frames"
    if [number for number, _ in seen] != [number for number, _ in want]:
        numbers = ", ".join(str(number) for number, _ in seen)
        return Finding("decoder", of, "off", note=f"read {numbers}")
    error = max(abs(a - b) for (_, a), (_, b) in zip(seen, want, strict=True))
    # Times are multiples of the stream's time base; seconds are compared in float64.
    return Finding("decoder", of, verdict(error, 1e-6), error, 1e-6)


def check_network(network: CheckedNetwork, how: HowRun) -> Finding:
    """Filled weights out of a checkpoint file, one clip, against the reference."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pyth")
        tensors = {k: torch.from_numpy(v) for k, v in fill(key_list(network)).items()}
        torch.save({"model_state": tensors}, path)
        model = create_model(network.model, weights=path)
    clip = make_input(0, network.shape)
    clip = clip if clip.ndim == 5 else clip[:, :, None]
    frames, crop = clip.shape[2], clip.shape[3]
    if hasattr(model, "resized") and (frames, crop) != (model.clip.frames, model.clip.crop):
        model = model.resized(frames=frames, crop=crop)
    return compare(network, model, clip, how)


def check_released(how: HowRun, *, fetch: bool) -> Finding:
    """The default model with its released weights."""
    entry = zoo.entry_for(RELEASED.model)
    if not fetch and status(entry) != "cached":
        why = "its weights are not cached, and --offline fetches none"
        return Finding(RELEASED.family, RELEASED.model, "not checked", note=why)
    try:
        model = create_model(RELEASED.model)
    except FetchError as error:
        return Finding(RELEASED.family, RELEASED.model, "not checked", note=str(error))
    clip = np.clip(0.5 * make_input(0, RELEASED.shape), -1, 1)
    return compare(RELEASED, model, clip, how)


def compare(network: CheckedNetwork, model: Any, clip: NDArray[np.float32], how: HowRun) -> Finding:
    """Features and class scores of a clip [1, 3, T, H, W] against the reference's."""
    import torch

    runs, runtime = resolve_runtime(model, how.runtime, device=how.device, precision=how.precision)
    with torch.inference_mode(), arithmetic(how.device, how.precision, runtime):
        there = sent(torch.from_numpy(clip), how.device)
        features = runs.features(there, ("pool",))["pool"].float().cpu().numpy()
        scores = runs.predict(there).float().cpu().numpy()
    got = {"features": features[0, ::FEATURE_STEP], "output": scores[0]}
    want = {name: numbers()[f"{network.family}/{name}"] for name in got}
    if how.precision == "fp32":
        error, bound = max(difference(got[name], want[name]) for name in got), TOLERANCE
    else:  # the bound of a lower precision is one of directions
        error, bound = 1 - cosine(got["features"], want["features"]), 1 - BF16_COSINE
    of = f"{network.model}, {'x'.join(map(str, clip.shape[2:]))}"
    return Finding(network.family, of, verdict(error, bound), error, bound, runtime)


def verdict(error: float, bound: float) -> Literal["ok", "off"]:
    return "ok" if error <= bound else "off"  # what is not a number is off


def difference(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest difference over the largest magnitude of `want`."""
    a, b = got.astype(np.float64), want.astype(np.float64)
    return float(np.abs(a - b).max() / np.abs(b).max())


def cosine(got: NDArray[Any], want: NDArray[Any]) -> float:
    a, b = got.astype(np.float64), want.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def numbers() -> dict[str, NDArray[np.float32]]:
    """The reference's {"FAMILY/features": every FEATURE_STEP-th, "FAMILY/output": class scores}."""
    with (files("tubelet.bench") / "check.npz").open("rb") as handle, np.load(handle) as found:
        return dict(found)


def key_list(network: CheckedNetwork) -> list[tuple[str, list[int], str]]:
    """(key, shape, dtype) of the reference's state dict."""
    packed = (files("tubelet.bench") / "check.json.gz").read_bytes()
    shapes = json.loads(gzip.decompress(packed))[network.family]
    counted = "num_batches_tracked"
    return [(k, s, "int64" if k.endswith(counted) else "float32") for k, s in shapes.items()]
