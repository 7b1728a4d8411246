"""What the routes share: one output folder, its settings, and one session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError, VideoError
from tubelet.extraction.recipe import extractor_of
from tubelet.serve.catalog import Catalog, CatalogEntry
from tubelet.serve.guard import AccessPolicy
from tubelet.serve.library import Library
from tubelet.serve.preview import Previews
from tubelet.serve.sources import Sources
from tubelet.serve.uploads import SPACE, Build, Limits, Uploads
from tubelet.store.folder import RECIPE
from tubelet.store.listing import read_folder


@dataclass(frozen=True)
class SiteSettings:
    """roots: folders to look for sources in. session: where uploads go, None for a folder that
    goes with the server. build: a recipe -> its extractor, in the upload's process; None switches
    uploads off. preview_s, preview_room: seconds for one preview, bytes for all."""

    policy: AccessPolicy = field(default_factory=AccessPolicy)
    roots: Sequence[Path] = ()
    follow_links: bool = False
    session: Path | None = None
    build: Build | None = extractor_of
    limits: Limits = field(default_factory=Limits)
    preview_s: float = 600.0
    preview_room: int = 2 << 30


class Site:
    """What the routes share: one output folder and one session. UsageError for a session folder
    of another recipe."""

    def __init__(self, out: Path, settings: SiteSettings) -> None:
        record = read_folder(out).record
        _check_session(settings.session, record)
        self.settings, self.out, self.recipe = settings, out, dict(record.get("recipe") or {})
        self._temporary = settings.session is None
        self.session = settings.session or Path(tempfile.mkdtemp(prefix="tubelet-serve-"))
        self.catalog = Catalog(out)
        self.sources = Sources(settings.roots, follow_links=settings.follow_links)
        (self.session / "previews").mkdir(parents=True, exist_ok=True)
        self.previews = Previews(
            self.session / "previews", limit_s=settings.preview_s, room=settings.preview_room
        )
        self.uploads: Uploads | None = None
        catalogs = [self.catalog]
        if settings.build is not None:
            self.uploads = Uploads(
                self.session, record, settings.build, limits=settings.limits, changed=self._changed
            )
            catalogs.append(Catalog(self.uploads.features, space=SPACE, names=self.uploads.name_of))
        self.library = Library(catalogs)
        self.stopping = False

    def _changed(self) -> None:
        """An upload has its features: the next question should find them."""
        self.library.catalogs[1].refresh(now=True)
        self.library.rows[1].renew(now=True)

    def close(self) -> None:
        """End what runs and remove a temporary session. A second call does nothing."""
        if self.stopping:
            return
        self.stopping = True
        if self.uploads is not None:
            self.uploads.close()
        self.previews.close()
        if self._temporary:
            shutil.rmtree(self.session, ignore_errors=True)

    def record(self, key: str) -> dict[str, Any]:
        folder_index, entry = self.library.find(key)
        if entry.state == "failed":
            failure = self.library.catalogs[folder_index].failure(entry) or {}
            raise VideoError(f"{entry.name} failed: {failure.get('message')}")
        return self.library.catalogs[folder_index].record(entry)

    def shown(self, entry: CatalogEntry, record: dict[str, Any]) -> dict[str, Any]:
        """A record without our own paths of uploads."""
        if not entry.uploaded or self.uploads is None:
            return record
        clean = self.uploads.without_paths
        return {k: clean(entry.id, v) if isinstance(v, str) else v for k, v in record.items()}

    def media(self, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """How a video can be played: its own file, a preview, or why not."""
        preview = self.previews.get(key)
        try:
            item = self.sources.find(record)
            file, kind = self.sources.open(record)
            file.close()
            found = {"state": "file", "type": kind, "path": item.path}
        except VideoError as error:
            found = {"state": "none", "reason": str(error)}
            try:
                self.sources.find(record)
                found["state"] = "preview"
            except VideoError as why:
                found["reason"] = str(why)
        return {**found, "preview": preview.record() if preview else None}


def _check_session(session: Path | None, record: Mapping[str, Any]) -> None:
    """Uploads of another recipe would be searched as if their cosines meant the same."""
    if session is None or not (session / "features" / RECIPE).exists():
        return
    theirs = read_folder(session / "features").recipe_hash
    if theirs != record.get("hash"):
        raise UsageError(
            f"--session {session} holds uploads of the recipe {theirs}, that of OUT is "
            f"{record.get('hash')}; name another folder"
        )
