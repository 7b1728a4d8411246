"""Where fetched things are kept: $TUBELET_CACHE, or `tubelet` in the platform's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """$TUBELET_CACHE, else the platform's cache folder. Nothing is created."""
    named = os.environ.get("TUBELET_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "tubelet" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tubelet"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "tubelet"
