"""What the user names -> videos with ids -> files that a decoder can open.

`collect.py` finds them, `lists.py` reads list files, `archive.py` and `remote.py` bring members of
a tar and URLs to disk, `local.py` opens any of them, `again.py` finds the source of a sidecar.
"""

from tubelet.inputs.collect import Input, collect, is_frame_folder
from tubelet.inputs.find_source import find_source
from tubelet.inputs.local import fingerprint, on_disk, sampled, source_size
from tubelet.inputs.types import SYNTHETIC, VIDEO_SUFFIXES

__all__ = [
    "SYNTHETIC",
    "VIDEO_SUFFIXES",
    "Input",
    "collect",
    "find_source",
    "fingerprint",
    "is_frame_folder",
    "on_disk",
    "sampled",
    "source_size",
]
