"""tubelet: video features that can be trusted.

The public names; nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "TubeletError": "tubelet.errors",
    "create_model": "tubelet.models.registry",
    "inflate": "tubelet.models.weights.inflate",
    "list_models": "tubelet.models.registry",
    "open_video": "tubelet.decode.base",
}

__all__ = ["TubeletError", "__version__", "create_model", "inflate", "list_models", "open_video"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tubelet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
