"""Models that decoders share: the parent passes requests on to whichever model process is free.

    decoder ── rows ──▶ queue ──▶ model process with the least to do ── values ──▶ the decoder

A decoder asks for one batch of windows at a time and waits for it, so the queue is never longer
than there are decoders. A model process that dies or hangs is replaced; the request that it had is
tried again, at most ATTEMPTS times, the frames still lie on the decoder's buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tubelet.errors import TubeletError
from tubelet.run.processes.child_process import ChildProcess
from tubelet.run.processes.start import ending

ATTEMPTS = 3
"""How often something is tried whose process died."""

AT_HAND = 2
"""Requests of a model process: the one that it computes, and the next."""


class WorkerDied(TubeletError):
    """The process that had it died, more than once."""


class TimeLimit(TubeletError):
    """Nothing came for too long."""


@dataclass(eq=False)
class Request:
    """seat: the decoder that asks. life: which of the processes that sat there. work: what the
    model process is sent."""

    seat: int
    life: int
    work: Any
    tried: int = 0


@dataclass(eq=False)
class _ModelProcess:
    """A model process and its requests, the one that it computes first."""

    child: ChildProcess
    requests: deque[Request] = field(default_factory=deque[Request])
    last_seat: int = -1


Answer = Callable[[Request, str, Any], None]
"""Tell the decoder: ("made", rows) or ("error", exception)."""


class ModelPool:
    """The model processes of a run, as their parent sees them."""

    def __init__(
        self,
        start: Callable[[str | None], ChildProcess],
        devices: Sequence[str | None],
        answer: Answer,
    ) -> None:
        self._start_child, self._answer = start, answer
        self._processes = [_ModelProcess(start(device)) for device in devices]
        self._queue: deque[Request] = deque()
        self.broken: str | None = None

    def pipes(self) -> list[Any]:
        return [process.child.pipe for process in self._processes]

    def processes(self) -> list[ChildProcess]:
        return [process.child for process in self._processes]

    def ask(self, request: Request) -> None:
        """A decoder wants rows."""
        self._queue.append(request)
        self._deal()

    def forget(self, seat: int) -> None:
        """That decoder is gone; what is computed for it already is thrown away when it comes."""
        self._queue = deque(request for request in self._queue if request.seat != seat)
        for request in [
            r for process in self._processes for r in process.requests if r.seat == seat
        ]:
            request.tried = ATTEMPTS

    def hear(self, pipe: Any) -> None:
        """A model process has said something, or is dead."""
        process = next(process for process in self._processes if process.child.pipe is pipe)
        try:
            what, value = pipe.recv()
        except (EOFError, OSError):
            self._lost(process)
            return
        process.child.greeted = True
        if what != "ready":
            self._answer(process.requests.popleft(), what, value)
        self._deal()

    def watch(self, elapsed_s: float, limit_s: float) -> None:
        """End the model processes that give no row for the time limit."""
        for process in list(self._processes):
            if process.child.is_silent(elapsed_s, limit_s):
                process.child.process.kill()
                self._lost(process, silent_s=limit_s * process.child.limits)

    def _deal(self) -> None:
        """To the one with the least to do; between equals, to the one that had this decoder's last
        request, since it may know most of the frames."""
        while self._queue:
            seat = self._queue[0].seat
            free = [d for d in self._processes if len(d.requests) < AT_HAND]
            if not free:
                return
            process = min(free, key=lambda d: (len(d.requests), d.last_seat != seat))
            request = self._queue.popleft()
            try:
                process.child.pipe.send(request.work)
            except OSError:  # it is dead, which its pipe will say
                self._queue.appendleft(request)
                return
            process.requests.append(request)
            process.last_seat = seat

    def _lost(self, process: _ModelProcess, silent_s: float | None = None) -> None:
        child = process.child
        child.ended = True
        child.process.join()
        self._processes.remove(process)
        child.pipe.close()
        if not child.greeted:
            self.broken = f"a model could not start: its process ended with {ending(child.process)}"
            return
        self._queue.extendleft(reversed(list(process.requests)[1:]))
        if process.requests:
            self._again(process.requests[0], ending(child.process), silent_s)
        self._processes.append(_ModelProcess(self._start_child(child.device)))
        self._deal()

    def _again(self, request: Request, how: str, silent_s: float | None) -> None:
        request.tried += 1
        if silent_s is not None:
            text = (
                f"the model gave no row for {silent_s:g} s, so its process was killed; if that is "
                "only slow, allow more with --timeout and run again with --retry-failed"
            )
            self._answer(request, "error", TimeLimit(text))
        elif request.tried < ATTEMPTS:
            self._queue.appendleft(request)
        else:
            text = f"the process of its model ended with {how}; tried {ATTEMPTS} times"
            self._answer(request, "error", WorkerDied(text))
