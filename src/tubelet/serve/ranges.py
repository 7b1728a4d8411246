"""A part of a file over HTTP: what a video element asks for when one seeks (RFC 9110, 14)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import IO

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

PIECE = 1 << 18
OPEN_BYTES = 2 << 20
"""Of a range without an end. A browser has six connections to one server, and a video element that
has seen enough would keep one of them open: it asks again for what follows."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of a file of `size` bytes; None for a header to be ignored (another unit,
    several ranges, nonsense): the whole file is the answer then. ValueError for a range that lies
    outside."""
    match = _RANGE.fullmatch(header.strip().replace(" ", ""))
    if match is None or (not match[1] and not match[2]):
        return None
    first, last = match[1][:19], match[2][:19]
    if not first:
        length = int(last)
        if length == 0 or size == 0:
            raise ValueError(header)
        return max(0, size - length), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError(header)
    return start, min(int(last) + 1 if last else start + OPEN_BYTES, size)


def file_response(
    file: IO[bytes], *, media_type: str, range_header: str | None, if_range: str | None, head: bool
) -> Response:
    """200, 206 or 416 from an open file, which is closed when the answer has been sent."""
    stat = os.fstat(file.fileno())
    tag = f'"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"'
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "last-modified": formatdate(stat.st_mtime, usegmt=True),
        "cache-control": "private, no-cache",
    }
    if head or (if_range is not None and if_range != tag):
        range_header = None
    try:
        part = parse_range(range_header, stat.st_size) if range_header else None
    except ValueError:
        file.close()
        return JSONResponse(
            {"error": f"the file has {stat.st_size} bytes; {range_header} lies outside"},
            status_code=416,
            headers={**headers, "content-range": f"bytes */{stat.st_size}"},
        )
    start, stop = part or (0, stat.st_size)
    if part:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
    headers["content-length"] = str(stop - start)
    status = 206 if part else 200
    if head:
        file.close()
        return Response(status_code=status, headers=headers, media_type=media_type)
    return _Piecewise(file, start, stop, status=status, headers=headers, media_type=media_type)


class _Piecewise(StreamingResponse):
    """Bytes [start, stop) of a file, which is closed whatever happens to the connection."""

    def __init__(
        self,
        file: IO[bytes],
        start: int,
        stop: int,
        *,
        status: int,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(
            _pieces(file, start, stop), status_code=status, headers=headers, media_type=media_type
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _pieces(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    file.seek(start)
    left = stop - start
    while left > 0:
        piece = file.read(min(PIECE, left))
        if not piece:
            return
        left -= len(piece)
        yield piece
