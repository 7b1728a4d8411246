"""Named recipes that reproduce published feature sets: data, with their sources.

`find` gives one, `PRESETS` has all. `ELSEWHERE` names conventions of the same literature that no
network here can produce, so that nobody searches for them.
"""

from __future__ import annotations

from tubelet.errors import UnknownName, did_you_mean
from tubelet.presets import grounding, localisation
from tubelet.presets.base import Preset

__all__ = ["ELSEWHERE", "PRESETS", "Preset", "find"]

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (*localisation.PRESETS, *grounding.PRESETS)
}

ELSEWHERE: dict[str, str] = {
    "Ego-Exo4D": "Omnivore Swin-L, windows of 32/30 s every 16/30 s, back-padded",
    "Ego4D Omnivore, EgoVLP, InternVideo, EgoVideo": "other networks",
    "ActivityNet TSP": "R(2+1)D-34 tuned by TSP, 16 frames every 16 at 15 fps",
    "ActivityNet, THUMOS14 and YouCookII TSN": "two-stream 2D networks",
    "THUMOS14, ActivityNet, FineAction VideoMAE, InternVideo2": "other networks",
    "EPIC-Sounds": "Auditory SlowFast, an audio network",
    "C3D of Charades-STA, ActivityNet Captions, TACoS": "C3D fc6/fc7, partly after a PCA",
    "Charades VGG": "VGG-16 fc7 of single frames",
    "CLIP of QVHighlights and others": "an image network, one frame per clip",
    "HowTo100M, YouCookII 2D/3D": "ResNet-152 and ResNeXt-101",
}


def find(name: str) -> Preset:
    """The preset of a name. UnknownName, with near ones."""
    if name not in PRESETS:
        raise UnknownName(
            f"no preset {name!r}{did_you_mean(name, PRESETS)}; `tubelet presets` lists all of them"
        )
    return PRESETS[name]
