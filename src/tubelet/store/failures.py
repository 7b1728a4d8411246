"""OUT/failures.jsonl: one line per input that failed and has not succeeded since."""

from __future__ import annotations

import json
from pathlib import Path

from tubelet.errors import TubeletError, VideoError, WeightsError
from tubelet.store.atomic import atomic_file

STAGES = ((VideoError, "decode"), (WeightsError, "weights"))


class Failures:
    """The failures of a folder. Every change rewrites the file atomically."""

    def __init__(self, out: Path) -> None:
        self.path = out / "failures.jsonl"
        self._lines: dict[str, dict[str, str]] = {}
        if self.path.exists():
            for line in self.path.read_text("utf-8", "surrogateescape").splitlines():
                record = json.loads(line)
                self._lines[record["id"]] = record

    def add(self, identity: str, source: str, error: TubeletError) -> None:
        stage = next((name for kind, name in STAGES if isinstance(error, kind)), "model")
        self._lines[identity] = {
            "id": identity,
            "source": source,
            "stage": stage,
            "type": type(error).__name__,
            "message": str(error),
        }
        self._save()

    def forget(self, identity: str) -> None:
        """This input succeeded."""
        if self._lines.pop(identity, None) is not None:
            self._save()

    def ids(self) -> list[str]:
        return list(self._lines)

    def _save(self) -> None:
        if not self._lines:
            self.path.unlink(missing_ok=True)
            return
        with atomic_file(self.path) as file:
            for record in self._lines.values():
                line = json.dumps(record, ensure_ascii=False)
                file.write(line.encode("utf-8", "surrogateescape") + b"\n")
