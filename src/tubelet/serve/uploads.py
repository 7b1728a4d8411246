"""Videos that somebody brings: received, checked, extracted with the run's own recipe.

    body ──▶ SESSION/videos/upload-001 ──▶ a process of its own: decode, model ──▶ SESSION/features
             limited in size, type by content     limited in time, can be stopped

SESSION/features is an ordinary output folder of the same recipe; OUT is never written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tubelet.errors import TubeletError
from tubelet.inputs import Input
from tubelet.run.job import Job, Outcome
from tubelet.serve.catalog import Missing, key_of
from tubelet.serve.reader_process import Child, ChildEnd, ChildFailed, bound
from tubelet.serve.sniff import HEAD, media_type
from tubelet.store.failures import Failure, Failures

if TYPE_CHECKING:
    from tubelet.extraction.extractor import Extractor

Build = Callable[[Mapping[str, Any]], "Extractor"]
"""A recipe -> the extractor that made the run."""

SPACE = "upload"
NAME_CHARS = 200


class Refused(TubeletError):
    """An upload that is not taken. status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Upload:
    """One brought video. state: waiting, loading (the model), extracting, done, failed, stopped.
    done: share, where known. version: counts changes, for who watches."""

    id: str
    name: str
    bytes: int
    state: str = "waiting"
    done: float | None = None
    rows: int = 0
    message: str = ""
    version: int = 0
    stop: bool = field(default=False, repr=False)

    @property
    def key(self) -> str:
        return key_of(self.id, SPACE)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "stopped")

    def record(self) -> dict[str, Any]:
        names = ("name", "bytes", "state", "done", "rows", "message", "key")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Limits:
    """upload: bytes of one video. session: bytes of all of them. time_s: of one extraction."""

    upload: int = 2 << 30
    session: int = 20 << 30
    time_s: float = 3600.0


class Uploads:
    """The uploads of a session, extracted one after the other by one process."""

    def __init__(
        self,
        session: Path,
        record: Mapping[str, Any],
        build: Build,
        *,
        limits: Limits,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.videos, self.features = session / "videos", session / "features"
        self.videos.mkdir(parents=True, exist_ok=True)
        self.limits = limits
        self._changed = changed
        self._child = Child(extraction_main, build, record["recipe"], record["hash"])
        self._format = str(record.get("format", "npy"))
        self._known: dict[str, Upload] = {}
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Upload | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._count = self._last_number()

    def _last_number(self) -> int:
        """Of a session folder that is used again."""
        numbers = [p.name.removeprefix("upload-") for p in self.videos.glob("upload-*")]
        return max((int(n) for n in numbers if n.isdecimal()), default=0)

    def all(self) -> list[Upload]:
        with self._lock:
            return list(self._known.values())

    def find(self, key: str) -> Upload:
        """Missing for a key that no upload has."""
        for upload in self.all():
            if upload.key == key:
                return upload
        raise Missing("no such upload")

    def name_of(self, identity: str) -> str:
        with self._lock:
            upload = self._known.get(identity)
        return upload.name if upload else identity

    def without_paths(self, identity: str, text: str) -> str:
        """A text in which our own path of an upload is the name that it was brought by."""
        return text.replace(str(self.videos / identity), self.name_of(identity))

    async def receive(self, name: str, length: int | None, body: AsyncIterator[bytes]) -> Upload:
        """Store a body and queue its extraction. Refused for what is too large or no video."""
        most = self._room()
        if length is not None and length > most:
            raise self._too_large(length)
        with self._lock:
            self._count += 1
            identity = f"upload-{self._count:03d}"
        path = self.videos / identity
        try:
            size = await self._store(path, most, body)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        shown = "".join(c if c.isprintable() else "\ufffd" for c in name)[:NAME_CHARS].strip()
        upload = Upload(identity, shown or identity, size)
        with self._lock:
            self._known[identity] = upload
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tubelet-uploads")
                self._thread.start()
        self._queue.put(upload)
        return upload

    def stop(self, upload: Upload) -> None:
        """Stop an extraction, or keep it from starting."""
        upload.stop = True

    def close(self) -> None:
        """Stop everything; nothing runs when this returns."""
        for upload in self.all():
            upload.stop = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        self._child.kill()

    async def _store(self, path: Path, most: int, body: AsyncIterator[bytes]) -> int:
        """Bytes written. The type is decided as soon as enough has come; the rest of what is
        refused for it is still read, so that the browser hears why."""
        size, head, refused = 0, b"", None
        with open(path, "xb") as file:
            async for piece in body:
                size += len(piece)
                if size > most:
                    raise self._too_large(size)
                if len(head) < HEAD:
                    head += piece[: HEAD - len(head)]
                    if len(head) == HEAD and media_type(head) is None:
                        refused = _not_a_video(head)
                if refused is None:
                    file.write(piece)
        if refused is None and media_type(head) is None:
            refused = _not_a_video(head)
        if refused is not None:
            raise refused
        return size

    def _room(self) -> int:
        used = sum(p.stat().st_size for p in self.videos.iterdir() if p.is_file())
        return max(0, min(self.limits.upload, self.limits.session - used))

    def _too_large(self, size: int) -> Refused:
        if self._room() < self.limits.upload and size <= self.limits.upload:
            return Refused(413, f"this session holds {self.limits.session} bytes of videos already")
        return Refused(
            413, f"{size} bytes or more; the limit is {self.limits.upload} (--max-upload raises it)"
        )

    def _work(self) -> None:
        while (upload := self._queue.get()) is not None:
            self._extract(upload)

    def _set(self, upload: Upload, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(upload, name, value)
        upload.version += 1

    def _extract(self, upload: Upload) -> None:
        def heard(news: Any) -> None:
            self._set(upload, **{k: news[k] for k in ("state", "done", "rows") if k in news})

        end: dict[str, Any]
        order = [upload.id, str(self.videos / upload.id), str(self.features), self._format]
        try:
            if upload.stop:
                raise ChildFailed("stopped")
            end = self._child.ask(
                order, limit_s=self.limits.time_s, heard=heard, stopped=lambda: upload.stop
            )
        except ChildFailed as error:
            end = {"state": "stopped" if upload.stop else "failed", "message": str(error)}
            if not upload.stop:
                self._book(upload, error)
        if end["state"] == "done":
            end["done"] = 1.0
        else:
            (self.videos / upload.id).unlink(missing_ok=True)
        # Told only when the folder has been looked at: who hears of it asks for the video.
        message = self.without_paths(upload.id, str(end.get("message", "")))
        state, done = str(end["state"]), end.get("done", upload.done)
        self._changed()
        self._set(upload, message=message, state=state, done=done)

    def _book(self, upload: Upload, error: ChildFailed) -> None:
        """What a killed process could not write itself."""
        failure = Failure(
            upload.id, upload.name, "decode", type(error).__name__, str(error), unexpected=True
        )
        with suppress(TubeletError):
            Failures(self.features).add(failure)


def _not_a_video(head: bytes) -> Refused:
    return Refused(415, f"no video container that is known here (it begins with {head[:12]!r})")


class _OutcomeReporter:
    """A run's reporter that speaks to the parent."""

    def __init__(self, line: ChildEnd) -> None:
        self._line = line
        self._rows, self._told = 0, 0.0
        self.outcome: Outcome | None = None

    def expect(self, videos: int) -> None:
        pass  # it is one

    def advance(self, name: str, rows: int, fraction: float | None) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._told > 0.1:
            self._told = now
            done = None if fraction is None else min(1.0, fraction)
            self._line.news({"state": "extracting", "rows": self._rows, "done": done})

    def done(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def note(self, text: str) -> None:
        pass  # notes are about other runs on the same folder; there are none


def extraction_main(line: ChildEnd, build: Build, recipe: Mapping[str, Any], digest: str) -> None:
    """The child: [id, video, OUT, format] -> {"state", "message", "rows"}. The model is loaded
    with the first order and stays."""
    from tubelet.config import stable_hash
    from tubelet.run.run import run

    bound()
    extractor: Extractor | None = None
    for identity, path, out, fmt in line.orders():
        reporter = _OutcomeReporter(line)
        try:
            if extractor is None:
                line.news({"state": "loading"})
                extractor = build(recipe)
                ours = stable_hash(extractor.recipe())
                if ours != digest:
                    extractor = None
                    raise TubeletError(f"the recipe here is {ours}, that of the rows is {digest}")
            line.news({"state": "extracting", "rows": 0, "done": 0.0})
            run(Job([Input(identity, path)], Path(out), fmt), [extractor], reporter)
            outcome = reporter.outcome
            assert outcome is not None
            state = "failed" if outcome.kind == "failed" else "done"
            line.end({"state": state, "message": outcome.text, "rows": outcome.rows})
        except (TubeletError, OSError, MemoryError) as error:
            text = str(error) or type(error).__name__
            line.end({"state": "failed", "message": text, "rows": 0})
