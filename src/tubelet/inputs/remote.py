"""http(s) URLs: streamed into the cache once, limited in size, checked, never logged with secrets.

<cache>/videos/<sha256 of the URL>.<suffix>        the file
<cache>/videos/<sha256 of the URL>.<suffix>.json   its size and sha256, and the public URL
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tubelet import __version__
from tubelet.errors import StoreError, UsageError, VideoError
from tubelet.inputs.types import VIDEO_SUFFIXES, public_url, suffix_of
from tubelet.machine.atomic import atomic_file
from tubelet.machine.cache import cache_folder
from tubelet.machine.heartbeat import HEARTBEAT
from tubelet.store.folder import read_record, sha256_of, write_json

LIMIT_VARIABLE = "TUBELET_MAX_DOWNLOAD"
DEFAULT_LIMIT = 32 << 30
TIMEOUT_S = 60.0
PIECE = 1 << 20
NOT_VIDEO = ("text/html", "application/xhtml", "application/json", "application/xml", "text/xml")


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Redirects stay with http(s), and credentials stay with the host that they were meant for."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"redirected to a {urlsplit(newurl).scheme}: address")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


def fetch(url: str) -> Path:
    """The cached file of a URL, downloaded when it is not there or damaged.

    VideoError when it cannot be had whole, StoreError when the cache cannot be written.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    suffix = suffix_of(urlsplit(url).path)
    target = cache_folder() / "videos" / (name + (suffix if suffix in VIDEO_SUFFIXES else ".video"))
    record = read_record(target.with_name(target.name + ".json"))
    if record is not None and target.is_file() and sha256_of(target) == record.get("sha256"):
        return target
    shown = public_url(url)
    try:
        with _open(url) as response, atomic_file(target) as file:
            size, digest = _stream(response, file, shown)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise VideoError(f"{shown}: cannot be fetched: {_reason(error)}") from None
    except StoreError as error:
        if isinstance(error.__cause__, (ConnectionError, TimeoutError)):
            raise VideoError(f"{shown}: the connection broke: {error.__cause__}") from None
        raise
    facts = {"url": shown, "size_bytes": size, "sha256": digest}
    write_json(target.with_name(target.name + ".json"), facts)
    return target


def _open(url: str) -> Any:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": f"tubelet/{__version__}"}
    if at:
        headers["Authorization"] = "Basic " + b64encode(unquote(user).encode()).decode()
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    try:
        request = urllib.request.Request(bare, headers=headers)
        return urllib.request.build_opener(_HttpOnly).open(request, timeout=TIMEOUT_S)
    except (ValueError, UnicodeError) as error:
        raise VideoError(f"{public_url(url)}: not a URL that can be fetched: {error}") from None


def _stream(response: Any, file: IO[bytes], shown: str) -> tuple[int, str]:
    """Copy the body. (bytes, sha256). VideoError for too much, too little, or a web page."""
    limit, kind = limit_bytes(), response.headers.get("Content-Type", "").split(";")[0].lower()
    if kind.startswith(NOT_VIDEO):
        raise VideoError(f"{shown}: the server sends {kind}, not a video (a web page?)")
    promised = response.headers.get("Content-Length")
    expected = int(promised) if promised and promised.isdecimal() else None
    if expected is not None and expected > limit:
        raise VideoError(_too_large(shown, expected, limit))
    size, digest = 0, hashlib.sha256()
    while piece := response.read(PIECE):
        size += len(piece)
        if size > limit:
            raise VideoError(_too_large(shown, size, limit))
        digest.update(piece)
        file.write(piece)
        HEARTBEAT.beat()
    if expected is not None and size != expected:
        raise VideoError(f"{shown}: {size} of {expected} bytes came; try again")
    if size == 0:
        raise VideoError(f"{shown}: the server sent nothing")
    return size, digest.hexdigest()


def _too_large(shown: str, size: int, limit: int) -> str:
    return f"{shown}: {size} bytes or more, the limit is {limit}; raise {LIMIT_VARIABLE}"


def limit_bytes() -> int:
    """$TUBELET_MAX_DOWNLOAD in bytes, else 32 GiB."""
    text = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT))
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}; it must be a number of bytes")
    return int(text)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)
