"""tubelet: video features that can be trusted.

The public names; nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Extractor": "tubelet.pipeline",
    "FeatureDataset": "tubelet.store.dataset",
    "Features": "tubelet.types",
    "Options": "tubelet.pipeline",
    "TubeletError": "tubelet.errors",
    "WindowConfig": "tubelet.window",
    "create_model": "tubelet.models.registry",
    "extract": "tubelet.pipeline",
    "inflate": "tubelet.models.weights.inflate",
    "list_models": "tubelet.models.registry",
    "load": "tubelet.store.base",
    "open_video": "tubelet.decode.base",
    "plan_windows": "tubelet.window",
}

if TYPE_CHECKING:
    from tubelet.decode.base import open_video as open_video
    from tubelet.errors import TubeletError as TubeletError
    from tubelet.models.registry import create_model as create_model
    from tubelet.models.registry import list_models as list_models
    from tubelet.models.weights.inflate import inflate as inflate
    from tubelet.pipeline import Extractor as Extractor
    from tubelet.pipeline import Options as Options
    from tubelet.pipeline import extract as extract
    from tubelet.store.base import load as load
    from tubelet.store.dataset import FeatureDataset as FeatureDataset
    from tubelet.types import Features as Features
    from tubelet.window import WindowConfig as WindowConfig
    from tubelet.window import plan_windows as plan_windows

__all__ = [
    "Extractor",
    "FeatureDataset",
    "Features",
    "Options",
    "TubeletError",
    "WindowConfig",
    "__version__",
    "create_model",
    "extract",
    "inflate",
    "list_models",
    "load",
    "open_video",
    "plan_windows",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tubelet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
