"""Modules that a peer imports and does not need for the networks that are compared."""

from __future__ import annotations

import types
from typing import Any


class Stub(types.ModuleType):
    """A module in which every name exists and nothing works."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
