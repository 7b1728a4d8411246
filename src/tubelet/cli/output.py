"""What verbs print for programs."""

from __future__ import annotations

from typing import Any

import click


def echo_json(value: Any) -> None:
    """A line of JSON on stdout, UTF-8 whatever the names in it: what is none is escaped."""
    from tubelet.store.folder import json_bytes

    click.echo(json_bytes(value))
