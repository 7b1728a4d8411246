"""What the installed decoder was built with."""

from __future__ import annotations

from typing import Any

import av

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""Those that collections of videos are made of."""


def decoder_build() -> dict[str, Any]:
    """{"av": PyAV's version, "ffmpeg": FFmpeg's, "libavcodec": "62.28.102", ...; "missing": those
    of CODECS that this build cannot decode}."""
    libraries = {
        name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())
    }
    present = av.codecs_available
    missing = [name for name in CODECS if name not in present]
    return {"av": av.__version__, "ffmpeg": av.ffmpeg_version_info, **libraries, "missing": missing}
