"""What the page asks about rows: details of a video, nearest moments, two videos, the map.

Two folders are one library: the run's and that of this session's uploads. Their rows have the
same recipe, so their cosines mean the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, TubeletError, UsageError, WeightsError
from tubelet.rows.collection import Collection, load_collection
from tubelet.rows.scores import Scores, scores_of
from tubelet.rows.search import Hit, Searcher, searcher_for
from tubelet.rows.similarity import boundaries, flat, normalise, novelty
from tubelet.serve.catalog import Catalog, CatalogEntry, Missing
from tubelet.types import Features

FIRST_S = 20.0
"""How long a question waits for rows that are read for the first time."""
AGAIN_S = 5.0
"""New videos become searchable after this time, or ten times what reading all rows took."""
TOP_CLASSES = 5


class NotYet(TubeletError):
    """The rows are still being read."""


class FolderSearch:
    """The searcher of one folder, renewed in the background when videos have come or gone."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._searcher: Searcher | None = None
        self._problem: str | None = None
        self._version = -1
        self._next = 0.0

    def searcher(self) -> Searcher:
        """NotYet while they are read for the first time; StoreError where they cannot be."""
        self.renew()
        if not self._ready.wait(FIRST_S):
            raise NotYet("the rows are being read for the first time; ask again in a moment")
        if self._searcher is None:
            raise StoreError(self._problem or "no rows can be read")
        return self._searcher

    def renew(self, *, now: bool = False) -> None:
        self._catalog.refresh()
        with self._lock:
            due = now or time.monotonic() >= self._next
            busy = self._thread is not None and self._thread.is_alive()
            if self._version != self._catalog.version and due and not busy:
                self._version = self._catalog.version
                self._thread = threading.Thread(target=self._load, daemon=True)
                self._thread.start()
            thread = self._thread
        if now and thread is not None:
            thread.join(FIRST_S)

    def _load(self) -> None:
        began = time.monotonic()
        try:
            self._searcher = searcher_for(load_collection(self._catalog.path))
        except (TubeletError, OSError, ValueError) as error:
            self._problem = str(error)
        finally:
            self._next = time.monotonic() + max(AGAIN_S, 10 * (time.monotonic() - began))
            self._ready.set()


@dataclass(frozen=True)
class MomentQuery:
    """A moment or a span of a video: rows [a, b), their mean as they are stored (not of their
    directions), and the seconds they cover."""

    folder_index: int
    entry: CatalogEntry
    features: Features
    rows: range
    mean: NDArray[np.float32]

    @property
    def start_s(self) -> float:
        return float(self.features.start_s[self.rows.start])

    @property
    def end_s(self) -> float:
        return float(self.features.end_s[self.rows.stop - 1])


class Library:
    """catalogs: the catalogs, the run's own first."""

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        self.catalogs = list(catalogs)
        self.rows = [FolderSearch(catalog) for catalog in self.catalogs]
        self.last_map: tuple[tuple[str, ...], dict[str, Any]] | None = None

    def entries(self) -> list[CatalogEntry]:
        return [entry for catalog in self.catalogs for entry in catalog.entries()]

    def find(self, key: str) -> tuple[int, CatalogEntry]:
        """(folder_index, video). Missing for a key that no video has."""
        for folder_index, catalog in enumerate(self.catalogs[:-1]):
            with suppress(Missing):
                return folder_index, catalog.find(key)
        return len(self.catalogs) - 1, self.catalogs[-1].find(key)

    def features(self, folder_index: int, entry: CatalogEntry) -> Features:
        if entry.state == "failed":
            raise UsageError(f"{entry.name} has no rows: it failed")
        return self.catalogs[folder_index].features(entry)

    @cached_property
    def _scores(self) -> tuple[Scores | None, str]:
        folder = self.catalogs[0].folder
        if folder is None:
            return None, "no recipe"
        try:
            scores = scores_of(dict(folder.record.get("recipe") or {}))
        except (WeightsError, KeyError, TypeError) as error:
            return None, str(error)
        return scores, scores.how

    @property
    def has_stored_scores(self) -> bool:
        """Whether scores cost no pass of a classifier."""
        folder = self.catalogs[0].folder
        return folder is not None and bool((folder.record.get("recipe") or {}).get("logits"))

    def classes(self, features: Features) -> tuple[NDArray[np.float32] | None, str]:
        """[N, classes] scores, or None and why."""
        scores, how = self._scores
        if scores is None:
            return None, how
        try:
            return scores(features), how
        except WeightsError as error:
            return None, str(error)

    def class_name(self, index: int) -> str:
        scores, _ = self._scores
        return scores.name(index) if scores else f"class {index}"

    def timeline(self, features: Features) -> dict[str, Any]:
        """What lies under the player: times, classes, novelty and boundaries per row."""
        unit, norms = normalise(features.values)
        curve = novelty(unit)
        scores, how = self.classes(features)
        found: dict[str, Any] = {
            "start_s": _round(features.start_s, 4),
            "end_s": _round(features.end_s, 4),
            "center_s": _round(features.center_s, 4),
            "padded": list(features.provenance.get("padded") or []),
            "norms": _round(norms, 3),
            "novelty": _round(curve, 4),
            "boundaries": boundaries(curve),
            "classes_from": how,
            "top": None,
            "names": {},
        }
        if scores is not None and len(scores):
            order = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_CLASSES]
            values = np.take_along_axis(scores, order, axis=1)
            found["top"] = {"index": order.tolist(), "score": _round(values, 4)}
            found["names"] = {int(i): self.class_name(int(i)) for i in np.unique(order)}
        return found

    def query(self, key: str, *, row: int | None, span: tuple[float, float] | None) -> MomentQuery:
        """A row of a video, or the rows whose centres lie in a span (the nearest if none does)."""
        folder_index, entry = self.find(key)
        features = self.features(folder_index, entry)
        n = len(features.values)
        if not n:
            raise UsageError(f"{entry.name} has no rows")
        if span is not None:
            if not span[0] < span[1]:
                raise UsageError(f"a span of {span[0]:g} to {span[1]:g} s: it must end later")
            rows = features.rows_between(*span)
            first = int(rows[0]) if len(rows) else features.at(sum(span) / 2)
            chosen = range(first, int(rows[-1]) + 1 if len(rows) else first + 1)
        elif row is not None and 0 <= row < n:
            chosen = range(row, row + 1)
        else:
            raise UsageError(f"row {row} of {entry.name}: it has rows 0 to {n - 1}")
        mean = flat(features.values[chosen.start : chosen.stop]).mean(axis=0)
        return MomentQuery(folder_index, entry, features, chosen, mean)

    def mean(self, key: str, start: int, stop: int) -> NDArray[np.float32]:
        """[D]: the mean of rows [start, stop) as they are stored."""
        folder_index, entry = self.find(key)
        values = self.features(folder_index, entry).values
        if not 0 <= start < stop <= len(values):
            raise UsageError(f"rows {start} to {stop} of {entry.name}: it has {len(values)}")
        return flat(values[start:stop]).mean(axis=0)

    def describe(self, query: MomentQuery) -> dict[str, Any]:
        """The mean feature of a query and what it says."""
        unit, _ = normalise(query.features.values[query.rows.start : query.rows.stop])
        direction, norm = normalise(query.mean[None])
        found: dict[str, Any] = {
            "key": query.entry.key,
            "name": query.entry.name,
            "rows": [query.rows.start, query.rows.stop],
            "start_s": query.start_s,
            "end_s": query.end_s,
            "norm": round(float(norm[0]), 4),
            "agreement": round(float((unit @ direction[0]).mean()), 4),
            "mean": _round(query.mean, 4),
            "classes": [],
        }
        scores, _ = self.classes(query.features)
        if scores is not None:
            share = scores[query.rows.start : query.rows.stop].mean(axis=0)
            best = np.argsort(-share, kind="stable")[:TOP_CLASSES]
            found["classes"] = [[self.class_name(int(i)), round(float(share[i]), 4)] for i in best]
        return found

    def nearest(self, query: MomentQuery, *, top: int) -> dict[str, Any]:
        """The most alike moments of the whole set, best first; none that overlaps the query's."""
        hits: list[tuple[int, Hit]] = []
        rows, engines, took = 0, set[str](), 0.0
        for folder_index, source in enumerate(self.rows):
            searcher = self._searcher(source, needed=folder_index == 0)
            if searcher is None or searcher.collection.width != len(query.mean):
                continue
            exclude = _own(searcher.collection, query) if folder_index == query.folder_index else ()
            found = searcher.nearest(query.mean, top=top, exclude=exclude)
            hits += [(folder_index, hit) for hit in found.hits]
            rows, took = rows + found.rows, took + found.took_s
            engines.add(found.engine)
        hits.sort(key=lambda pair: -pair[1].cosine)
        return {
            "hits": [h for s, hit in hits if (h := self._shown(s, hit)) is not None][:top],
            "engine": " and ".join(sorted(engines)) or "exact",
            "rows": rows,
            "took_ms": round(took * 1000, 2),
        }

    def _searcher(self, rows: FolderSearch, *, needed: bool) -> Searcher | None:
        try:
            return rows.searcher()
        except StoreError:
            if needed and len(self.catalogs) == 1:
                raise
            return None

    def _shown(self, folder_index: int, hit: Hit) -> dict[str, Any] | None:
        entry = self.catalogs[folder_index].by_id(hit.id)
        if entry is None:
            return None
        return {
            "key": entry.key,
            "name": entry.name,
            "row": hit.row,
            "start_s": round(hit.start_s, 4),
            "end_s": round(hit.end_s, 4),
            "center_s": round(hit.center_s, 4),
            "cosine": round(hit.cosine, 4),
        }


def _own(collection: Collection, query: MomentQuery) -> range | tuple[()]:
    """The rows of a collection that overlap a query in time; they are no finds."""
    try:
        own = collection.span(query.entry.id)
    except TubeletError:
        return ()
    start, end = collection.start_s[own], collection.end_s[own]
    near = np.flatnonzero((start < query.end_s - 1e-6) & (end > query.start_s + 1e-6))
    return range(own.start + int(near[0]), own.start + int(near[-1]) + 1) if len(near) else ()


def _round(values: Any, digits: int) -> list[Any]:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def out_name(path: Path) -> str:
    """What to call an output folder."""
    return path.resolve().name or str(path)
