"""What a command line asks for, as frozen values: built once from click's, then passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from tubelet.errors import UsageError
from tubelet.flow.base import FlowConfig, flow_config
from tubelet.presets.base import Convention, Preset
from tubelet.types import ClipSpec

DEFAULT_MODEL = "i3d_inception.k400"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RowsRequest:
    """Which rows of which models: what `extract` makes, `plan` counts and `classify` names.

    preset: what the recipe tells of it: its name, and the options that override it. given: the
    parameters that stood on the command line, and did not come from a preset or a default.
    """

    models: tuple[str, ...]
    how: Convention
    given: frozenset[str]
    preset: str | None = None
    weights: str | None = None
    taps: tuple[str, ...] = ("pool",)
    keep_views: bool = False
    color: Literal["auto", "legacy601"] = "auto"
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    flow_cache: Path | None = None

    @property
    def weights_choice(self) -> dict[str, Any]:
        """For `create_model`, where saying nothing and saying None are two things."""
        return {"weights": self.weights} if self.weights else {}

    def flow(self, clips: Sequence[ClipSpec]) -> FlowConfig | None:
        """How flow is computed; None where no model takes it.

        UsageError for options of flow that would have no effect.
        """
        if any("flow" in clip.modality for clip in clips):
            return flow_config(self.how.flow or "tvl1", rounding=self.how.flow_rounding)
        for name in ("flow", "flow_rounding", "flow_cache"):
            if name in self.given:
                raise UsageError(
                    f"--{name.replace('_', '-')}: none of these models takes optical flow; "
                    "`tubelet models 'i3d_inception_flow*'` and 'i3d_inception_two_stream*' list "
                    "those that do"
                )
        return None


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """What `extract` is asked for, and `plan` about; the fields are the options of these names."""

    rows: RowsRequest
    frames_fps: str | None
    frames_pattern: str | None
    fmt: str
    runtime: Literal["fast", "reference", "compile"]
    device: str
    batch_size: int
    workers: int
    engine: Literal["local", "ray"]
    ray_address: str | None
    gpus_per_worker: float | None
    part_seconds: float
    shard: str | None
    threads: int | None
    timeout: float
    fail_fast: bool
    retry_failed: bool
    strict: bool
    overwrite: bool
    debug_frames: int
    debug: bool


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest:
    """What `classify` is asked for."""

    rows: RowsRequest
    frames_fps: str | None
    frames_pattern: str | None
    views: str | None
    top: int
    device: str
    debug: bool


def from_choices(kind: type[T], choices: Mapping[str, Any], **own: Any) -> T:
    """A request whose fields are click's parameters of the same names, but for `own`."""
    names = [f.name for f in fields(kind)]  # pyright: ignore[reportArgumentType]
    return kind(**own, **{n: choices[n] for n in names if n in choices and n not in own})


def extract_request(choices: Mapping[str, Any]) -> ExtractRequest:
    """What `extract` and `plan` were asked for. Errors as `rows_request`."""
    return from_choices(ExtractRequest, choices, rows=rows_request(choices))


def classify_request(choices: Mapping[str, Any]) -> ClassifyRequest:
    """What `classify` was asked for, of its one model."""
    rows = rows_request({**choices, "models": (choices["model"],)})
    return from_choices(ClassifyRequest, choices, rows=rows)


def rows_request(choices: Mapping[str, Any]) -> RowsRequest:
    """The models and their rows, with what --preset says under what the command line says.

    UnknownName for an unknown preset; UsageError for one whose weights are missing.
    """
    given = _given(choices)
    how = from_choices(Convention, choices)
    if "rows" in given and "tail" not in given:
        # A number of rows is a tail rule by another name, also over a preset's.
        given |= {"tail", "stride", "length"}
        how = replace(how, tail="uniform")
    own: dict[str, Any] = {"given": given, "how": how}
    if not choices.get("models"):
        own["models"] = (DEFAULT_MODEL,)
    if choices.get("preset") is not None:
        from tubelet.presets import find

        own |= _under(find(choices["preset"]), how, given, choices)
    return from_choices(RowsRequest, choices, **own)


def _given(choices: Mapping[str, Any]) -> frozenset[str]:
    source = click.get_current_context().get_parameter_source
    return frozenset(n for n in choices if (s := source(n)) is not None and s.name == "COMMANDLINE")


def _under(
    preset: Preset, how: Convention, given: frozenset[str], choices: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a request that a preset decides."""
    own: dict[str, Any] = {"how": preset.applied_to(how, given=given)}
    overridden = [
        f.name
        for f in fields(Convention)
        if f.name in given and getattr(how, f.name) != getattr(preset, f.name)
    ]
    if "models" not in given:
        own["models"] = preset.models[:1]
    elif not set(choices["models"]) <= set(preset.models):
        overridden.append("models")
    if "taps" not in given:
        own["taps"] = preset.taps
    elif choices["taps"] != preset.taps:
        overridden.append("taps")
    if preset.needs_weights and "models" not in overridden and not choices.get("weights"):
        raise UsageError(
            f"preset {preset.name}: its weights are not public; name a file with --weights, or "
            "another model with -m"
        )
    # As the options are called.
    names = sorted({"frames": "window", "rows": "row_count"}.get(n, n) for n in overridden)
    own["preset"] = preset.name + (f" (but {', '.join(names)})" if names else "")
    return own
