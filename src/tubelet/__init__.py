"""tubelet: video features that can be trusted.

The public names; nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Extractor": "tubelet.extraction.extractor",
    "FeatureDataset": "tubelet.store.dataset",
    "Features": "tubelet.types",
    "Options": "tubelet.extraction.extractor",
    "TubeletError": "tubelet.errors",
    "WindowConfig": "tubelet.clips.windows",
    "create_model": "tubelet.models.registry",
    "extract": "tubelet.extraction.extractor",
    "extract_segments": "tubelet.extraction.segments",
    "from_frames": "tubelet.decode.from_frames",
    "inflate": "tubelet.models.weights.inflate",
    "list_models": "tubelet.models.registry",
    "load": "tubelet.store.folder",
    "open_video": "tubelet.decode.base",
    "plan_windows": "tubelet.clips.windows",
}

if TYPE_CHECKING:
    from tubelet.clips.windows import WindowConfig as WindowConfig
    from tubelet.clips.windows import plan_windows as plan_windows
    from tubelet.decode.base import open_video as open_video
    from tubelet.decode.from_frames import from_frames as from_frames
    from tubelet.errors import TubeletError as TubeletError
    from tubelet.extraction.extractor import Extractor as Extractor
    from tubelet.extraction.extractor import Options as Options
    from tubelet.extraction.extractor import extract as extract
    from tubelet.extraction.segments import extract_segments as extract_segments
    from tubelet.models.registry import create_model as create_model
    from tubelet.models.registry import list_models as list_models
    from tubelet.models.weights.inflate import inflate as inflate
    from tubelet.store.dataset import FeatureDataset as FeatureDataset
    from tubelet.store.folder import load as load
    from tubelet.types import Features as Features

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
    "extract_segments",
    "from_frames",
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
