"""One file by http(s), with resume.

    <target>        what has arrived so far
    <target>.json   url, size and validator (ETag or Last-Modified) of what is arriving

A cut connection goes on where it stopped: `Range` with `If-Range`, so a server whose file has
changed sends it whole again, and so does one that ignores ranges. Nothing here trusts the content:
checksums and the safe reading of checkpoints come later. No torch here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tubelet import __version__
from tubelet.errors import FetchError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and their total, where the server tells it."""

CHUNK = 1 << 18
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
CUT = (http.client.HTTPException, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class RetryPolicy:
    """timeout_s: of one read. pause_s: before the second try, doubled each time."""

    timeout_s: float = 30.0
    tries: int = 6
    pause_s: float = 1.0
    limit_bytes: int = 8 << 30


@dataclass(frozen=True)
class PartialDownload:
    """What is known of a file that is arriving."""

    url: str
    total: int | None
    validator: str | None


class _Refused(Exception):
    """This url will not give the file, however often it is asked."""


class _Cut(Exception):
    """The connection ended early; another try may go on."""


def download(
    urls: Sequence[str],
    target: Path,
    *,
    progress: Progress | None = None,
    policy: RetryPolicy = RetryPolicy(),
) -> str:
    """Fetch the first url that answers into `target`; that url.

    A file that is complete already is not asked for again. Raises FetchError, naming every url's
    failure and the way out.
    """
    failures: list[str] = []
    for url in urls:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise FetchError(f"{url}: only http and https are fetched")
        try:
            _persist(url, target, progress=progress, policy=policy)
            return url
        except _Refused as error:
            failures.append(f"{url}: {error}")
    raise FetchError(
        "; ".join(failures) + "; if this machine is kept from the network, fetch the file on "
        "another one and give it with --weights FILE (weights=)"
    )


def discard(target: Path) -> None:
    """Forget what has arrived."""
    for path in (target, _note(target)):
        path.unlink(missing_ok=True)


def _note(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _known(target: Path, url: str) -> PartialDownload | None:
    """What was noted about the bytes in `target`, where they belong to this url."""
    try:
        part = PartialDownload(**json.loads(_note(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return part if part.url == url and target.is_file() else None


def _persist(url: str, target: Path, *, progress: Progress | None, policy: RetryPolicy) -> None:
    """Try again while the connection is cut."""
    pause, reason = policy.pause_s, ""
    for attempt in range(policy.tries):
        if attempt:
            time.sleep(pause)
            pause *= 2
        try:
            _attempt(url, target, progress=progress, policy=policy)
            return
        except _Cut as error:
            reason = str(error)
    raise _Refused(f"cut off {policy.tries} times ({reason}); what arrived is kept, run again")


def _attempt(url: str, target: Path, *, progress: Progress | None, policy: RetryPolicy) -> None:
    part = _known(target, url)
    have = target.stat().st_size if part else 0
    if part and part.total is not None and have == part.total:
        return
    headers = {"User-Agent": f"tubelet/{__version__}", "Accept-Encoding": "identity"}
    if part and have and part.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": part.validator}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=policy.timeout_s) as response:
            _receive(response, url, target, have=have, progress=progress, policy=policy)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            discard(target)
            raise _Cut("the server has another file now") from None
        kind = _Cut if error.code in TRANSIENT else _Refused
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        kind = _Cut if isinstance(error.reason, CUT) else _Refused
        raise kind(f"no connection ({error.reason})") from None
    except CUT as error:
        raise _Cut(f"{type(error).__name__}: {error}") from None


def _receive(
    response: Any,
    url: str,
    target: Path,
    *,
    have: int,
    progress: Progress | None,
    policy: RetryPolicy,
) -> None:
    """Write the body behind the `have` bytes that are there, or anew."""
    resumed = response.status == 206 and _range_start(response) == have > 0
    start = have if resumed else 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdecimal() else None
    if total is not None and total > policy.limit_bytes:
        raise _Refused(f"{total} bytes, more than the limit of {policy.limit_bytes}")
    if response.headers.get_content_type() == "text/html":
        discard(target)
        raise _Refused("a web page (HTML) instead of the file; the link has moved or is refused")
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if validator and validator.startswith("W/"):
        validator = response.headers.get("Last-Modified")
    note = json.dumps(asdict(PartialDownload(url, total, validator)))
    with target.open("ab" if resumed else "wb") as file:
        _note(target).write_text(note, encoding="utf-8")
        while chunk := response.read(CHUNK):
            file.write(chunk)
            start += len(chunk)
            if start > policy.limit_bytes:
                raise _Refused(f"more than the limit of {policy.limit_bytes} bytes")
            if progress:
                progress(start, total)
    if total is not None and start < total:
        raise _Cut(f"{start} of {total} bytes")
    _note(target).write_text(
        json.dumps(asdict(PartialDownload(url, start, validator))), encoding="utf-8"
    )


def _range_start(response: Any) -> int | None:
    """First byte of a partial answer."""
    words = (response.headers.get("Content-Range") or "").removeprefix("bytes ")
    with contextlib.suppress(ValueError):
        return int(words.partition("-")[0])
    return None
