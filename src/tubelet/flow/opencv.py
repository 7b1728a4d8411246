"""TV-L1, DIS and Farneback flow with OpenCV. The only file that imports cv2."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import UsageError
from tubelet.flow.rounding import to_nearest
from tubelet.flow.types import Field, FlowMethod, Setting

log = logging.getLogger("tubelet")

INSTALL = "pip install 'tubelet[flow]'"
DISTRIBUTIONS = (
    "opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless",
    "opencv-python",
)  # fmt: skip
DIS_PATCH = 8
"""Side of the patches that DIS matches, at every scale."""


def load_cv2(method: str) -> ModuleType:
    """OpenCV, one thread per call: pairs are what runs in parallel. Raises UsageError."""
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            f"flow method {method!r} needs OpenCV, which is not installed ({error}): {INSTALL}"
        ) from error
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        raise UsageError(
            f"flow method 'tvl1' needs OpenCV's contrib build; the cv2 {cv2.__version__} here has "
            "no optflow (opencv-python or opencv-python-headless). Uninstall it, then "
            f"{INSTALL}; or choose --flow dis or --flow farneback"
        )
    cv2.setNumThreads(1)
    _tell_of_several()
    return cv2


@cache
def _tell_of_several() -> None:
    """Names every distribution that brought a cv2, once, where there are several: their files lie
    over each other, and which build runs depends on the order of installation."""
    found = [f"{d} {v}" for d in DISTRIBUTIONS if (v := _version(d)) is not None]
    if len(found) > 1:
        log.warning(
            "several distributions install cv2 over each other: %s; uninstall all of them, then %s",
            ", ".join(found), INSTALL,
        )  # fmt: skip


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def grayscale() -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """RGB [H, W, 3] -> [H, W] (BT.601 luma weights, OpenCV's rounding)."""
    cv2 = load_cv2("gray")
    return lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


class OpenCVFlow:
    """`compute` with a name; satisfies `base.FlowMethod`."""

    takes: Literal["gray", "rgb"] = "gray"

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Setting],
        compute: Callable[[Any, Any], Any],
        *,
        cv2: ModuleType,
    ) -> None:
        self.name = name
        self.recipe = {"method": name, **settings, "opencv": cv2.__version__}
        self._compute = compute
        self._refusal = cv2.error

    def __call__(self, previous: NDArray[np.uint8], following: NDArray[np.uint8]) -> Field:
        try:
            with to_nearest():
                return self._compute(previous, following)
        except self._refusal as error:
            height, width = previous.shape
            raise UsageError(
                f"OpenCV cannot compute {self.name} flow of {width} x {height} pictures with "
                f"{self.recipe}: {str(error).strip().splitlines()[-1]}"
            ) from error


def create(name: str, settings: Mapping[str, Any]) -> FlowMethod:
    """The OpenCV method of that name. Raises UsageError where the installed build lacks it."""
    cv2 = load_cv2(name)
    compute = {"tvl1": _tvl1, "dis": _dis, "farneback": _farneback}[name](cv2, settings)
    return OpenCVFlow(name, settings, compute, cv2=cv2)


def _tvl1(cv2: Any, settings: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    solver = cv2.optflow.DualTVL1OpticalFlow_create(
        tau=settings["tau"],
        lambda_=settings["lambda"],
        theta=settings["theta"],
        nscales=settings["scales"],
        warps=settings["warps"],
        epsilon=settings["epsilon"],
        innnerIterations=settings["inner"],
        outerIterations=settings["outer"],
        scaleStep=settings["scale_step"],
        gamma=0.0,
        medianFiltering=settings["median"],
        useInitialFlow=False,
    )

    def compute(a: Any, b: Any) -> Any:
        # Pictures too small for all scales lower their number, for every picture after them.
        solver.setScalesNumber(settings["scales"])
        return solver.calc(a, b, None)

    return compute


def _dis(cv2: Any, settings: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    preset = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }[settings["preset"]]
    solver = cv2.DISOpticalFlow_create(preset)
    finest = solver.getFinestScale()

    def compute(a: Any, b: Any) -> Any:
        # Likewise: pictures too small for the preset lower its finest scale.
        solver.setFinestScale(finest)
        rows = _rows_that_dis_needs(*a.shape, finest=finest)
        if rows <= a.shape[0]:
            return solver.calc(a, b, None)
        edge = (0, rows - a.shape[0], 0, 0, cv2.BORDER_REPLICATE)
        field = solver.calc(cv2.copyMakeBorder(a, *edge), cv2.copyMakeBorder(b, *edge), None)
        return np.ascontiguousarray(field[: a.shape[0]])

    return compute


def _rows_that_dis_needs(height: int, width: int, *, finest: int) -> int:
    """Rows below which OpenCV's DIS reads outside the picture.

    Where the picture is too small for the finest scale, OpenCV chooses scales by the width alone
    (dis_flow.cpp, autoSelectPatchSizeAndScales); those of a wide low picture then have fewer rows
    than a patch, and the process crashes. With a patch of rows at the finest scale it does not
    choose.
    """
    coarsest = min(
        int(math.log2(max(height, width) / (4 * DIS_PATCH)) + 0.5),
        int(math.log2(min(height, width) / DIS_PATCH)),
    )
    if coarsest >= finest:
        return height
    chosen = max(0, math.floor(math.log2(2 * width / (5 * DIS_PATCH))))
    return height if height >> chosen >= DIS_PATCH else max(height, DIS_PATCH << finest)


def _farneback(cv2: Any, settings: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: cv2.calcOpticalFlowFarneback(
        a,
        b,
        None,
        pyr_scale=settings["pyramid_scale"],
        levels=settings["levels"],
        winsize=settings["window"],
        iterations=settings["iterations"],
        poly_n=settings["poly_n"],
        poly_sigma=settings["poly_sigma"],
        flags=0,
    )
