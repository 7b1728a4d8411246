"""Bind, say where, and serve until told to stop."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import uvicorn

from tubelet.errors import UsageError
from tubelet.serve.app import SiteSettings, create_app
from tubelet.serve.guard import AccessPolicy, is_loopback, own_names

GRACE_S = 2
"""How long open connections (a playing video, a watched upload) are waited for at the end."""


def policy_for(host: str, *, token: str | None, names: tuple[str, ...]) -> AccessPolicy:
    """Who may ask a server bound to `host`. Beyond loopback there is a token in any case."""
    loopback = is_loopback(host)
    if token is None and not loopback:
        token = secrets.token_urlsafe(24)
    if token is not None and len(token) < 8:
        raise UsageError(f"a token of {len(token)} characters; it must have at least 8")
    own = (*own_names(host), *(name.lower() for name in names))
    return AccessPolicy(loopback=loopback, token=token, names=own)


def serve(
    out: Path,
    settings: SiteSettings,
    *,
    host: str,
    port: int,
    token: str | None,
    names: tuple[str, ...],
    ready: Callable[[str], None],
) -> None:
    """Serve OUT until Ctrl-C. ready: is told the address. UsageError where it cannot be bound."""
    policy = policy_for(host, token=token, names=names)
    query = f"?token={policy.token}" if policy.token else ""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    with _bind(host, port) as bound:
        app = create_app(out, replace(settings, policy=policy))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        bound.listen()  # whoever is told the address may ask at once
        try:
            ready(f"http://{shown}:{bound.getsockname()[1]}/{query}")
            uvicorn.Server(config).run(sockets=[bound])
        except KeyboardInterrupt:
            return
        finally:
            app.state.site.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, proto)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise UsageError(
            f"{host}:{port}: {error.strerror or error}; --port 0 takes any free port"
        ) from error
    return found
