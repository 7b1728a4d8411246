"""Who may ask, and what every answer carries.

Host            a page of another site cannot reach us under its own name (DNS rebinding)
Sec-Fetch-Site  nor load or embed anything of ours; a plain link to the start page is fine
Origin, X-Tubelet   nor make us do anything: a form cannot set headers
token           needed unless bound to loopback; a cookie keeps it after the first visit
CSP             the page runs its own files and nothing else
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-tubelet"
"""Every request that changes something carries it, with any value."""

CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOOPBACK_NAMES = ("localhost",)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@]+)(?::(\d{1,5}))?")

WELCOME = (
    "<!doctype html><html lang=en><meta charset=utf-8>"
    "<meta http-equiv=refresh content='0;url=/'><title>tubelet</title>"
    "<link rel=icon href='/static/icon.svg'>"
    "<p><a href='/'>Continue</a>"
)
"""Not a redirect: after one, a browser that came from another site would hold the cookie back."""


@dataclass(frozen=True)
class AccessPolicy:
    """loopback: bound where only this machine can ask. token: None where none is needed.
    names: host names, beside IP addresses, under which we may be asked."""

    loopback: bool = True
    token: str | None = None
    names: Sequence[str] = ()

    @property
    def session(self) -> str:
        """What the cookie holds: not the token itself."""
        assert self.token is not None
        return hmac.new(self.token.encode(), b"tubelet session", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def own_names(host: str) -> tuple[str, ...]:
    """Host names under which a server bound to `host` expects to be asked."""
    names = {*LOOPBACK_NAMES, host.lower()}
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return tuple(sorted(names))


class Guard:
    """The middleware around everything, static files included."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self.app, self.policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self.app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered, or the page that stores a token; None to go on."""
        if "\0" in scope["path"]:
            return _no(400, "no path holds a zero byte")
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._host_is_ours(host):
            return _no(
                421,
                f"asked as host {host!r}, which is not this server; "
                "allow a further name with --allow-host",
            )
        if self._is_cross_site(scope, headers, host):
            return _no(403, "requests of other sites are not answered")
        if scope["method"] not in SAFE_METHODS and HEADER not in headers:
            return _no(403, f"a request that changes something needs the header {HEADER}")
        return self._identify(scope, headers) if self.policy.token is not None else None

    def _host_is_ours(self, value: str) -> bool:
        match = _HOST.fullmatch(value)
        if match is None:
            return False
        name = match[1].lower().removesuffix(".")
        try:
            # A page can be bound to a name that changes its address, never to an address.
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self.policy.names
        return address.is_loopback or not self.policy.loopback

    def _is_cross_site(self, scope: Scope, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return True
        site = headers.get("sec-fetch-site", "none")
        if site in ("same-origin", "none"):
            return False
        link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        document = headers.get("sec-fetch-dest") == "document"
        return not (link and document and scope["path"] == "/")

    def _identify(self, scope: Scope, headers: Headers) -> Response | None:
        policy = self.policy
        assert policy.token is not None
        name = f"tubelet-{(scope.get('server') or ('', 0))[1]}"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] == "GET" and _same(given, policy.token):
            answer = HTMLResponse(WELCOME)
            answer.set_cookie(name, policy.session, httponly=True, samesite="strict")
            return answer
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(bearer, policy.token):
            return None
        if _same(_cookie(headers, name), policy.session):
            return None
        return _no(401, "open the address with ?token=... that `tubelet serve` printed")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _no(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status)
