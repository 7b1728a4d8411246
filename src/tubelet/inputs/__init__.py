"""What the user names -> videos with ids -> files that a decoder can open.

`collect.py` finds them, `lists.py` and `columns.py` read list files, `archive.py`, `remote.py` and
`object_store.py` bring members of a tar, URLs and objects to disk, `local.py` opens any of them,
`find_source.py` finds the source of a sidecar.
"""

from tubelet.inputs.collect import Input, check_rates, collect, is_frame_folder
from tubelet.inputs.find_source import find_source
from tubelet.inputs.local import (
    fingerprint,
    on_disk,
    part_facts,
    sampled,
    seconds_of_range,
    source_size,
)
from tubelet.inputs.time_range import beyond, in_range
from tubelet.inputs.types import SYNTHETIC, VIDEO_SUFFIXES

__all__ = [
    "SYNTHETIC",
    "VIDEO_SUFFIXES",
    "Input",
    "beyond",
    "check_rates",
    "collect",
    "find_source",
    "fingerprint",
    "in_range",
    "is_frame_folder",
    "on_disk",
    "part_facts",
    "sampled",
    "seconds_of_range",
    "source_size",
]
