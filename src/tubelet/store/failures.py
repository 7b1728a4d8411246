"""OUT/failures.jsonl: one line per input that failed and has not succeeded since.

Several processes may share OUT: every change reads the file anew, under a lock, and replaces it
whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tubelet.errors import StoreError
from tubelet.machine.atomic import atomic_file
from tubelet.machine.locks import locked
from tubelet.store.folder import json_bytes

NAME = "failures.jsonl"
LOCK = ".tubelet/lock"


@dataclass(frozen=True)
class Failure:
    """Why an input gave no features.

    stage: fetch, open, decode, model, store. type: of the exception. frame: index of the last
    frame that was decoded, None where there was none. attempts: how often it was tried.
    unexpected: not an error that tubelet raises on purpose: a bug, or memory ran out.
    """

    id: str
    source: str
    stage: str
    type: str
    message: str
    frame: int | None = None
    attempts: int = 1
    unexpected: bool = False


_known: dict[Path, tuple[tuple[int, int, int], dict[str, dict[str, Any]]]] = {}
"""The file that was read last, with its stamp: it is looked at once per video."""


def _parsed(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("id"), str):
                    found[record["id"]] = record
    return found


class Failures:
    """The failures of one folder."""

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self._lock = out / LOCK

    def line(self, identity: str) -> dict[str, Any] | None:
        """That of one input."""
        return self.read().get(identity)

    def read(self) -> dict[str, dict[str, Any]]:
        """id -> line. Lines that are not ours are left out."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return {}
        # The file is never changed, only replaced: the same one says the same.
        stamp = now.st_ino, now.st_size, now.st_mtime_ns
        known = _known.get(self.path)
        if known is None or known[0] != stamp:
            known = stamp, _parsed(self.path)
            _known.clear()
            _known[self.path] = known
        return dict(known[1])

    def add(self, failure: Failure) -> None:
        """Record a failure; a second one of the same input replaces the first."""

        def change(lines: dict[str, dict[str, Any]]) -> bool:
            before = lines.pop(failure.id, {}).get("attempts", 0)
            lines[failure.id] = {**asdict(failure), "attempts": before + 1}
            return True

        self._change(change)

    def forget(self, identity: str) -> None:
        """This input succeeded."""
        if self.path.exists():
            self._change(lambda lines: lines.pop(identity, None) is not None)

    def finish(self) -> None:
        """A run ends. The file is always as it should be."""

    def _change(self, change: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        try:
            with locked(self._lock):
                lines = self.read()
                _known.clear()
                if not change(lines):
                    return
                if not lines:
                    self.path.unlink(missing_ok=True)
                    return
                with atomic_file(self.path) as file:
                    for record in lines.values():
                        file.write(json_bytes(record) + b"\n")
        except OSError as error:
            raise StoreError(f"{self.path}: cannot write: {error.strerror or error}") from error
