"""A process of a run, as its parent sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from tubelet.inputs import Input
from tubelet.machine.heartbeat import Sign, read_sign


@dataclass(eq=False)
class ChildProcess:
    """cells: its pulse. device: where its models run; None for where they are. busy: videos it was
    given and has not reported. begun: the one it looked at last. greeted: it has spoken once.
    sign: what the cells said when they were looked at, and silent_s for how long since.
    """

    process: BaseProcess
    pipe: Connection
    cells: Any
    device: str | None = None
    busy: dict[str, Input] = field(default_factory=dict[str, Input])
    begun: str = ""
    greeted: bool = False
    ended: bool = False
    sign: Sign | None = None
    silent_s: float = 0.0

    def is_silent(self, elapsed_s: float, limit_s: float) -> bool:
        """After so many seconds: has there been no sign of life for too long?"""
        before, self.sign = self.sign, read_sign(self.cells)
        self.silent_s = self.silent_s + elapsed_s if before == self.sign else 0.0
        return bool(self.limits) and self.silent_s > self.limits * limit_s

    @property
    def limits(self) -> int:
        """How many time limits of silence are one too many; 0: silence is fine."""
        return self.sign.limits if self.sign is not None else 0
