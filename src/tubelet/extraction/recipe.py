"""A recorded recipe (`tubelet.json`) -> the windows, the pixels and the extractor it describes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tubelet.clips.transform import ViewConfig
from tubelet.clips.windows import WindowConfig
from tubelet.config import differences, stable_hash, to_plain
from tubelet.errors import RecipeMismatch, UsageError, WeightsError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.lanes import Lane
from tubelet.flow.base import METHODS, FlowConfig
from tubelet.models import zoo

Recipe = Mapping[str, Any]


def window_config(plain: Recipe) -> WindowConfig:
    """The windows of a recipe. TypeError, ValueError or UsageError for another version's."""
    fps = plain.get("fps")
    return WindowConfig(**{**plain, "fps": None if fps is None else Fraction(fps)})


def view_of(plain: Recipe) -> ViewConfig:
    """The view of a recipe. TypeError or UsageError for another version's."""
    lists = {key: tuple(plain[key]) for key in ("mean", "std")}
    return ViewConfig(**{**plain, **lists})


def flow_of(plain: Recipe | None) -> FlowConfig | None:
    """The optical flow of a recipe; None for RGB."""
    if plain is None:
        return None
    method = str(plain["method"])
    parameters = {name: plain.get(name, default) for name, default in METHODS[method].items()}
    return FlowConfig(
        method, tuple(parameters.items()), bound=plain["bound"], rounding=plain["rounding"]
    )


def lane_of(recipe: Recipe) -> Lane:
    """How rows are cut out of a video and become pixels; no network is needed for that.

    UsageError for a recipe that this version cannot follow.
    """
    try:
        return Lane(
            window_config(recipe["window"]),
            view_of(recipe["view"]),
            flow_of(recipe.get("flow")),
            recipe.get("color", "auto"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the recipe is not one that this version can follow: {error}") from error


def extractor_of(
    recipe: Recipe, *, weights: str | None = None, model: Any = None, device: str = "auto"
) -> Extractor:
    """An extractor whose rows are comparable with those of the recipe: its hash is the same.

    weights: the checkpoint, where the run's came from a file; model: a network instead of a name.
    RecipeMismatch, naming what differs, when the rows would not be comparable (other weights, or
    another version of what computes flow); UsageError for what cannot be rebuilt.
    """
    lane = lane_of(recipe)
    model = model or _model(recipe, weights)
    options = Options(
        taps=tuple(recipe["taps"]),
        keep=recipe["keep"],
        logits=recipe["logits"],
        merge=recipe["merge"],
        precision=recipe["precision"],
        color=recipe["color"],
        dtype=recipe["dtype"],
        preset=recipe.get("preset"),
        flow=lane.flow,
    )
    extractor = Extractor(
        model,
        name=str(recipe["model"]),
        window=lane.window,
        view=lane.view,
        options=options,
        device=device,
    )
    ours = to_plain(extractor.recipe())
    if stable_hash(ours) != stable_hash(recipe):
        changed = "; ".join(differences(recipe, ours)[:6])
        raise RecipeMismatch(f"this would not be the recipe of the stored rows ({changed})")
    return extractor


def _model(recipe: Recipe, weights: str | None) -> Any:
    from tubelet.models.registry import create_model

    name, known = str(recipe["model"]), recipe["weights"]
    if weights is not None:
        return create_model(name, weights=weights)
    if known["id"] is None:
        raise UsageError(
            f"the weights of {name} came from a file (sha256 {str(known['sha256'])[:12]}...): "
            "name it with --weights"
        )
    return create_model(known["id"])


def cached_model(recipe: Recipe) -> Any:
    """The network of a recipe where its released weights are on this machine.

    WeightsError, saying why, where nothing can be loaded without a download or a file.
    """
    from tubelet.models.registry import create_model
    from tubelet.models.weights.fetch.released import status

    identity = recipe["weights"]["id"]
    entry = zoo.find(str(identity)) if identity else None
    if entry is None:
        raise WeightsError("its weights came from a file")
    streams = [zoo.entry_for(entry.source[s]) for s in ("rgb", "flow") if s in entry.source]
    if any(status(part) != "cached" for part in streams or [entry]):
        raise WeightsError(f"the weights of {entry.id} are not on this machine")
    model = create_model(entry.id)
    if model.weights_sha256 != recipe["weights"]["sha256"]:
        raise WeightsError(f"the weights of {entry.id} here are not those of the run")
    return model


__all__ = [
    "cached_model",
    "extractor_of",
    "flow_of",
    "lane_of",
    "view_of",
    "window_config",
]
