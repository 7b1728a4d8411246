"""The exception tree. Every message names the value, the rule and the way out.

TubeletError                 anything a user can act on
├── UsageError               a wrong argument, name or combination; found before work starts
│   ├── UnknownName          a model, tap, option or class that does not exist
│   └── RecipeMismatch       OUT was made with another recipe
├── VideoError               one input cannot be read
│   ├── NotAVideo            no container or no video stream
│   ├── EmptyVideo           a video stream without a decodable frame
│   ├── DamagedVideo         a readable part exists, but --strict asked for a whole one
│   ├── UnsupportedVideo     this backend is measured wrong on this kind of file
│   └── NotSplittable        a part of it cannot be decoded as a pass over the whole would
├── WeightsError             a checkpoint is absent, refused or does not fit
│   ├── UnsafeFile           a pickle asks for something a checkpoint does not need
│   ├── KeyMismatch          missing, unexpected or misshapen keys
│   └── FetchError           a download failed or has the wrong contents
├── ClipError                a tensor that a network cannot take
├── FeatureError             a model gave NaN or infinity
└── StoreError               OUT cannot be written or a stored file is damaged
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TubeletError(Exception):
    """Base of everything that tubelet raises on purpose."""


class UsageError(TubeletError):
    """A wrong argument, name or combination; found before work starts."""


class UnknownName(UsageError):
    """A name that does not exist; the message suggests the nearest ones."""


class RecipeMismatch(UsageError):
    """The output folder was made with another recipe."""


class VideoError(TubeletError):
    """One input cannot be read."""


class NotAVideo(VideoError):
    """No container that FFmpeg knows, or no video stream in it."""


class EmptyVideo(VideoError):
    """A video stream without one decodable frame."""


class DamagedVideo(VideoError):
    """A part of the video is unreadable and a whole one was asked for."""


class UnsupportedVideo(VideoError):
    """The chosen backend is known to be wrong on this kind of file."""


class NotSplittable(VideoError):
    """A part of this video cannot be decoded as a pass over the whole would; that one can be."""


class WeightsError(TubeletError):
    """A checkpoint is absent, refused or does not fit."""


class UnsafeFile(WeightsError):
    """A pickle asks for a name that no checkpoint needs."""


class KeyMismatch(WeightsError):
    """Missing, unexpected or misshapen keys."""


class FetchError(WeightsError):
    """A download failed or has the wrong contents."""


class ClipError(TubeletError):
    """A tensor that a network cannot take."""


class FeatureError(TubeletError):
    """A model gave NaN or infinity."""


class StoreError(TubeletError):
    """The output cannot be written, or a stored file is damaged."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence such as `; did you mean 'x3d_s'?`, or nothing when no name is near."""
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(repr(n) for n in near)}?" if near else ""
