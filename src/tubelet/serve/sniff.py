"""What a file is, by its first bytes: its name and what a sender says of it count for nothing."""

from __future__ import annotations

HEAD = 4096
"""Bytes that `media_type` needs to see."""

_STARTS = {
    b"\x1a\x45\xdf\xa3": "video/webm",  # EBML: WebM and Matroska
    b"OggS": "video/ogg",
    b"FLV\x01": "video/x-flv",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/x-ms-asf",
    b"\x00\x00\x01\xba": "video/mpeg",  # program stream
    b"\x00\x00\x01\xb3": "video/mpeg",  # video elementary stream
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01": "application/mxf",
    b"YUV4MPEG2 ": "video/x-yuv4mpeg",
    b"DKIF\x00\x00": "video/x-ivf",
    b".RMF": "application/vnd.rn-realmedia",
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_SYNC = 0x47


def media_type(head: bytes) -> str | None:
    """The type of a video container that starts with these bytes; None for anything else.

    Playlists and other files that name files are text, and none of these.
    """
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head[4:8] in _BOXES:
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "video/x-msvideo"
    for size, lead in ((188, 0), (192, 4)):  # transport stream, with time codes in .m2ts
        places = range(lead, len(head), size)
        if len(places) >= 5 and all(head[i] == _SYNC for i in places):
            return "video/mp2t"
    return None
