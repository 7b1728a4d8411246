"""Is there a Ray at this address? Found out within a time, which `ray.init` does not promise.

Ray's head speaks gRPC, which is HTTP/2: whoever does answers the opening of a connection with a
SETTINGS frame at once (RFC 9113, 3.4), also one of another version of Ray.
"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from tubelet.errors import UsageError

ANSWER_S = 30.0
"""How long a head may take to answer."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The client's opening: a fixed text and an empty SETTINGS frame."""
SETTINGS = 4


def check_answers(address: str, limit_s: float = ANSWER_S) -> None:
    """UsageError where nothing that could be Ray answers. `auto` and `local` are Ray's business."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        if address in ("auto", "local"):
            return
        raise UsageError(f"--ray-address {address}: it must be auto, or HOST:PORT")
    try:
        with socket.create_connection((host, port), timeout=limit_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            connection.sendall(PREFACE)
            said = connection.recv(9)
    except OSError as error:
        why = error.strerror or str(error)
        if isinstance(error, TimeoutError):
            why = f"no answer within {limit_s:g} s"
        raise _nobody(address, why) from error
    if len(said) < 4 or said[3] != SETTINGS:
        raise _nobody(address, "what listens there is no Ray head")


def _nobody(address: str, why: str) -> UsageError:
    return UsageError(
        f"no Ray at {address}: {why}; `ray status --address {address}` on its head says whether it "
        "runs, and without --ray-address Ray is started on this machine"
    )
